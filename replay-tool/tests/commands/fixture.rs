//! A data directory with a small log, and the tool running on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keyledger_engine::domain::key::{CreateKey, EditKey, KeyCommand, Owner, RevocationReason};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::record::Record;
use keyledger_engine::ledger::{self, Aggregate, Ledger, Request, Writer};
use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions, RedbReader};
use keyledger_engine::log::{EventLog, LogReader, merkle};
use keyledger_engine::transparency::note::Signer;
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Description, Name, Note};
use keyledger_engine::value::time::{Clock, Timestamp};
use keyledger_engine::value::token::{Token, TokenPrefix};
use keyledger_engine::vault::{self, Vault};
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::key_list::KeyList;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::replay::Replay;
use keyledger_projections::verification::{MAC_PURPOSE, VerificationIndex};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use serde_json::Value;
use tempfile::TempDir;

/// The first key's name before it is renamed.
pub(crate) const FIRST_NAME: &str = "Production Integration";
/// The time of the first event, in milliseconds. Each command comes one second after the previous one.
pub(crate) const START: i64 = 1_790_000_000_000;

struct SteppingClock(AtomicI64);

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.fetch_add(1_000, Ordering::Relaxed))
    }
}

/// A data directory, deleted when dropped.
pub(crate) struct Data {
    directory: TempDir,
    /// The first key: created at position 2, renamed at 3, revoked at 4, reactivated at 5, rotated at 6.
    pub(crate) key: KeyId,
}

/// A ledger over the log of a [`Data`].
pub(crate) struct Open {
    ledger: Ledger,
    writer: Writer,
    rng: StdRng,
}

impl Open {
    pub(crate) fn execute(&self, command: ledger::Command) -> Aggregate {
        let actor = Actor {
            kind: ActorKind::RootKey,
            id: "rk_00000000000000000000000001".into(),
            ip: Some([192, 0, 2, 7].into()),
            user_agent: None,
        };
        self.ledger.execute_blocking(Request::new(command, actor)).unwrap().aggregate
    }

    pub(crate) fn create_key(&mut self, name: &str) -> KeyId {
        let id = KeyId::generate(Timestamp::from_millis(START), &mut self.rng).unwrap();
        let token = Token::generate(&TokenPrefix::default(), Environment::Production, &mut self.rng).unwrap();
        let create = CreateKey {
            organization_id: acme(),
            api_id: None,
            owner: Owner::in_organization(false),
            user_id: None,
            name: Some(Name::new(name).unwrap()),
            description: None,
            metadata: None,
            environment: Environment::Production,
            scopes: Vec::new(),
            expires_at: None,
            digest: token.digest(),
            hint: token.hint(),
        };
        self.execute(ledger::Command::Key(id, KeyCommand::Create(Box::new(create))));
        id
    }

    pub(crate) fn change(&self, id: KeyId, command: KeyCommand) {
        self.execute(ledger::Command::Key(id, command));
    }

    pub(crate) fn rename(&self, id: KeyId, name: &str) {
        let name = Some(Some(Name::new(name).unwrap()));
        self.change(id, KeyCommand::Edit(Box::new(EditKey { name, ..EditKey::default() })));
    }

    pub(crate) fn close(self) {
        self.writer.stop().unwrap();
    }
}

pub(crate) fn acme() -> OrganizationId {
    "acme".parse().unwrap()
}

pub(crate) fn revoke() -> KeyCommand {
    let note = Some(Note::new("found in a public repository").unwrap());
    KeyCommand::Revoke { reason: RevocationReason::KeyCompromise, note }
}

