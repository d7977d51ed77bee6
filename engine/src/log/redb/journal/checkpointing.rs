//! Putting what is staged into the database, on the disk.

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

/// Why segments were not put into the database.
pub(in crate::log::redb) enum NotSettled {
    /// They were not.
    Refused(Error),
    /// They may have been.
    Unknown(String),
}

impl NotSettled {
    /// What it means for those that wait for something else: nothing of theirs was done.
    pub(in crate::log::redb) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Unknown(reason) => Error::Unavailable(reason),
        }
    }
}

/// Has the database hold segments that come after all that it has, and note this of its journal, in one commit that is on the
/// disk.
pub(in crate::log::redb) fn settle(
    shared: &Shared,
    segments: &[&Segment],
    note: Option<&JournalNote>,
) -> Result<(), NotSettled> {
    let _file = in_file(&shared.file);
    let refused = |error| NotSettled::Refused(shared.read_error(Position::START, error));
    let mut transaction = shared.begin_write().map_err(NotSettled::Refused)?;
    // Opening the file after a crash is quick if the last commit had what it takes.
    transaction.set_quick_repair(true);
    {
        let tables = Tables::open(&transaction);
        let mut tables =
            tables.map_err(|error| NotSettled::Refused(shared.table_error(Position::START, error)))?;
        for segment in segments {
            if !tables.insert(segment).map_err(refused)? {
                let first = Position::new(segment.before()).next();
                let reason = "the log does not stand where its writer left it";
                return Err(NotSettled::Refused(shared.damaged(first, reason)));
            }
        }
        if let Some(last) = segments.last() {
            tables.set_frontier(last.frontier()).map_err(refused)?;
        }
        tables.set_journal(note).map_err(refused)?;
    }
    transaction.commit().map_err(|error| {
        shared.set_failed();
        NotSettled::Unknown(format!("{}: {error}", shared.file))
    })
}

/// What came of putting a segment into the database: what this notes of its journal, or why it may lack the segment.
type Outcome = Result<JournalNote, NotSettled>;

/// A segment that goes into the database, which notes `note` with it.
struct Job {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    note: JournalNote,
}

impl Job {
    /// Does it. Nothing of the log is held any more when it returns.
    fn run(self) -> Outcome {
        let Self { shared, segment, note } = self;
        let settled = guarded(|| settle(&shared, &[&segment], Some(&note)));
        settled.unwrap_or_else(|panic| Err(NotSettled::Unknown(panic)))?;
        shared.staged.settled();
        Ok(note)
    }
}

/// Puts one segment after the other into the database, while the log goes on: one thread for all, as the memory that one took
/// serves the next. It is started with the first.
#[derive(Default)]
pub(in crate::log::redb) struct Settler {
    thread: Option<SettlerThread>,
    /// Whether a segment is on its way.
    is_at_work: bool,
    /// What came of that one, when it is known.
    outcome: Option<Outcome>,
}

struct SettlerThread {
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
    handle: JoinHandle<()>,
}

impl SettlerThread {
    fn start() -> io::Result<Self> {
        let (jobs, asked) = mpsc::channel::<Job>();
        let (told, outcomes) = mpsc::channel();
        let work = move || {
            for job in asked {
                if told.send(job.run()).is_err() {
                    break;
                }
            }
        };
        Ok(Self { jobs, outcomes, handle: background::spawn("log-settling", work)? })
    }
}

impl Settler {
    /// Begins with a segment; none may be on its way. The database notes `note` with it; what is staged of it is let go of
    /// then.
    ///
    /// # Errors
    /// When the operating system has no thread left, or the thread has ended early; the next call starts another.
    pub(in crate::log::redb) fn begin(
        &mut self,
        shared: Arc<Shared>,
        segment: Arc<Segment>,
        note: JournalNote,
    ) -> io::Result<()> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => SettlerThread::start()?,
        };
        let sent = thread.jobs.send(Job { shared, segment, note });
        sent.map_err(|_| io::Error::other("the thread that commits has ended early"))?;
        (self.thread, self.is_at_work) = (Some(thread), true);
        Ok(())
    }

    /// Whether a segment was on its way and [`finish`](Self::finish) need not wait.
    pub(in crate::log::redb) fn is_finished(&mut self) -> bool {
        if self.is_at_work && self.outcome.is_none() {
            self.outcome = self.thread.as_ref().and_then(|thread| thread.outcomes.try_recv().ok());
        }
        self.outcome.is_some()
    }

    /// Waits for the end of what is on its way, if anything is. Gives what the database notes of its journal.
    ///
    /// # Errors
    /// Why the database may lack it.
    pub(in crate::log::redb) fn finish(&mut self) -> Result<Option<JournalNote>, NotSettled> {
        if !self.is_at_work {
            return Ok(None);
        }
        self.is_at_work = false;
        let known = self.outcome.take();
        let outcome = known.or_else(|| self.thread.as_ref().and_then(|thread| thread.outcomes.recv().ok()));
        let ended = || Err(NotSettled::Unknown("the thread that commits has ended early".into()));
        outcome.unwrap_or_else(ended).map(Some)
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        let Some(SettlerThread { jobs, handle, .. }) = self.thread.take() else { return };
        drop(jobs);
        // What it did last is finished, or nobody asks.
        let _ = handle.join();
    }
}
