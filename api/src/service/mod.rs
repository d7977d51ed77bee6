//! The service put together: the log with its writer, the projections, and what requests share.

pub(crate) mod data_directory;
pub(crate) mod index_snapshot;
pub(crate) mod log_signer;
pub(crate) mod metrics;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use keyledger_engine::domain::root_key::{RootKey, RootKeyCommand, RootKeyCreated};
use keyledger_engine::ledger::{self, Aggregate, Command, Ledger, Observer, Request, Writer};
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{self, EventLog, LogReader};
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::{KeyId, OrganizationId, RootKeyId, UlidSequence};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use keyledger_engine::value::token::{PresentedToken, Token};
use keyledger_engine::vault::Vault;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::beside_the_log::usage::{self, Address, RunningUsageThread, Usage, UsageObserver};
use keyledger_projections::key_list::KeyList;
use keyledger_projections::stored::runner::{self, ProjectionHandle, RebuildProgress, RunnerThread, Status};
use keyledger_projections::verification::{Verdict, VerificationIndex, VerificationObserver};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use ulid::Ulid;

use self::data_directory::DataDirectory;
use self::log_signer::LogSigner;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::access_token::{self, AccessTokens};
use crate::auth::console_session::ConsoleSessions;
use crate::auth::oidc::{self, OpenIdProvider};
use crate::auth::origin::TrustedProxies;
use crate::auth::session_cookie::SessionCookie;
use crate::auth::signing_keys::{self, SigningKeys};
use crate::jobs::log_verification::LogVerifications;
use crate::jobs::webhooks::{self, Webhooks};
use crate::jobs::witness::{Witness, Witnesses};
use crate::outbound::http_client;
use crate::request::idempotency::Running;
use crate::service::index_snapshot::IndexSnapshot;
use crate::service::metrics::Metrics;

/// Calls that read files at a time; one more is refused.
const READERS_MAX: usize = 256;

/// How the service is to run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// How much of the log's file is kept in memory, in bytes.
    pub log_cache_bytes: usize,
    /// How checkpoints of the log are signed.
    pub log_signer: log_signer::Options,
    /// Who cosigns them.
    pub witnesses: Vec<Witness>,
    /// How access tokens are given.
    pub access_tokens: access_token::Options,
    /// Whom to believe about where a request came from.
    pub trusted_proxies: TrustedProxies,
    /// The OpenID provider whose users may call, if one.
    pub openid_provider: Option<oidc::Options>,
    /// How webhooks are served.
    pub webhooks: webhooks::Options,
}

