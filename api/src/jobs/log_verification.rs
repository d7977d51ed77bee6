//! Verification of a running service's log: reads the whole log again, as `replay-tool verify` does, and
//! compares it with every signed checkpoint.
//!
//! One verification runs at a time, in its own thread, which works for at most a quarter of the time, so that
//! it hardly delays requests. Results are kept in memory until the service stops.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_engine::log::merkle::Hash;
use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::storage::background;
use keyledger_engine::transparency::note::Verifier;
use keyledger_engine::transparency::signed_checkpoints::SignedCheckpoints;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use crate::service::Service;

/// Verifications that are kept.
const KEPT_MAX: usize = 10;
/// The pause after a piece of work, as a multiple of the time that it took.
const PAUSE_FACTOR: u32 = 3;
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
    /// The verification could not run to its end.
    Failed(String),
}

/// Runs verifications and keeps their results.
pub(crate) struct LogVerifications {
    reader: RedbReader,
    checkpoints: PathBuf,
    verifier: Verifier,
    /// The latest first.
    kept: Mutex<VecDeque<Verification>>,
}

impl LogVerifications {
    /// Prepares verifications of the log of `reader` against the checkpoints in a file, whose signatures
    /// `verifier` checks.
    #[must_use]
    pub(crate) fn new(reader: RedbReader, checkpoints: PathBuf, verifier: Verifier) -> Self {
        Self { reader, checkpoints, verifier, kept: Mutex::default() }
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
            ended: None,
        };
        let worker = Arc::clone(service);
        background::spawn("log-verification", move || {
            let outcome = worker.log_verifications.verify(&worker);
            if let Outcome::Wrong { position, reason } = &outcome {
                tracing::error!(%position, reason, "log verification failed");
                worker.inconsistency.report(&format!(
                    "damaged or altered at position {position}: {reason}; run `replay-tool verify`, and restore a \
                     backup"
                ));
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
        let checkpoints = match SignedCheckpoints::read(&self.checkpoints, &self.verifier) {
            Ok(checkpoints) => checkpoints,
            Err(error) => return Outcome::Failed(format!("{}: {error}", self.checkpoints.display())),
        };
        // It reads the file, so every event that was acknowledged before has to be in the file.
        if let Err(error) = service.ledger.checkpoint_blocking() {
            return Outcome::Failed(error.to_string());
        }
        let mut worked_since = Instant::now();
        let verified = self.reader.verify_while(&checkpoints.sizes(), 1, |position, head| {
            self.change(|latest| (latest.position, latest.head) = (position, head));
            thread::sleep((worked_since.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX));
            worked_since = Instant::now();
            if service.is_stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
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
}
