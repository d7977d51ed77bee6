//! Recovery when a log is opened: the frames that the database lacks are applied to it.

use std::fmt::Display;
use std::path::Path;

use redb::{Database, DatabaseError, Durability};

use super::file::{DISCARD_MARKER, Frames, Journal, JournalNote};
use super::frame::Frame;
use super::segment::Segment;
use crate::codec;
use crate::log::Error;
use crate::log::merkle::Frontier;
use crate::log::redb::database::{Contents, damage, open_database, open_error, read_contents};
use crate::log::redb::tables::Tables;
use crate::storage::redb_file::{close, guarded, one_line};

/// How the frames are committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// Durably. The journal is empty afterwards.
    Durable,
    /// In memory only. The journal keeps the frames.
    InMemory,
}

/// Applies the journal's frames to a database that `open` has just opened. Normally they are durable in it on
/// return, and no frame counts any more. If the disk does not accept the commit, they are applied in memory
/// only, because a full disk must not prevent reading.
pub(in crate::log::redb) fn recover_journal(
    file: &str,
    store: Database,
    contents: Contents,
    journal: &mut Journal,
    open: impl Fn() -> Result<Database, DatabaseError>,
) -> Result<(Database, Contents), Error> {
    let Some(note) = contents.journal else {
        journal.end_use();
        return Ok((store, contents));
    };
    let bytes = journal.bytes().map_err(|error| open_error(&journal.file, error));
    let frames = bytes.and_then(|bytes| Ok((frames_of(&journal.file, &bytes, &note)?, bytes)));
    let (frames, bytes) = match frames {
        Ok(frames) => frames,
        Err(error) => {
            close(store);
            return Err(error);
        }
    };
    let reason = match apply(&store, &contents.frontier, &frames.frames, Commit::Durable) {
        Ok(()) => {
            if let Err(error) = journal.end_use_after(&note) {
                close(store);
                return Err(journal_error(&journal.file, error));
            }
            return read_contents(file, store);
        }
        Err(NotApplied::Misfit(reason)) => {
            close(store);
            return Err(journal_damage(&journal.file, reason));
        }
        Err(NotApplied::Commit(reason)) => reason,
    };
    tracing::error!(reason, "cannot commit the journal to the log's database; continuing with the journal");
    // After an error a database accepts no writes until it is reopened.
    close(store);
    let (store, contents) = read_contents(file, open_database(file, open)?)?;
    let applied = apply(&store, &contents.frontier, &frames.frames, Commit::InMemory)
        .and_then(|()| journal.resume(&bytes, note, &frames).map_err(not_committed));
    if let Err(NotApplied::Misfit(reason) | NotApplied::Commit(reason)) = applied {
        close(store);
        return Err(Error::Open(one_line(format!("{file}: {reason}; check the disk, then start again"))));
    }
    read_contents(file, store)
}

/// Applies the frames of the journal at `path` to a database whose changes stay in memory.
pub(in crate::log::redb) fn read_journal(
    file: &str,
    store: Database,
    contents: Contents,
    path: &Path,
) -> Result<(Database, Contents), Error> {
    let Some(note) = contents.journal else { return Ok((store, contents)) };
    let journal = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| journal_error(&journal, error));
    let frames = bytes.and_then(|bytes| frames_of(&journal, &bytes, &note));
    let applied = frames.and_then(|frames| {
        apply(&store, &contents.frontier, &frames.frames, Commit::InMemory).map_err(|error| match error {
            NotApplied::Misfit(reason) => journal_damage(&journal, reason),
            NotApplied::Commit(reason) => damage(file, reason),
        })
    });
    match applied {
        Ok(()) => read_contents(file, store),
        Err(error) => {
            close(store);
            Err(error)
        }
    }
}

/// Error of opening a journal that has to exist.
pub(in crate::log::redb) fn journal_error(journal: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::Open(format!(
            "{journal}: missing, and it may hold the newest events; restore it next to the log, or {}",
            how_to_discard()
        ));
    }
    open_error(journal, error)
}

fn journal_damage(journal: &str, reason: impl Display) -> Error {
    Error::DamagedFile(one_line(format!(
        "{journal}: damaged: {reason}; restore the log from a backup, or {}",
        how_to_discard()
    )))
}

fn how_to_discard() -> String {
    format!("write `{DISCARD_MARKER}` and nothing else into that file to give up the events it held")
}

fn frames_of(journal: &str, bytes: &[u8], note: &JournalNote) -> Result<Frames, Error> {
    Frames::read(bytes, note).map_err(|reason| journal_damage(journal, reason))
}

/// Reason why frames were not applied.
enum NotApplied {
    /// The frames do not continue the database.
    Misfit(String),
    /// The database did not accept the commit.
    Commit(String),
}

fn not_committed(error: impl Display) -> NotApplied {
    NotApplied::Commit(one_line(error))
}

/// Applies the frames that a database lacks; `frontier` is the tree over its entries.
fn apply(
    database: &Database,
    frontier: &Frontier,
    frames: &[Frame],
    commit: Commit,
) -> Result<(), NotApplied> {
    let applied = guarded(|| try_apply(database, frontier, frames, commit));
    applied.unwrap_or_else(|panic| Err(NotApplied::Commit(panic)))
}

fn try_apply(
    database: &Database,
    frontier: &Frontier,
    frames: &[Frame],
    commit: Commit,
) -> Result<(), NotApplied> {
    let mut frontier = frontier.clone();
    let mut transaction = database.begin_write().map_err(not_committed)?;
    {
        let mut tables = Tables::open(&transaction).map_err(not_committed)?;
        let head = frontier.size();
        for frame in frames.iter().filter(|frame| frame.last().get() > head) {
            let misfit =
                |what| Err(NotApplied::Misfit(format!("the frame from position {} on {what}", frame.first)));
            if frame.first.get() != frontier.size() + 1 {
                return misfit("does not continue the log");
            }
            let mut segment = Segment::after(frontier);
            for entry in &frame.entries {
                let Ok(record) = codec::decode(entry) else { return misfit("cannot be read") };
                let key = record.stream.to_index_key();
                let is_placed = segment.push(entry.clone(), &key, record.version);
                if !is_placed || record.position.get() != segment.frontier().size() {
                    return misfit("has a record that does not fit into the log");
                }
            }
            if *segment.frontier() != frame.frontier {
                return misfit("has records other than those that were written");
            }
            segment.commands.clone_from(&frame.commands);
            if !tables.insert(&segment).map_err(not_committed)? {
                return misfit("has a record that does not fit into the log");
            }
            frontier = segment.into_frontier();
        }
        tables.set_frontier(&frontier).map_err(not_committed)?;
        if commit == Commit::Durable {
            tables.set_journal(None).map_err(not_committed)?;
        }
    }
    match commit {
        Commit::Durable => {
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
        }
        Commit::InMemory => transaction.set_durability(Durability::None).map_err(not_committed)?,
    }
    transaction.commit().map_err(not_committed)
}
