//! Opening a log where a process has left it: what the journal has and the database has not is put into the database.

use std::fmt::Display;
use std::path::Path;

use redb::{Database, DatabaseError, Durability};

use super::file::{Frames, GIVEN_UP, Journal, JournalNote};
use super::frame::Frame;
use super::segment::Segment;
use crate::codec;
use crate::log::Error;
use crate::log::merkle::Frontier;
use crate::log::redb::database::{Contents, damage, open_database, open_error, read_contents};
use crate::log::redb::tables::Tables;
use crate::storage::redb_file::{close, guarded, one_line};

/// How what the journal has is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// On the disk; the journal holds nothing then.
    Settled,
    /// In memory; the journal goes on holding it.
    InMemory,
}

/// Has a database, as `open` has just opened it, hold what the journal has. It is all on the disk then and the journal holds
/// nothing that counts, unless the disk does not take it: a full one must not keep anybody from reading.
pub(in crate::log::redb) fn take_in_journal(
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
    let reason = match take_in(&store, &contents.frontier, &frames.frames, Commit::Settled) {
        Ok(()) => {
            if let Err(error) = journal.end_use_after(&note) {
                close(store);
                return Err(journal_error(&journal.file, error));
            }
            return read_contents(file, store);
        }
        Err(NotTaken::Misfit(reason)) => {
            close(store);
            return Err(journal_damage(&journal.file, reason));
        }
        Err(NotTaken::Commit(reason)) => reason,
    };
    tracing::error!(reason, "the log cannot be committed; it goes on with its journal");
    // After an error a database takes nothing more until it is opened again.
    close(store);
    let (store, contents) = read_contents(file, open_database(file, open)?)?;
    let taken = take_in(&store, &contents.frontier, &frames.frames, Commit::InMemory)
        .and_then(|()| journal.go_on(&bytes, note, &frames).map_err(not_committed));
    if let Err(NotTaken::Misfit(reason) | NotTaken::Commit(reason)) = taken {
        close(store);
        return Err(Error::Open(one_line(format!("{file}: {reason}; see to the disk, then start again"))));
    }
    read_contents(file, store)
}

/// Has a database whose changes stay in memory hold what the journal at `path` has.
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
    let taken = frames.and_then(|frames| {
        take_in(&store, &contents.frontier, &frames.frames, Commit::InMemory).map_err(|error| match error {
            NotTaken::Misfit(reason) => journal_damage(&journal, reason),
            NotTaken::Commit(reason) => Error::Open(damage(file, reason)),
        })
    });
    match taken {
        Ok(()) => read_contents(file, store),
        Err(error) => {
            close(store);
            Err(error)
        }
    }
}

/// An error of opening a journal that must be there.
pub(in crate::log::redb) fn journal_error(journal: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::Open(format!(
            "{journal}: missing, and it may hold the newest events; put it back beside the log, or {}",
            how_to_go_on()
        ));
    }
    open_error(journal, error)
}

fn journal_damage(journal: &str, reason: impl Display) -> Error {
    Error::Open(one_line(format!(
        "{journal}: damaged: {reason}; restore the log from a backup, or {}",
        how_to_go_on()
    )))
}

fn how_to_go_on() -> String {
    format!("write `{GIVEN_UP}` and nothing else into that file to lose what it held")
}

fn frames_of(journal: &str, bytes: &[u8], note: &JournalNote) -> Result<Frames, Error> {
    Frames::read(bytes, note).map_err(|reason| journal_damage(journal, reason))
}

/// Why a database does not hold what the journal has.
enum NotTaken {
    /// The journal does not go on from the database.
    Misfit(String),
    /// The database does not take it.
    Commit(String),
}

fn not_committed(error: impl Display) -> NotTaken {
    NotTaken::Commit(one_line(error))
}

/// Puts the frames that a database, whose tree has this right edge, does not have into it.
fn take_in(
    database: &Database,
    frontier: &Frontier,
    frames: &[Frame],
    commit: Commit,
) -> Result<(), NotTaken> {
    let taken = guarded(|| try_take_in(database, frontier, frames, commit));
    taken.unwrap_or_else(|panic| Err(NotTaken::Commit(panic)))
}

fn try_take_in(
    database: &Database,
    frontier: &Frontier,
    frames: &[Frame],
    commit: Commit,
) -> Result<(), NotTaken> {
    let mut frontier = frontier.clone();
    let mut transaction = database.begin_write().map_err(not_committed)?;
    {
        let mut tables = Tables::open(&transaction).map_err(not_committed)?;
        let head = frontier.size();
        for frame in frames.iter().filter(|frame| frame.last().get() > head) {
            let misfit =
                |what| Err(NotTaken::Misfit(format!("the frame from position {} on {what}", frame.first)));
            if frame.first.get() != frontier.size() + 1 {
                return misfit("does not go on from the log");
            }
            let mut segment = Segment::after(frontier);
            for entry in &frame.entries {
                let Ok(record) = codec::decode(entry) else { return misfit("cannot be read") };
                let key = record.stream.to_index_key();
                let is_placed = segment.push(entry.clone(), &key, record.version);
                if !is_placed || record.position.get() != segment.frontier().size() {
                    return misfit("has a record that has no place in the log");
                }
            }
            if *segment.frontier() != frame.frontier {
                return misfit("has other records than were written");
            }
            segment.commands.clone_from(&frame.commands);
            if !tables.insert(&segment).map_err(not_committed)? {
                return misfit("has a record that has no place in the log");
            }
            frontier = segment.into_frontier();
        }
        tables.set_frontier(&frontier).map_err(not_committed)?;
        if commit == Commit::Settled {
            tables.set_journal(None).map_err(not_committed)?;
        }
    }
    match commit {
        Commit::Settled => {
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
        }
        Commit::InMemory => transaction.set_durability(Durability::None).map_err(not_committed)?,
    }
    transaction.commit().map_err(not_committed)
}
