//! Verification of a running service's log: reads the whole log again, as `replay-tool verify` does, and
//! compares it with every signed checkpoint. Then it compares what answers are made from with a replay of the
//! log: the verification index, the key list and the audit trail.
//!
//! One verification runs at a time, in its own thread, which works for at most a quarter of the time, so that
//! it hardly delays requests. Results are kept in memory until the service stops. A service that starts from
//! files other than the log's begins with a verification: nothing but the log shows that they are right.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_engine::log::LogReader;
use keyledger_engine::log::merkle::Hash;
use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::storage::background;
use keyledger_engine::storage::data_directory::DataDirectory;
use keyledger_engine::transparency::note::Verifier;
use keyledger_engine::transparency::signed_checkpoints::SignedCheckpoints;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::key_list::KeyListProjection;
use keyledger_projections::stored::comparison::differs_from_replay;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::runner::{ProjectionHandle, forged};
use keyledger_projections::stored::store::{self, path_of};

use crate::service::Service;

/// What a verification reads first.
const LOG: &str = "log";
/// The projection that lives in memory.
const INDEX: &str = "verification-index";
/// Why rows are not compared.
const NO_SPACE: &str =
    "not enough disk space to compare it with a replay; make space and verify the log again";
/// Verifications that are kept.
const KEPT_MAX: usize = 10;
/// The pause after a piece of work, as a multiple of the time that it took.
const PAUSE_FACTOR: u32 = 3;
/// Work is done for at least this long before a pause.
const WORK_MIN: Duration = Duration::from_millis(1);
/// The longest pause, so that a stop of the service is noticed.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// One verification.
#[derive(Debug, Clone)]
pub(crate) struct Verification {
    /// Its number since the start of the service, from 1.
    pub number: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// The position that it has reached.
    pub position: Position,
    /// The position at which it ends; the start of the log until that is known.
    pub head: Position,
    /// What is being read or compared.
    pub step: &'static str,
    /// When it ended and its result; none while it runs.
    pub ended: Option<(Timestamp, Outcome)>,
}

/// The result of a verification.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The log is valid.
    Right {
        /// The root hash of the Merkle tree over all events.
        root: Hash,
        /// The number of checkpoints that it was compared with.
        checkpoints: u64,
        /// The number of events in the newest of them.
        signed_up_to: Option<u64>,
    },
    /// The log is damaged, or contradicts a checkpoint.
    Wrong {
        /// The first invalid position.
        position: Position,
        /// What is invalid there.
        reason: String,
    },
    /// The log is valid, but a projection does not say what it says.
    Different {
        /// The projection.
        projection: &'static str,
        /// What differs, in which file, and what to do.
        reason: String,
    },
    /// The verification could not run to its end.
    Failed(String),
}

/// Runs verifications and keeps their results.
pub(crate) struct LogVerifications {
    reader: RedbReader,
    data: DataDirectory,
    verifier: Verifier,
    /// The latest first.
    kept: Mutex<VecDeque<Verification>>,
}

impl LogVerifications {
    /// Prepares verifications of the log of `reader` against the checkpoints in the directory, whose
    /// signatures `verifier` checks.
    #[must_use]
    pub(crate) fn new(reader: RedbReader, data: DataDirectory, verifier: Verifier) -> Self {
        Self { reader, data, verifier, kept: Mutex::default() }
    }

