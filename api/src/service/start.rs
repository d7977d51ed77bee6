//! Starting the service: opens the data directory, restores the projections, starts the threads, and creates
//! the first root key.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use keyledger_engine::domain::root_key::{RootKey, RootKeyCommand, RootKeyCreated};
use keyledger_engine::ledger::{self, Aggregate, Command, Ledger, Observer, Request, Writer};
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{self, EventLog, LogReader};
use keyledger_engine::storage::secret_source::Secret;
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::{OrganizationId, RootKeyId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use keyledger_engine::value::token::{PresentedToken, Token};
use keyledger_engine::vault::Vault;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::beside_the_log::last_use::{self, LastUses};
use keyledger_projections::beside_the_log::usage::{self, RunningUsageThread, Usage, UsageObserver};
use keyledger_projections::holdings::{Holdings, HoldingsObserver};
use keyledger_projections::key_list::KeyList;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::runner::{self, ProjectionHandle, RunnerThread};
use keyledger_projections::stored::store;
use keyledger_projections::verification::{MAC_PURPOSE, VerificationObserver};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use tokio::sync::{Semaphore, watch};

use crate::admission::disk_reserve::DiskReserve;
use crate::admission::long_answers::LongAnswers;
use crate::admission::rate_limits::RateLimits;
use crate::auth::access_token::AccessTokens;
use crate::auth::console_session::ConsoleSessions;
use crate::auth::oidc::{self, OpenIdProvider};
use crate::auth::session_cookie::SessionCookie;
use crate::auth::session_use::SessionUse;
use crate::auth::signing_keys::{self, SigningKeys};
use crate::evidence::security_log::SecurityLog;
use crate::http::answer_headers::AnswerHeaders;
use crate::jobs::log_verification::LogVerifications;
use crate::jobs::webhooks::{self, Webhooks};
use crate::jobs::witness::Witnesses;
use crate::outbound::connector::NoTrustRoots;
use crate::request::idempotency::Running;
use crate::service::inconsistency::Inconsistency;
use crate::service::index_snapshot::IndexSnapshot;
use crate::service::log_signer::{self, LogSigner};
use crate::service::metrics::Metrics;
use crate::service::options::Options;
use crate::service::renderers::Renderers;
use crate::service::{READERS_MAX, Service};
use keyledger_engine::kek::Kek;
use keyledger_engine::kek::key_file::KeyFile;
use keyledger_engine::storage::background;
use keyledger_engine::storage::data_directory::{self, DataDirectory, SIGNING_KEYS};
use keyledger_engine::storage::private_files::{self, Narrowed};

/// Why the service cannot start: one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StartError {
    #[error(transparent)]
    Directory(#[from] data_directory::Error),
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    SigningKeys(#[from] signing_keys::Error),
    #[error(transparent)]
    LogSigner(#[from] log_signer::Error),
    #[error("witnesses: {0}")]
    Witnesses(#[from] NoTrustRoots),
    #[error(transparent)]
    OpenIdProvider(#[from] oidc::Error),
    /// The file of the security log cannot be opened.
    #[error("{0}: {1}; --security-log must be stderr or a file that can be written")]
    SecurityLog(String, #[source] io::Error),
    #[error(transparent)]
    Projection(#[from] store::Error),
    /// An event contradicts the events before it.
    #[error("{file}: {reason}; run `replay-tool verify`, and restore a backup if it reports damage")]
    Replay {
        /// The log's file.
        file: String,
        /// The contradiction.
        reason: String,
    },
    #[error(transparent)]
    LastUse(#[from] last_use::Error),
    #[error(transparent)]
    Usage(#[from] usage::Error),
    #[error(transparent)]
    Webhooks(#[from] webhooks::Error),
    #[error(transparent)]
    RootKeyNotShown(#[from] NotShown),
    #[error("could not start a thread: {0}; raise the limit on threads")]
    Thread(#[from] io::Error),
    /// A command that the start itself issues failed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The log is known to be an older copy or altered, and nothing may be appended to it.
    #[error("{0}; --serve-inconsistent-log opens it as it is")]
    Inconsistent(String),
    #[error("the operating system returned no random bytes: {0}")]
    Randomness(String),
    /// The given root key has another form.
    #[error(
        "{0}: not a root key; it must have the form klroot_<49 characters> with a valid checksum. \
         `keyledger root-key generate` prints one"
    )]
    BootstrapRootKey(String),
    /// The given root key was not drawn at random.
    #[error("{0}: easy to guess; use a random root key, such as `keyledger root-key generate` prints")]
    GuessableRootKey(String),
}

/// A token that could not be shown to the operator, so the root key would have been useless.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}, so no root key was created; make it writable and start again")]
pub(crate) struct NotShown {
    /// Where the token was to be shown.
    pub place: String,
    /// The reason.
    pub error: io::Error,
}

/// The threads to end when the service stops.
pub(crate) struct Threads {
    writer: Writer,
    runners: Vec<RunnerThread>,
    usage: RunningUsageThread,
}

impl Threads {
    /// Ends the writer after the queued commands, saves the projections, and closes the files. Blocks.
    ///
    /// # Errors
    /// The error that had ended the writer earlier, if there was one.
    pub(crate) fn stop(self, service: &Service) -> Result<(), log::Error> {
        let ended = self.writer.stop();
        for runner in self.runners {
            runner.stop();
        }
        self.usage.stop();
        if let Err(error) = service.last_uses.save() {
            tracing::error!(%error, "could not save when callers were last used");
        }
        if !service.inconsistency.is_refused() {
            service.index_snapshot.save_at_stop(&service.index);
        }
        ended
    }
}

impl Service {
    /// Opens the log, restores the projections, and starts the threads. `kek` wraps the secret keys in the
    /// data directory.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn start(
        options: &Options,
        kek: Option<Arc<Kek>>,
    ) -> Result<(Arc<Self>, Threads), StartError> {
        let data = DataDirectory::open_or_create(&options.data)?;
        LogSigner::require_key(&data, &options.log_signer)?;
        let openid_provider = options.openid_provider.clone().map(OpenIdProvider::new).transpose()?;
        if let Some(provider) = &options.openid_provider {
            oidc::check_issuer(&data.openid_issuer(), &provider.issuer)?;
        }
        let security_log = SecurityLog::open(&options.security_log)
            .map_err(|error| StartError::SecurityLog(options.security_log.to_string(), error))?;
        let signing_keys = SigningKeys::open(KeyFile::new(data.signing_keys(), SIGNING_KEYS, kek.clone()))?;
        let log = open_log(&data, kek.clone(), options.log_cache_bytes)?;
        let (reader, redb_reader) = (log.reader(), log.redb_reader());
        let inconsistency = Arc::new(Inconsistency::none(data.log(), options.serve_inconsistent_log));
        let log_signer = LogSigner::open(
            &data,
            &options.log_signer,
            kek.clone(),
            reader.log_id(),
            Arc::clone(&inconsistency),
        )?;
        let log_signer = Arc::new(log_signer);
        log_signer.compare(reader.as_ref());
        let mac_key = log_signer.mac_key(MAC_PURPOSE);
        let signed = log_signer.last().map(|(_, checkpoint)| checkpoint);
        let (index_snapshot, index) =
            IndexSnapshot::restore(&data, Arc::clone(&reader), mac_key, signed, &inconsistency)?;
        let index = Arc::new(index);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (usage, usage_thread) = Usage::open(&data.usage(), clock.now(), || index.living_keys())?;
        let webhooks = Webhooks::open(&data, kek, &options.webhooks, reader.as_ref(), &index)?;
        let holdings = Arc::new(Holdings::of(&index, clock.now()));
        count_day(&holdings, &reader, clock.now())?;
        let observers: Vec<Box<dyn Observer>> = vec![
            Box::new(VerificationObserver(Arc::clone(&index))),
            Box::new(UsageObserver(Arc::clone(&usage))),
            Box::new(HoldingsObserver(Arc::clone(&holdings))),
        ];
        let (ledger, writer) =
            Ledger::start(Box::new(log), observers, Arc::clone(&clock), StdRng::from_seed(seed()?))?;
        let (key_list, projection) = KeyList::new();
        let (key_list_handle, key_list_thread) = start_projection(&data, projection, &reader, &ledger)?;
        let (audit_trail, projection) = AuditTrail::new(Arc::clone(&reader));
        let (audit_trail_handle, audit_trail_thread) = start_projection(&data, projection, &reader, &ledger)?;
        let usage_thread = usage_thread.start(Arc::clone(&clock))?;
        let verifier = log_signer.verifier().clone();
        let service = Arc::new(Self {
            ledger,
            index,
            access_tokens: AccessTokens::new(signing_keys, options.access_tokens.clone()),
            key_list: key_list.with_usage(Arc::clone(&usage)),
            usage,
            session_cookie: SessionCookie::of(&options.access_tokens.public_url),
            has_admin_listener: options.has_admin_listener,
            answer_headers: AnswerHeaders::of(&options.access_tokens.public_url, options.is_tls),
            console_sessions: ConsoleSessions::new(options.sessions),
            session_use: SessionUse::new(options.sessions.portal_idle, clock.now()),
            trusted_proxies: options.trusted_proxies.clone(),
            openid_provider: openid_provider.map(Arc::new),
            webhooks,
            audit_trail,
            key_list_handle,
            audit_trail_handle,
            log_verifications: LogVerifications::new(redb_reader, data.clone(), verifier),
            inconsistency,
            log_signer,
            witnesses: Witnesses::new(options.witnesses.clone())?,
            running: Running::default(),
            holdings,
            caps: options.admission.caps.clone(),
            disk_reserve: DiskReserve::of(&options.data, options.admission.disk_reserve),
            forgotten_erasures: AtomicU64::new(0),
            rate_limits: RateLimits::new(options.admission.quotas),
            long_answers: LongAnswers::new(options.admission.long_answers_of_caller),
            renderers: Renderers::start()?,
            security_log,
            last_uses: LastUses::open(&data.last_use())?,
            metrics: Metrics::default(),
            index_snapshot,
            clock,
            ids: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            stopping: watch::Sender::new(false),
        });
        keep_others_out(&data);
        let runners = vec![key_list_thread, audit_trail_thread];
        Ok((service, Threads { writer, runners, usage: usage_thread }))
    }

    /// Makes sure that a root key exists. The first start creates it: from the token in `given`, or with a
    /// generated token that `show` prints.
    ///
    /// # Errors
    /// When `given` is not a root key's token or is easy to guess, `show` fails, or the command fails.
    pub(crate) fn ensure_root_key(
        &self,
        given: Option<&Secret>,
        show: impl FnOnce(&Token) -> Result<(), NotShown>,
    ) -> Result<(), StartError> {
        // A log that is not served has its root keys in a newer copy.
        if self.index.root_key_count() > 0 || self.inconsistency.is_refused() {
            return Ok(());
        }
        let permissions = vec![Permission::Admin];
        if let Some(given) = given {
            let origin = || given.origin().to_owned();
            let presented = PresentedToken::parse_root(given.expose())
                .map_err(|_| StartError::BootstrapRootKey(origin()))?;
            if presented.is_guessable() {
                return Err(StartError::GuessableRootKey(origin()));
            }
            let facts = RootKeyCreated { digest: presented.digest(), hint: presented.hint(), permissions };
            return self.create_root_key(facts, None, "Bootstrap root key").map(drop);
        }
        self.new_root_key(permissions, None, "First root key", show).map(drop)
    }

    /// Creates a root key for the operator of the machine. `show` prints the token before the key exists, so
    /// that there is never a key without a known token.
    ///
    /// # Errors
    /// When the log is not served, `show` fails, or the command fails.
    pub(crate) fn new_root_key(
        &self,
        permissions: Vec<Permission>,
        organization_id: Option<OrganizationId>,
        name: &str,
        show: impl FnOnce(&Token) -> Result<(), NotShown>,
    ) -> Result<RootKey, StartError> {
        if let (true, Some(reason)) = (self.inconsistency.is_refused(), self.inconsistency.reason()) {
            return Err(StartError::Inconsistent(reason.to_owned()));
        }
        let token =
            Token::generate_root(&mut SysRng).map_err(|error| StartError::Randomness(error.to_string()))?;
        show(&token)?;
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

fn open_log(data: &DataDirectory, kek: Option<Arc<Kek>>, cache_bytes: usize) -> Result<RedbLog, StartError> {
    let is_vault_missing = data.log().exists() && !data.vault().exists();
    let vault = Arc::new(Vault::open_wrapped(&data.vault(), kek).map_err(log::Error::from)?);
    let options = RedbOptions { cache_bytes, ..RedbOptions::default() };
    let log = RedbLog::open(&data.log(), options, vault, &mut SysRng)?;
    if is_vault_missing {
        let file = data.vault();
        tracing::warn!(file = %file.display(), "vault is missing; sealed personal text reads as erased");
    }
    Ok(log)
}

/// Counts what organizations have written today, in the background: a start does not wait for it.
fn count_day(
    holdings: &Arc<Holdings>,
    reader: &Arc<dyn LogReader>,
    now: Timestamp,
) -> Result<(), StartError> {
    let (holdings, reader, head) = (Arc::downgrade(holdings), Arc::clone(reader), reader.head()?);
    background::spawn("count-day", move || {
        let Some(counted) = holdings.upgrade() else { return };
        if let Err(error) = counted.count_day(reader.as_ref(), head, now, || Arc::strong_count(&counted) == 1)
        {
            tracing::warn!(%error, "could not count what organizations have written today");
        }
    })?;
    Ok(())
}

/// Takes other users' access to the files away, and says so. Logs what they can still reach.
fn keep_others_out(data: &DataDirectory) {
    let directory = data.path().display();
    let Narrowed { open_directory, narrowed, still_open } = match private_files::narrow(data) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%directory, %error, "could not check who may read the data directory");
            return;
        }
    };
    if let Some(mode) = open_directory {
        tracing::warn!(
            %directory, mode = format!("{mode:o}"),
            "other users of the machine may enter the data directory; run chmod 700 on it"
        );
    }
    for file in narrowed {
        tracing::warn!(file = %file.display(), "other users could access the file; they no longer can");
    }
    for (file, error) in still_open {
        tracing::warn!(
            file = %file.display(), %error,
            "other users can access the file, and its permissions could not be changed; run chmod 600 on it"
        );
    }
}

fn start_projection(
    data: &DataDirectory,
    projection: impl Projection,
    reader: &Arc<dyn LogReader>,
    ledger: &Ledger,
) -> Result<(ProjectionHandle, RunnerThread), store::Error> {
    runner::start(&data.projections(), projection, Arc::clone(reader), Some(ledger.watch_head()))
}

fn seed() -> Result<[u8; 32], StartError> {
    use rand::TryRng;
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).map_err(|error| StartError::Randomness(error.to_string()))?;
    Ok(seed)
}
