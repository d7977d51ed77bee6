//! Verifications of the log that a running service makes of its own: everything is read again, as `replay-tool verify` does,
//! and compared with every checkpoint that was signed.
//!
//! One runs at a time, in a thread of its own that works for a quarter of the time at most, so that it takes little from
//! whoever asks for anything else. What was found is remembered until the service ends.

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

/// Verifications that are remembered.
const KEPT_MAX: usize = 10;
/// For each moment of work, so many of rest.
const REST: u32 = 3;
/// The longest rest at a time, so that an end of the service is noticed.
const REST_MAX: Duration = Duration::from_millis(200);

/// One verification.
#[derive(Debug, Clone)]
pub(crate) struct Verification {
    /// How many there were before it since the start of the service, and itself.
    pub number: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// The position up to which it has read.
    pub position: Position,
    /// The position up to which it is to read; the start of the log while that is not known yet.
    pub head: Position,
    /// When it ended, and what it found; none while it runs.
    pub ended: Option<(Timestamp, Outcome)>,
}

/// What a verification found.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// All is right.
    Right {
        /// The root of the tree over all events.
        root: Hash,
        /// How many checkpoints it was compared with.
        checkpoints: u64,
        /// The size of the newest of them.
        signed_up_to: Option<u64>,
    },
    /// Something is wrong.
    Wrong {
        /// The first bad position.
        position: Position,
        /// What is wrong there.
        reason: String,
    },
    /// It could not be carried out.
    Failed(String),
}

/// Makes verifications, and remembers what they found.
pub(crate) struct LogVerifications {
    reader: RedbReader,
    checkpoints: PathBuf,
    verifier: Verifier,
    /// The latest first.
    kept: Mutex<VecDeque<Verification>>,
}

impl LogVerifications {
    /// Of the log of `reader`, whose checkpoints are in a file, signed so that `verifier` believes them.
    #[must_use]
    pub(crate) fn new(reader: RedbReader, checkpoints: PathBuf, verifier: Verifier) -> Self {
        Self { reader, checkpoints, verifier, kept: Mutex::default() }
    }

    /// Those that are remembered, the latest first.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Verification> {
        self.kept().iter().cloned().collect()
    }

    /// Begins one, unless one is running.
    ///
    /// # Errors
    /// When the operating system has no thread left.
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
                tracing::error!(%position, reason, "the log is not what it should be");
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
        // What it reads is on the disk, and all that was acknowledged before it began is.
        if let Err(error) = service.ledger.checkpoint_blocking() {
            return Outcome::Failed(error.to_string());
        }
        let mut worked_since = Instant::now();
        let verified = self.reader.verify_while(&checkpoints.sizes(), 1, |position, head| {
            self.change(|latest| (latest.position, latest.head) = (position, head));
            thread::sleep((worked_since.elapsed() * REST).min(REST_MAX));
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