    /// Returns the verifications that are kept, the latest first.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Verification> {
        self.kept().iter().cloned().collect()
    }

    /// Starts a verification. Returns none while one is running.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(service: &Arc<Service>) -> std::io::Result<Option<Verification>> {
        let it = &service.log_verifications;
        let mut kept = it.kept();
        if kept.front().is_some_and(|latest| latest.ended.is_none()) {
            return Ok(None);
        }
        let verification = Verification {
            number: kept.front().map_or(0, |latest| latest.number) + 1,
            started_at: service.now(),
            position: Position::START,
            head: Position::START,
            step: LOG,
            ended: None,
        };
        let worker = Arc::clone(service);
        background::spawn("log-verification", move || {
            let outcome = worker.log_verifications.verify(&worker);
            match &outcome {
                Outcome::Wrong { position, reason } => {
                    tracing::error!(%position, reason, "log verification failed");
                    worker.inconsistency.report(&format!(
                        "damaged or altered at position {position}: {reason}; run `replay-tool verify`, and \
                         restore a backup"
                    ));
                }
                Outcome::Different { projection, reason } => {
                    tracing::error!(projection, reason, "a projection differs from the log");
                }
                Outcome::Failed(reason) if !worker.is_stopping() => {
                    tracing::warn!(reason, "log verification could not finish");
                }
                Outcome::Right { .. } | Outcome::Failed(_) => {}
            }
            worker.log_verifications.change(|latest| latest.ended = Some((worker.now(), outcome)));
        })?;
        kept.truncate(KEPT_MAX - 1);
        kept.push_front(verification.clone());
        Ok(Some(verification))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Verification>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Verification)) {
        if let Some(latest) = self.kept().front_mut() {
            change(latest);
        }
    }

    fn verify(&self, service: &Service) -> Outcome {
        let right = match self.verify_log(service) {
            right @ Outcome::Right { .. } => right,
            other => return other,
        };
        let compared = [
            self.compare_index(service),
            self.compare_rows(service, &KeyListProjection::without_readers(), &service.key_list_handle),
            self.compare_rows(
                service,
                &AuditTrail::new(service.ledger.reader()).1,
                &service.audit_trail_handle,
            ),
        ];
        compared.into_iter().flatten().next().unwrap_or(right)
    }

    fn verify_log(&self, service: &Service) -> Outcome {
        let path = self.data.checkpoints();
        let checkpoints = match SignedCheckpoints::read(&path, &self.verifier) {
            Ok(checkpoints) => checkpoints,
            Err(error) => return Outcome::Failed(format!("{}: {error}", path.display())),
        };
        // It reads the file, so every event that was acknowledged before has to be in the file.
        if let Err(error) = service.ledger.checkpoint_blocking() {
            return Outcome::Failed(error.to_string());
        }
        let mut pace = Pace::new(service);
        let verified = self.reader.verify_while(&checkpoints.sizes(), 1, |position, head| {
            self.change(|latest| (latest.position, latest.head) = (position, head));
            pace.proceed()
        });
        let report = match verified {
            Ok(report) => report,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        self.change(|latest| latest.head = report.head);
        if let Some(finding) = report.finding {
            return Outcome::Wrong { position: finding.position, reason: finding.reason };
        }
        if let Some(difference) = checkpoints.first_difference(&report) {
            return Outcome::Wrong { position: difference.position(), reason: difference.to_string() };
        }
        Outcome::Right {
            root: report.root,
            checkpoints: checkpoints.sizes().len() as u64,
            signed_up_to: checkpoints.newest(report.head).map(|(checkpoint, _)| checkpoint.size),
        }
    }

    /// Compares the verification index with a replay. Returns none when they are equal.
    fn compare_index(&self, service: &Service) -> Option<Outcome> {
        self.change(|latest| latest.step = INDEX);
        let mut pace = Pace::new(service);
        match service.index_snapshot.compare(&service.index, |_, _| pace.proceed()) {
            Ok(None) => None,
            Ok(Some(reason)) => Some(Outcome::Different { projection: INDEX, reason }),
            Err(error) => Some(Outcome::Failed(format!("{INDEX}: {error}"))),
        }
    }

    /// Compares the rows of a stored projection with a replay. Returns none when they are equal, or when
    /// there are none yet: those are being built from the log. Readers lose rows that differ.
    fn compare_rows<P: Projection>(
        &self,
        service: &Service,
        projection: &P,
        handle: &ProjectionHandle,
    ) -> Option<Outcome> {
        self.change(|latest| latest.step = P::NAME);
        let (directory, reader): (_, Arc<dyn LogReader>) = (self.data.projections(), service.ledger.reader());
        let path = path_of(&directory, P::NAME);
        // The replay takes about as much space as the rows. What the log needs comes first.
        let len = fs::metadata(&path).map_or(0, |file| file.len());
        let disk = &service.disk_reserve;
        let too_full = || Some(Outcome::Failed(format!("{}: {NO_SPACE}", P::NAME)));
        if disk.free() < disk.reserve().saturating_add(len) {
            return too_full();
        }
        let mut pace = Pace::new(service);
        let compared = differs_from_replay(&directory, projection, &reader, handle, |_, _| {
            if disk.is_low() { ControlFlow::Break(()) } else { pace.proceed() }
        });
        match compared {
            Err(store::Error::Interrupted) if disk.is_low() => too_full(),
            Ok(None) | Err(store::Error::NotReady) => None,
            Ok(Some(difference)) => {
                let reason = forged(&path, P::NAME, &difference);
                handle.refuse(reason.clone());
                Some(Outcome::Different { projection: P::NAME, reason })
            }
            Err(error) => Some(Outcome::Failed(format!("{}: {error}", P::NAME))),
        }
    }
}

/// Makes a thread work for a part of the time only, and stop with the service.
struct Pace<'a> {
    service: &'a Service,
    worked_since: Instant,
}

impl<'a> Pace<'a> {
    fn new(service: &'a Service) -> Self {
        Self { service, worked_since: Instant::now() }
    }

    fn proceed(&mut self) -> ControlFlow<()> {
        let worked = self.worked_since.elapsed();
        // Shorter pauses would be mostly the cost of waking up.
        if worked >= WORK_MIN {
            thread::sleep((worked * PAUSE_FACTOR).min(PAUSE_MAX));
            self.worked_since = Instant::now();
        }
        if self.service.is_stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Begins a verification if anything that the service answers from came from a file that was not compared
/// with the log.
pub(crate) fn begin_if_unproven(service: &Arc<Service>) {
    let stored = service.stored_projections().into_iter().any(ProjectionHandle::is_unproven);
    if !(stored || service.index_snapshot.is_unproven()) {
        return;
    }
    tracing::info!("comparing what was restored from files with the log, in the background");
    if let Err(error) = LogVerifications::start(service) {
        tracing::warn!(%error, "could not start a verification of the log");
    }
}