/// Why the service cannot start; one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StartError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] data_directory::Error),
    /// The log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The keys that sign access tokens.
    #[error(transparent)]
    SigningKeys(#[from] signing_keys::Error),
    /// The key that signs checkpoints, or what it signed.
    #[error(transparent)]
    LogSigner(#[from] log_signer::Error),
    /// The witnesses.
    #[error("witnesses: {0}")]
    Witnesses(#[from] http_client::Error),
    /// The OpenID provider.
    #[error(transparent)]
    OpenIdProvider(#[from] oidc::Error),
    /// A projection.
    #[error(transparent)]
    Projection(#[from] keyledger_projections::stored::store::Error),
    /// An event that does not follow from those before it.
    #[error("{file}: {reason}; run `replay-tool verify`, and restore a backup if it finds damage")]
    Replay {
        /// The log's file.
        file: String,
        /// What does not follow.
        reason: String,
    },
    /// The file of usage.
    #[error(transparent)]
    Usage(#[from] usage::Error),
    /// What webhooks need.
    #[error(transparent)]
    Webhooks(#[from] webhooks::Error),
    /// Nobody would have seen the token.
    #[error("standard output: {0}, so no root key was made; let it be written to, and start again")]
    RootKeyNotShown(#[source] io::Error),
    /// The operating system has no thread left.
    #[error("the operating system gives no thread: {0}; raise its limit")]
    Thread(#[from] io::Error),
    /// A command that the start itself issues.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
    /// The root key given is none.
    #[error(
        "KEYLEDGER_BOOTSTRAP_ROOT_KEY: not a root key; it must have the form klroot_<49 characters> with a right checksum"
    )]
    BootstrapRootKey,
}

/// What all requests share.
pub(crate) struct Service {
    /// Takes commands.
    pub ledger: Ledger,
    /// Verifies, authenticates, and knows organizations, APIs and root keys.
    pub index: Arc<VerificationIndex>,
    /// Gives access tokens and checks them.
    pub access_tokens: AccessTokens,
    /// The cookie of portal sessions.
    pub session_cookie: SessionCookie,
    /// Who is signed in to the console by other ways than the portal.
    pub console_sessions: ConsoleSessions,
    /// Whom to believe about where a request came from.
    pub trusted_proxies: TrustedProxies,
    /// The OpenID provider whose users may call, if one.
    pub openid_provider: Option<OpenIdProvider>,
    /// Lists keys.
    pub key_list: KeyList,
    /// How often keys are verified.
    pub usage: Arc<Usage>,
    /// Pushes events to receivers outside.
    pub webhooks: Webhooks,
    /// Finds events.
    pub audit_trail: AuditTrail,
    /// How far the key list is.
    pub key_list_handle: ProjectionHandle,
    /// How far the audit trail is.
    pub audit_trail_handle: ProjectionHandle,
    /// Signs checkpoints of the log.
    pub log_signer: Arc<LogSigner>,
    /// Those who vouch that there is but one log.
    pub witnesses: Witnesses,
    /// Verifications of the log.
    pub log_verifications: LogVerifications,
    /// Commands with an idempotency key that run now.
    pub running: Running,
    /// What is counted.
    pub metrics: Metrics,
    /// The index on disk.
    pub index_snapshot: IndexSnapshot,
    clock: Arc<dyn Clock>,
    ids: Mutex<UlidSequence>,
    readers: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

/// What has to be ended when the service stops.
pub(crate) struct Threads {
    writer: Writer,
    runners: Vec<RunnerThread>,
    usage: RunningUsageThread,
}

/// How one projection is doing.
pub(crate) struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// How far it is.
    pub position: Position,
    /// Whether it has caught up.
    pub live: bool,
    /// Why it has stopped, if it has.
    pub poisoned: Option<String>,
    /// How far its rows are that are being made anew, if they are.
    pub rebuild: Option<RebuildProgress>,
    /// How often it was made anew since the start, and how often that failed.
    pub rebuilds: (u64, u64),
}

impl ProjectionStatus {
    /// How a stored projection is doing.
    #[must_use]
    pub(crate) fn of(handle: &ProjectionHandle) -> Self {
        let status = handle.status();
        let position = match status {
            Status::CatchingUp { position, .. } => position,
            _ => handle.position(),
        };
        let live = matches!(status, Status::Live);
        let poisoned = match status {
            Status::Poisoned { position, reason } => Some(format!("at position {position}: {reason}")),
            Status::Failed { position, reason } => Some(format!("after position {position}: {reason}")),
            _ => None,
        };
        let (rebuild, rebuilds) = (handle.rebuild_progress(), handle.rebuild_counts());
        Self { name: handle.name(), position, live, poisoned, rebuild, rebuilds }
    }
}

impl Service {
    /// Opens the log, brings the projections up to it, and starts the writer.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn start(options: &Options) -> Result<(Arc<Self>, Threads), StartError> {
        let data = DataDirectory::open(&options.data)?;
        LogSigner::require_key(&data, &options.log_signer)?;
        let openid_provider = options.openid_provider.clone().map(OpenIdProvider::new).transpose()?;
        let signing_keys = SigningKeys::open(data.signing_keys())?;
        let log_options = RedbOptions { cache_bytes: options.log_cache_bytes, ..RedbOptions::default() };
        let is_vault_missing = data.log().exists() && !data.vault().exists();
        let vault = Arc::new(Vault::open(&data.vault()).map_err(log::Error::from)?);
        let log = RedbLog::open(&data.log(), log_options, vault, &mut SysRng)?;
        if is_vault_missing {
            let file = data.vault();
            tracing::warn!(file = %file.display(), "it is missing: personal text that was sealed reads as erased");
        }
        let (reader, redb_reader) = (log.reader(), log.redb_reader());
        let log_signer = Arc::new(LogSigner::open(&data, &options.log_signer, reader.log_id())?);
        let (index_snapshot, index) = IndexSnapshot::restore(&data, Arc::clone(&reader))?;
        let index = Arc::new(index);
        let seed: [u8; 32] = seed()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (usage, usage_thread) = Usage::open(&data.usage(), clock.now(), || index.living_keys())?;
        let webhooks = Webhooks::open(&data, &options.webhooks, reader.as_ref(), &index)?;
        let observers: Vec<Box<dyn Observer>> = vec![
            Box::new(VerificationObserver(Arc::clone(&index))),
            Box::new(UsageObserver(Arc::clone(&usage))),
        ];
        let (ledger, writer) =
            Ledger::start(Box::new(log), observers, Arc::clone(&clock), StdRng::from_seed(seed))?;
        let directory = data.projections();
        let (key_list, key_list_projection) = KeyList::new();
        let (key_list_handle, key_list_thread) =
            runner::start(&directory, key_list_projection, Arc::clone(&reader), Some(ledger.watch_head()))?;
        let (audit_trail, audit_trail_projection) = AuditTrail::new(Arc::clone(&reader));
        let (audit_trail_handle, audit_trail_thread) = runner::start(
            &directory,
            audit_trail_projection,
            Arc::clone(&reader),
            Some(ledger.watch_head()),
        )?;
        let usage_thread = usage_thread.start(Arc::clone(&clock))?;
        let service = Arc::new(Self {
            ledger,
            index,
            access_tokens: AccessTokens::new(signing_keys, options.access_tokens.clone()),
            key_list: key_list.with_usage(Arc::clone(&usage)),
            usage,
            session_cookie: SessionCookie::of(&options.access_tokens.public_url),
            console_sessions: ConsoleSessions::default(),
            trusted_proxies: options.trusted_proxies.clone(),
            openid_provider,
            webhooks,
            audit_trail,
            key_list_handle,
            audit_trail_handle,
            log_verifications: LogVerifications::new(
                redb_reader,
                data.checkpoints(),
                log_signer.verifier().clone(),
            ),
            log_signer,
            witnesses: Witnesses::new(options.witnesses.clone())?,
            running: Running::default(),
            metrics: Metrics::default(),
            index_snapshot,
            clock,
            ids: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            stopping: watch::Sender::new(false),
        });
        let runners = vec![key_list_thread, audit_trail_thread];
        Ok((service, Threads { writer, runners, usage: usage_thread }))
    }

    /// The time by which requests are judged.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Takes note of a verification: of every one that is answered, once.
    pub(crate) fn verified(&self, verdict: &Verdict<'_>, now: Timestamp, from: Address) {
        self.metrics.verified(verdict.code);
        self.usage.record(verdict, now, from);
    }

    /// When a key was last verified.
    ///
    /// # Errors
    /// `overloaded`, as [`Service::blocking`] says.
    pub(crate) async fn last_verified(self: &Arc<Self>, id: KeyId) -> Result<Option<Timestamp>, Problem> {
        let (usage, now) = (Arc::clone(&self.usage), self.now());
        // What the keys of a busy second add up to takes some milliseconds to gather.
        self.blocking(move || usage.last_verified(id, now)).await
    }

    /// A new id, greater than all that were drawn before. Ids are no secrets: a generator that the operating system's
    /// randomness seeds now and then is good enough for them.
    pub(crate) fn new_id<I: From<Ulid>>(&self) -> I {
        let now = self.now();
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(id) = ids.draw(now, &mut rand::rng());
        id.into()
    }

    /// The operating system's randomness, for tokens.
    #[must_use]
    pub(crate) const fn randomness(&self) -> SysRng {
        SysRng
    }

    /// Reads from the log on a thread that may block.
    ///
    /// # Errors
    /// `overloaded` when too many calls read, `internal` when the log cannot be read.
    pub(crate) async fn read_log<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&dyn LogReader) -> Result<T, log::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = self.ledger.reader();
        self.blocking(move || read(reader.as_ref())).await?.map_err(Problem::from)
    }

    /// The newest signed checkpoint of the log, and what it says; one over the whole log if `at_once`. Where there are
    /// witnesses it has their cosignatures, but for those that do not answer in time.
    ///
    /// # Errors
    /// `log_inconsistent` when nothing may be signed, `overloaded`, `internal`.
    pub(crate) async fn checkpoint(
        self: &Arc<Self>,
        at_once: bool,
    ) -> Result<(Arc<str>, Checkpoint), Problem> {
        self.witnesses.compare_once(self).await?;
        let (signer, reader, now) = (Arc::clone(&self.log_signer), self.ledger.reader(), self.now());
        let signed = self.blocking(move || signer.checkpoint(reader.as_ref(), now, at_once)).await??;
        Ok(self.witnesses.cosign_last(self).await?.unwrap_or(signed))
    }

    /// Runs what may wait for a disk on a thread that may block.
    ///
    /// # Errors
    /// `overloaded` when too many calls do so already.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit =
            Arc::clone(&self.readers).try_acquire_owned().map_err(|_| Problem::of(Code::Overloaded))?;
        run_blocking(permit, work).await
    }

    /// The same for work that can wait until others have done theirs.
    ///
    /// # Errors
    /// `internal` when it did not come to its end.
    pub(crate) async fn blocking_when_free<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        run_blocking(permit.map_err(|error| Problem::internal(&error))?, work).await
    }

    /// Rids files of what an erasure in the log has made unreadable. When this returns, no answer and no file of the data
    /// directory has it; what a crash leaves of that is done at the next start.
    ///
    /// # Errors
    /// `internal` when a file cannot be removed or made anew, `overloaded`.
    pub(crate) async fn forget_erased(self: &Arc<Self>) -> Result<(), Problem> {
        let this = Arc::clone(self);
        let removed = self.blocking(move || this.index_snapshot.remove()).await?;
        removed.map_err(|error| Problem::internal(&error))?;
        let rebuilds = self.stored_projections().map(ProjectionHandle::rebuild);
        for rebuilt in rebuilds {
            let rebuilt = rebuilt.await.map_err(|error| Problem::internal(&error))?;
            rebuilt.map_err(|error| Problem::internal(&error))?;
        }
        Ok(())
    }

    /// Reads again what may be changed beside the service while it runs.
    pub(crate) fn reload(&self) {
        match self.access_tokens.reload() {
            Ok(()) => tracing::info!("read the signing keys again"),
            Err(error) => tracing::warn!(%error, "the signing keys stay as they were"),
        }
    }

    /// Tells streams to end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the service is stopping.
    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the service is told to stop.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender is this service's own, so waiting cannot fail.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// How each projection is doing.
    #[must_use]
    pub(crate) fn projection_statuses(&self) -> Vec<ProjectionStatus> {
        let index = ProjectionStatus {
            name: "verification-index",
            position: self.index.position(),
            live: true,
            poisoned: self.index.poisoned(),
            rebuild: None,
            rebuilds: (0, 0),
        };
        let stored = self.stored_projections().map(ProjectionStatus::of);
        std::iter::once(index).chain(stored).collect()
    }

    /// The projections that are kept in files.
    #[must_use]
    pub(crate) fn stored_projections(&self) -> [&ProjectionHandle; 2] {
        [&self.key_list_handle, &self.audit_trail_handle]
    }

    /// Makes sure that there is a root key. At the first start it takes the one given, or makes one, whose token it has
    /// shown.
    ///
    /// # Errors
    /// When the one given is no root key, the token could not be shown, or the log does not take it.
    pub(crate) fn ensure_root_key(
        &self,
        given: Option<&str>,
        show: impl FnOnce(&Token) -> io::Result<()>,
    ) -> Result<(), StartError> {
        if self.index.root_key_count() > 0 {
            return Ok(());
        }
        let permissions = vec![Permission::Admin];
        if let Some(given) = given {
            let presented = PresentedToken::parse_root(given).map_err(|_| StartError::BootstrapRootKey)?;
            let facts = RootKeyCreated { digest: presented.digest(), hint: presented.hint(), permissions };
            return self.create_root_key(facts, None, "Bootstrap root key").map(drop);
        }
        self.new_root_key(permissions, None, "First root key", show).map(drop)
    }

    /// Makes a root key on behalf of whoever has the machine. Its token is shown before it is good for anything, so that
    /// there is no key whose token nobody could see.
    ///
    /// # Errors
    /// When the token could not be shown, or the log does not take the key.
    pub(crate) fn new_root_key(
        &self,
        permissions: Vec<Permission>,
        organization_id: Option<OrganizationId>,
        name: &str,
        show: impl FnOnce(&Token) -> io::Result<()>,
    ) -> Result<RootKey, StartError> {
        let token =
            Token::generate_root(&mut SysRng).map_err(|error| StartError::Randomness(error.to_string()))?;
        show(&token).map_err(StartError::RootKeyNotShown)?;
        let facts = RootKeyCreated { digest: token.digest(), hint: token.hint(), permissions };
        self.create_root_key(facts, organization_id, name)
    }

    fn create_root_key(
        &self,
        facts: RootKeyCreated,
        organization_id: Option<OrganizationId>,
        name: &str,
    ) -> Result<RootKey, StartError> {
        let id: RootKeyId = self.new_id();
        let name = Name::new(name).ok();
        let command = Command::RootKey(id, RootKeyCommand::Create { organization_id, name, facts });
        let committed = self.ledger.execute_blocking(Request::new(command, Actor::system()))?;
        match committed.aggregate {
            Aggregate::RootKey(root_key) => Ok(root_key),
            _ => Err(StartError::Ledger(ledger::Error::Stopped)),
        }
    }
}

fn seed() -> Result<[u8; 32], StartError> {
    use rand::TryRng;
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).map_err(|error| StartError::Randomness(error.to_string()))?;
    Ok(seed)
}

impl Threads {
    /// Ends the writer after the commands that wait, saves the projections and closes the files. Blocks.
    ///
    /// # Errors
    /// What ended the writer before, if something did.
    pub(crate) fn stop(self, service: &Service) -> Result<(), log::Error> {
        let ended = self.writer.stop();
        for runner in self.runners {
            runner.stop();
        }
        self.usage.stop();
        service.index_snapshot.save_at_stop(&service.index);
        ended
    }
}

/// Runs work on a thread that may block; others can have the permit when it is done.
async fn run_blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}
