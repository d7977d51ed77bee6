//! The service: the log with its writer, the projections, and the state that requests share.

pub(crate) mod inconsistency;
pub(crate) mod index_snapshot;
pub(crate) mod log_signer;
pub(crate) mod metrics;
pub(crate) mod options;
pub(crate) mod projections;
pub(crate) mod renderers;
pub(crate) mod start;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use keyledger_engine::ledger::{self, Ledger, Request};
use keyledger_engine::log::{self, LogReader};
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::id::{KeyId, UlidSequence};
use keyledger_engine::value::time::{Clock, Timestamp};
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::beside_the_log::last_use::{LastUses, UsedCaller};
use keyledger_projections::beside_the_log::usage::{Address, Usage};
use keyledger_projections::holdings::Holdings;
use keyledger_projections::key_list::KeyList;
use keyledger_projections::stored::runner::ProjectionHandle;
use keyledger_projections::verification::{Verdict, VerificationIndex};
use rand::rngs::SysRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use ulid::Ulid;

use crate::admission::caps::Caps;
use crate::admission::disk_reserve::DiskReserve;
use crate::admission::in_flight::InFlight;
use crate::admission::long_answers::LongAnswers;
use crate::admission::permit::Permit;
use crate::admission::rate_limits::RateLimits;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::access_token::AccessTokens;
use crate::auth::console_session::ConsoleSessions;
use crate::auth::oidc::OpenIdProvider;
use crate::auth::principal::Principal;
use crate::auth::session_cookie::SessionCookie;
use crate::auth::session_use::SessionUse;
use crate::auth::trusted_proxies::TrustedProxies;
use crate::evidence::credential::Credential;
use crate::evidence::security_log::{Place, SecurityLog};
use crate::http::answer_headers::AnswerHeaders;
use crate::jobs::log_verification::LogVerifications;
use crate::jobs::webhooks::Webhooks;
use crate::jobs::witness::Witnesses;
use crate::request::idempotency::Running;
use crate::service::inconsistency::Inconsistency;
use crate::service::index_snapshot::IndexSnapshot;
use crate::service::log_signer::{Freshness, LogSigner};
use crate::service::metrics::Metrics;
use crate::service::renderers::Renderers;

/// Requests that read files at a time. Further ones are refused as `overloaded`.
const READERS_MAX: usize = 256;