impl Data {
    /// A directory with the log of one organization and some keys, without projections.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut open = open(directory.path());
        let create = OrganizationCommand::Create {
            name: Some(Name::new("Acme").unwrap()),
            kind: OrganizationKind::Paid,
        };
        open.execute(ledger::Command::Organization(acme(), create));
        let key = open.create_key(FIRST_NAME);
        open.rename(key, "Billing");
        open.change(key, revoke());
        open.change(key, KeyCommand::Reactivate);
        let token = Token::generate(&TokenPrefix::default(), Environment::Production, &mut open.rng).unwrap();
        let (digest, hint) = (token.digest(), token.hint());
        open.change(key, KeyCommand::Rotate { digest, hint, overlap_millis: 3_600_000 });
        for number in 0..20 {
            let other = open.create_key(&format!("Key {number}"));
            // Long texts, so that the rows fill more pages than one read returns.
            let description = Some(Some(Description::new(&"x".repeat(4_000)).unwrap()));
            open.change(other, KeyCommand::Edit(Box::new(EditKey { description, ..EditKey::default() })));
        }
        open.close();
        Self { directory, key }
    }

    /// A directory with projections too, as the service leaves it.
    pub(crate) fn with_projections() -> Self {
        let data = Self::new();
        data.project();
        data
    }

    /// Replays the projections up to the log's head.
    pub(crate) fn project(&self) {
        let reader = self.reader();
        self.replay(KeyList::new().1, &reader);
        self.replay(AuditTrail::new(reader.clone()).1, &reader);
    }

    fn replay<P: Projection>(&self, projection: P, reader: &Arc<RedbReader>) {
        let reader: Arc<dyn LogReader> = reader.clone();
        let mut replay = Replay::open(&self.path("projections"), projection, reader).unwrap();
        replay.catch_up(Position::new(u64::MAX), 7, |_| {}).unwrap();
    }

    /// Saves a snapshot of a verification index whose records `change` altered.
    pub(crate) fn save_snapshot(&self, change: impl Fn(&mut Record)) {
        let reader = self.reader();
        let index = VerificationIndex::new();
        for mut record in reader.read(Position::START, 1_000).unwrap() {
            change(&mut record);
            index.apply(&record).unwrap();
        }
        let before = index.position().entry_index().unwrap();
        let entry = reader.read_entries(Position::new(before), 1).unwrap().remove(0);
        let path = self.path("projections/verification.snapshot");
        index
            .save_snapshot(
                &path,
                reader.source_id(),
                merkle::leaf_hash(&entry),
                &self.signer().mac_key(MAC_PURPOSE),
            )
            .unwrap();
    }

    /// The key that signs the log's checkpoints. It is created when it is asked for.
    pub(crate) fn signer(&self) -> Signer {
        let path = self.path("log-key");
        if !path.exists() {
            let signer = Signer::generate("example.com/log".parse().unwrap(), &mut SysRng).unwrap();
            fs::write(&path, signer.expose().as_bytes()).unwrap();
        }
        Signer::parse(&fs::read_to_string(path).unwrap()).unwrap()
    }

    pub(crate) fn open(&self) -> Open {
        open(self.directory.path())
    }

    pub(crate) fn reader(&self) -> Arc<RedbReader> {
        Arc::new(
            RedbReader::open_read_only(
                &self.path(FILE_NAME),
                RedbOptions::default(),
                Arc::new(Vault::open_read_only(&self.path(vault::FILE_NAME)).unwrap()),
            )
            .unwrap(),
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All files with their bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut directories = vec![self.directory.path().to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    /// A copy of all files as they are now, as a crash at this moment leaves them.
    pub(crate) fn crashed(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, bytes) in self.files() {
            let to = directory.path().join(path.strip_prefix(self.directory.path()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
        Self { directory, key: self.key }
    }

    /// Runs the tool on this directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let directory = self.directory.path().to_str().unwrap();
        let (command, more) = arguments.split_first().unwrap();
        run(&[&[command, "--data", directory], more].concat())
    }
}

fn open(directory: &Path) -> Open {
    let mut rng = StdRng::seed_from_u64(directory.as_os_str().len() as u64);
    let vault = Arc::new(Vault::open(&directory.join(vault::FILE_NAME)).unwrap());
    let log = RedbLog::open(&directory.join(FILE_NAME), RedbOptions::default(), vault, &mut rng).unwrap();
    let head = log.reader().head().unwrap();
    let clock = SteppingClock(AtomicI64::new(START + i64::try_from(head.get()).unwrap() * 1_000));
    let ids = StdRng::seed_from_u64(head.get());
    let mut rng = StdRng::seed_from_u64(head.get() + 1);
    let (ledger, writer) =
        Ledger::start(Box::new(log), Vec::new(), Arc::new(clock), StdRng::from_rng(&mut rng)).unwrap();
    Open { ledger, writer, rng: ids }
}

/// A finished run of the tool.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Checks the exit code, and that standard error has one line exactly if the code is not 0.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stderr.lines().count(), usize::from(code != 0), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the tool.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_replay-tool"))
        .args(arguments)
        .env_remove("KEYLEDGER_DATA")
        .output()
        .unwrap();
    let Output { status, stdout, stderr } = output;
    Ran {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}
