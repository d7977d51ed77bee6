//! Adds a projection of its own to a log: the number of keys per organization.
//!
//! A projection is derived from the log alone. It can therefore be deleted at any time and rebuilt, and a
//! change of its code needs no migration: a new [`Projection::VERSION`] rebuilds the file.
//!
//! Run it with `cargo run -p keyledger-examples --bin add_a_projection`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{CreateKey, KeyCommand, Owner};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::record::Record;
use keyledger_engine::ledger::{Command, Ledger, Request, Writer};
use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::time::{Clock, SystemClock};
use keyledger_engine::value::token::{Token, TokenPrefix};
use keyledger_engine::vault::{self, Vault};
use keyledger_projections::stored::projection::{self, Projection};
use keyledger_projections::stored::runner;
use keyledger_projections::stored::store::{self, Changes, Snapshot};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};

/// The rows that one instance of the projection published last. `None` before the first and after the last.
type Rows = Arc<RwLock<Option<Snapshot>>>;

/// Reads the counts. Cheap to clone.
#[derive(Clone, Default)]
struct KeyCounts {
    /// The rows of the instance that readers see. A rebuild fills a second instance meanwhile.
    seen: Arc<RwLock<Rows>>,
}

impl KeyCounts {
    /// The number of keys of an organization that are not deleted, whatever their state.
    fn get(&self, id: &OrganizationId) -> Result<u64, store::Error> {
        let rows = self.seen.read().unwrap_or_else(PoisonError::into_inner).clone();
        let rows = rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        count(&rows.ok_or(store::Error::NotReady)?, id)
    }
}

/// Fills [`KeyCounts`]: one row per organization, its id with the count as 8 big-endian bytes.
#[derive(Default)]
struct KeyCountsProjection {
    /// Counts that changed since the last commit. Sorted, as rows are written in the order of their keys.
    changed: BTreeMap<OrganizationId, u64>,
    rows: Rows,
    readers: KeyCounts,
}

impl Projection for KeyCountsProjection {
    const NAME: &'static str = "key-counts";
    const VERSION: u32 = 1;

    fn new_instance(&self) -> Self {
        Self { readers: self.readers.clone(), ..Self::default() }
    }

    fn switch_readers(&self) {
        *self.readers.seen.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.rows);
    }

    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        self.publish(rows);
        Ok(())
    }

    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        let Some(id) = &record.organization_id else { return Ok(()) };
        let is_new = match &record.event {
            Event::KeyCreated(..) => true,
            Event::KeyDeleted(..) => false,
            _ => return Ok(()),
        };
        let before = match self.changed.get(id) {
            Some(count) => *count,
            None => count(rows, id)?,
        };
        let after = if is_new { before.checked_add(1) } else { before.checked_sub(1) };
        // The error stops this projection and no other: later counts would be wrong too.
        let after = after.ok_or_else(|| projection::Error::poison(format!("{id} has no key to delete")))?;
        self.changed.insert(id.clone(), after);
        Ok(())
    }

    fn write(&mut self, changes: &mut Changes<'_>) -> Result<(), store::Error> {
        for (id, count) in &self.changed {
            changes.put(id.as_str().as_bytes(), |value| value.extend(count.to_be_bytes()));
        }
        Ok(())
    }

    fn publish(&mut self, rows: Snapshot) {
        self.changed.clear();
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = Some(rows);
    }

    fn discard(&mut self, _rows: &Snapshot) -> Result<(), store::Error> {
        self.changed.clear();
        Ok(())
    }

    fn close(&mut self) {
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn row_name(key: &[u8]) -> String {
        String::from_utf8_lossy(key).into_owned()
    }
}

fn count(rows: &Snapshot, id: &OrganizationId) -> Result<u64, store::Error> {
    match rows.get(id.as_str().as_bytes(), |value| value.try_into().map(u64::from_be_bytes))? {
        None => Ok(0),
        Some(count) => count.map_err(|_| rows.damaged(format!("{id}: not a count"))),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (ledger, writer) = open(directory.path())?;

    // The runner has a thread of its own. It applies new records as they come, commits them in batches and
    // rebuilds the file when it is missing, damaged or of another version.
    let projection = KeyCountsProjection::default();
    let counts = projection.readers.clone();
    let files = directory.path().join("projections");
    let (handle, thread) = runner::start(&files, projection, ledger.reader(), Some(ledger.watch_head()))?;

    for (name, keys) in [("acme", 3), ("globex", 2)] {
        let id: OrganizationId = name.parse()?;
        create_organization(&ledger, &id)?;
        for _ in 0..keys {
            create_key(&ledger, &id)?;
        }
    }

    // A stored projection is a little behind the log. Readers that need their own writes wait for a position.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    if !runtime.block_on(handle.reach(ledger.head())) {
        return Err(format!("the projection has stopped: {:?}", handle.status()).into());
    }
    for name in ["acme", "globex"] {
        println!("{name}: {} keys", counts.get(&name.parse()?)?);
    }

    thread.stop();
    writer.stop()?;
    Ok(())
}

fn open(directory: &Path) -> Result<(Ledger, Writer), Box<dyn Error>> {
    let vault = Arc::new(Vault::open(&directory.join(vault::FILE_NAME))?);
    let log = RedbLog::open(&directory.join(FILE_NAME), RedbOptions::default(), vault, &mut SysRng)?;
    let rng = StdRng::try_from_rng(&mut SysRng)?;
    Ok(Ledger::start(Box::new(log), Vec::new(), Arc::new(SystemClock), rng)?)
}

fn create_organization(ledger: &Ledger, id: &OrganizationId) -> Result<(), Box<dyn Error>> {
    let create = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
    ledger.execute_blocking(Request::new(Command::Organization(id.clone(), create), Actor::system()))?;
    Ok(())
}

fn create_key(ledger: &Ledger, organization_id: &OrganizationId) -> Result<(), Box<dyn Error>> {
    let token = Token::generate(&TokenPrefix::default(), Environment::Production, &mut SysRng)?;
    let create = CreateKey {
        organization_id: organization_id.clone(),
        api_id: None,
        owner: Owner::in_organization(false),
        user_id: None,
        name: None,
        description: None,
        metadata: None,
        environment: Environment::Production,
        scopes: Vec::new(),
        expires_at: None,
        digest: token.digest(),
        hint: token.hint(),
    };
    let id = KeyId::generate(SystemClock.now(), &mut SysRng)?;
    let command = Command::Key(id, KeyCommand::Create(Box::new(create)));
    ledger.execute_blocking(Request::new(command, Actor::system()))?;
    Ok(())
}