/// What all requests share.
pub(crate) struct Service {
    /// Executes commands.
    pub ledger: Ledger,
    /// Verifies keys, authenticates callers, and finds organizations, APIs and root keys.
    pub index: Arc<VerificationIndex>,
    /// Issues and checks access tokens.
    pub access_tokens: AccessTokens,
    /// The cookie of portal and console sessions.
    pub session_cookie: SessionCookie,
    /// Whether metrics and the details of readiness are shown at a listener of their own only.
    pub has_admin_listener: bool,
    /// The headers of every answer.
    pub answer_headers: AnswerHeaders,
    /// Console sessions that did not start in the portal.
    pub console_sessions: ConsoleSessions,
    /// When portal sessions were last used.
    pub session_use: SessionUse,
    /// The proxies that are trusted to forward a client's address.
    pub trusted_proxies: TrustedProxies,
    /// The OpenID provider whose users may call the API, if there is one.
    pub openid_provider: Option<Arc<OpenIdProvider>>,
    /// Lists and searches keys.
    pub key_list: KeyList,
    /// Counts verifications of each key.
    pub usage: Arc<Usage>,
    /// Delivers events to receivers outside.
    pub webhooks: Webhooks,
    /// Searches events.
    pub audit_trail: AuditTrail,
    /// The state of the key list's projection.
    pub key_list_handle: ProjectionHandle,
    /// The state of the audit trail's projection.
    pub audit_trail_handle: ProjectionHandle,
    /// Whether the log is known to be an older copy or altered.
    pub inconsistency: Arc<Inconsistency>,
    /// Signs checkpoints of the log.
    pub log_signer: Arc<LogSigner>,
    /// The witnesses, which cosign checkpoints.
    pub witnesses: Witnesses,
    /// Verifications of the whole log.
    pub log_verifications: LogVerifications,
    /// Running commands that have an idempotency key.
    pub running: Running,
    /// What each organization holds, and how much it may.
    pub holdings: Arc<Holdings>,
    pub caps: Caps,
    /// The disk space that commands leave.
    pub disk_reserve: DiskReserve,
    /// The number of erasures, as the verification index counts them, whose text is in no file any more.
    forgotten_erasures: AtomicU64,
    /// Counts requests against the limits of callers, organizations and addresses.
    pub rate_limits: RateLimits,
    /// The streams, files and backups that are being read.
    pub long_answers: LongAnswers,
    /// Renders them.
    pub renderers: Renderers,
    /// Records who got in and who did not.
    pub security_log: SecurityLog,
    /// When and from where root keys and applications were last used.
    pub last_uses: LastUses,
    /// The counters for `/metrics`.
    pub metrics: Metrics,
    /// The verification index's snapshot on disk.
    pub index_snapshot: IndexSnapshot,
    clock: Arc<dyn Clock>,
    ids: Mutex<UlidSequence>,
    readers: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Service {
    /// The current time, by which requests are judged.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Counts a verification. Must be called once for each verification that is answered.
    pub(crate) fn verified(&self, verdict: &Verdict<'_>, now: Timestamp, from: Address) {
        self.metrics.verified(verdict.code);
        self.usage.record(verdict, now, from);
    }

    /// Records that a caller's credential was accepted.
    pub(crate) fn accepted(
        &self,
        principal: &Principal,
        credential: Credential,
        now: Timestamp,
        place: &Place,
    ) {
        let caller = match principal.kind {
            ActorKind::RootKey => principal.id.parse().ok().map(UsedCaller::RootKey),
            ActorKind::Application => principal.id.parse().ok().map(UsedCaller::Application),
            _ => None,
        };
        if let Some(caller) = caller {
            self.last_uses.record(caller, now, place.ip);
        }
        self.security_log.accepted(principal, credential, now, place);
    }

    /// Returns the time of a key's last verification.
    ///
    /// # Errors
    /// `overloaded`, see [`Service::blocking`].
    pub(crate) async fn last_verified(self: &Arc<Self>, id: KeyId) -> Result<Option<Timestamp>, Problem> {
        let (usage, now) = (Arc::clone(&self.usage), self.now());
        // Collecting the counts of a busy second takes some milliseconds.
        self.blocking(move || usage.last_verified(id, now)).await
    }

    /// Returns a new id, greater than all previous ones. Ids are not secrets, so a generator that the
    /// operating system reseeds from time to time suffices.
    pub(crate) fn new_id<I: From<Ulid>>(&self) -> I {
        let now = self.now();
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(id) = ids.draw(now, &mut rand::rng());
        id.into()
    }

    /// The operating system's random number generator, for tokens.
    #[must_use]
    pub(crate) const fn randomness(&self) -> SysRng {
        SysRng
    }

    /// Submits a caller's command, which needs a permit.
    ///
    /// # Errors
    /// As [`Ledger::submit`].
    pub(crate) fn submit(&self, permit: Permit, request: Request) -> Result<InFlight, ledger::Error> {
        self.ledger.submit(request).map(|submitted| InFlight::new(submitted, permit))
    }

    /// Reads from the log on a thread that may block.
    ///
    /// # Errors
    /// `overloaded` when too many requests read, `internal` when the log cannot be read.
    pub(crate) async fn read_log<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&dyn LogReader) -> Result<T, log::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = self.ledger.reader();
        self.blocking(move || read(reader.as_ref())).await?.map_err(Problem::from)
    }

    /// Returns the newest signed checkpoint of the log, as a note and parsed, with the cosignatures of the
    /// witnesses that answer in time.
    ///
    /// # Errors
    /// `log_inconsistent` when nothing may be signed, `overloaded`, `internal`.
    pub(crate) async fn checkpoint(
        self: &Arc<Self>,
        freshness: Freshness,
    ) -> Result<(Arc<str>, Checkpoint), Problem> {
        self.witnesses.compare_once(self).await?;
        let (signer, reader, now) = (Arc::clone(&self.log_signer), self.ledger.reader(), self.now());
        let signed = self.blocking(move || signer.checkpoint(reader.as_ref(), now, freshness)).await??;
        Ok(self.witnesses.cosign_last(self).await?.unwrap_or(signed))
    }

    /// Runs work that may wait for a disk on a thread that may block. It runs even if the caller drops the
    /// future.
    ///
    /// # Errors
    /// `overloaded` when too many requests block already.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit =
            Arc::clone(&self.readers).try_acquire_owned().map_err(|_| Problem::of(Code::Overloaded))?;
        run_blocking(permit, work).await
    }

    /// Like [`Service::blocking`], but waits for a permit instead of failing.
    ///
    /// # Errors
    /// `internal` when the work does not finish.
    pub(crate) async fn blocking_when_free<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        run_blocking(permit.map_err(|error| Problem::internal(&error))?, work).await
    }

    /// Reloads the signing keys, which another process may have rotated, and reopens the security log, which
    /// another process may have moved.
    pub(crate) fn reload(&self) {
        self.security_log.reopen();
        match self.access_tokens.reload() {
            Ok(()) => {
                // A connection remembers its last caller, whose token a dropped key may have signed.
                self.index.end_authentication_epoch();
                tracing::info!("reloaded the signing keys");
            }
            Err(error) => {
                tracing::warn!(%error, "could not reload the signing keys; the previous ones stay in use")
            }
        }
    }

    /// Ends event streams and background jobs.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when [`Service::stop`] is called.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error is impossible: the service owns the sender.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// Runs work on a thread that may block. The permit is released when the work is done, not when the caller
/// stops waiting.
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
