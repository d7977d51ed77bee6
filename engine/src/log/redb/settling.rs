//! Putting what is staged into the database, on the disk.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::database::{Shared, guarded};
use super::journal::JournalNote;
use super::segment::Segment;
use super::tables::Tables;
use crate::background;
use crate::log::Error;
use crate::position::Position;
use crate::storage_panic::in_file;

/// Why segments were not put into the database.
pub(super) enum NotSettled {
    /// They were not.
    Refused(Error),
    /// They may have been.
    Unknown(String),
}

impl NotSettled {
    /// What it means for those that wait for something else: nothing of theirs was done.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Unknown(reason) => Error::Unavailable(reason),
        }
    }
}

/// Has the database hold segments that come after all that it has, and note this of its journal, in one commit that is on the
/// disk.
pub(super) fn settle(
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

/// A segment on its way into the database, while the log goes on.
pub(super) struct Settling(JoinHandle<Result<JournalNote, NotSettled>>);

impl Settling {
    /// Begins. The database notes `note` with it; what is staged of it is let go of then.
    ///
    /// # Errors
    /// When the operating system has no thread left.
    pub(super) fn start(
        shared: Arc<Shared>,
        segment: Arc<Segment>,
        note: JournalNote,
    ) -> std::io::Result<Self> {
        let settle = move || {
            let settled = guarded(|| settle(&shared, &[&segment], Some(&note)));
            settled.unwrap_or_else(|panic| Err(NotSettled::Unknown(panic)))?;
            shared.staged.settled();
            Ok(note)
        };
        Ok(Self(background::spawn("log-settling", settle)?))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the end. Gives what the database notes of its journal.
    ///
    /// # Errors
    /// Why the database may lack it.
    pub(super) fn finish(self) -> Result<JournalNote, NotSettled> {
        let ended = |_| Err(NotSettled::Unknown("the thread that commits has ended early".into()));
        self.0.join().unwrap_or_else(ended)
    }
}
