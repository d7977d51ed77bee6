//! Checkpoints: moving pending records into the database.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::file::JournalNote;
use super::segment::Segment;
use crate::log::Error;
use crate::log::redb::database::Shared;
use crate::log::redb::tables::Tables;
use crate::storage::background;
use crate::storage::redb_file::guarded;
use crate::storage::storage_panic::in_file;
use crate::value::position::Position;

/// Reason why a checkpoint failed.
pub(in crate::log::redb) enum CheckpointFailed {
    /// Nothing was committed.
    Refused(Error),
    /// The segments may or may not have been committed.
    Unknown(String),
}

impl CheckpointFailed {
    /// The error for a caller that waited for this checkpoint: nothing was done for that caller.
    pub(in crate::log::redb) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Unknown(reason) => Error::Unavailable(reason),
        }
    }
}

/// Moves segments into the database, which they must continue, and notes the state of the journal, in one
/// durable commit.
pub(in crate::log::redb) fn checkpoint(
    shared: &Shared,
    segments: &[&Segment],
    note: Option<&JournalNote>,
) -> Result<(), CheckpointFailed> {
    let _file = in_file(&shared.file);
    let refused = |error| CheckpointFailed::Refused(shared.read_error(Position::START, error));
    let mut transaction = shared.begin_write().map_err(CheckpointFailed::Refused)?;
    // With this, opening the file after a crash needs no full repair.
    transaction.set_quick_repair(true);
    {
        let tables = Tables::open(&transaction);
        let mut tables =
            tables.map_err(|error| CheckpointFailed::Refused(shared.table_error(Position::START, error)))?;
        for segment in segments {
            if !tables.insert(segment).map_err(refused)? {
                let first = Position::new(segment.before()).next();
                let reason = "the database does not end where its writer left it";
                return Err(CheckpointFailed::Refused(shared.damaged(first, reason)));
            }
        }
        if let Some(last) = segments.last() {
            tables.set_frontier(last.frontier()).map_err(refused)?;
        }
        tables.set_journal(note).map_err(refused)?;
    }
    transaction.commit().map_err(|error| {
        shared.set_failed();
        CheckpointFailed::Unknown(format!("{}: {error}", shared.file))
    })
}

/// Result of a checkpoint: the journal note that it committed.
type Outcome = Result<JournalNote, CheckpointFailed>;

/// Segment to move into the database, with the journal note to commit.
struct Job {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    note: JournalNote,
}

impl Job {
    /// Runs the checkpoint. Holds no reference to the log when it returns.
    fn run(self) -> Outcome {
        let Self { shared, segment, note } = self;
        let committed = guarded(|| checkpoint(&shared, &[&segment], Some(&note)));
        committed.unwrap_or_else(|panic| Err(CheckpointFailed::Unknown(panic)))?;
        shared.pending.end_checkpoint();
        Ok(note)
    }
}

/// Runs checkpoints beside the writer, one at a time. They share one thread, because each reuses the memory
/// of the previous one. The thread starts with the first checkpoint.
#[derive(Default)]
pub(in crate::log::redb) struct Checkpointer {
    thread: Option<CheckpointerThread>,
    /// Whether a checkpoint was begun and not finished.
    is_running: bool,
    /// Result of that checkpoint, once received.
    outcome: Option<Outcome>,
}

struct CheckpointerThread {
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
    handle: JoinHandle<()>,
}

impl CheckpointerThread {
    fn start() -> io::Result<Self> {
        let (jobs, received) = mpsc::channel::<Job>();
        let (sender, outcomes) = mpsc::channel();
        let work = move || {
            for job in received {
                if sender.send(job.run()).is_err() {
                    break;
                }
            }
        };
        Ok(Self { jobs, outcomes, handle: background::spawn("log-checkpoint", work)? })
    }
}

impl Checkpointer {
    /// Begins the checkpoint of a segment, which commits `note` and then removes the segment from the pending
    /// records. No other checkpoint may be running.
    ///
    /// # Errors
    /// When the operating system cannot start a thread, or the thread has ended early. The next call starts
    /// another one.
    pub(in crate::log::redb) fn begin(
        &mut self,
        shared: Arc<Shared>,
        segment: Arc<Segment>,
        note: JournalNote,
    ) -> io::Result<()> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => CheckpointerThread::start()?,
        };
        let sent = thread.jobs.send(Job { shared, segment, note });
        sent.map_err(|_| io::Error::other("the checkpoint thread has ended early"))?;
        (self.thread, self.is_running) = (Some(thread), true);
        Ok(())
    }

    /// Whether a checkpoint has ended, so that [`finish`](Self::finish) does not block.
    pub(in crate::log::redb) fn is_finished(&mut self) -> bool {
        if self.is_running && self.outcome.is_none() {
            self.outcome = self.thread.as_ref().and_then(|thread| thread.outcomes.try_recv().ok());
        }
        self.outcome.is_some()
    }

    /// Waits for the running checkpoint, if any, and returns the journal note that it committed.
    ///
    /// # Errors
    /// Why the checkpoint failed.
    pub(in crate::log::redb) fn finish(&mut self) -> Result<Option<JournalNote>, CheckpointFailed> {
        if !self.is_running {
            return Ok(None);
        }
        self.is_running = false;
        let known = self.outcome.take();
        let outcome = known.or_else(|| self.thread.as_ref().and_then(|thread| thread.outcomes.recv().ok()));
        let ended = || Err(CheckpointFailed::Unknown("the checkpoint thread has ended early".into()));
        outcome.unwrap_or_else(ended).map(Some)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        let Some(CheckpointerThread { jobs, handle, .. }) = self.thread.take() else { return };
        drop(jobs);
        // The result of the last checkpoint no longer matters to anyone.
        let _ = handle.join();
    }
}
