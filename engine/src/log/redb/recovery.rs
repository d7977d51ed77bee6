//! Opening a log where a process has left it: what the journal has and the database has not is put into the database.

use std::path::Path;

use redb::{Database, DatabaseError, Durability};

use super::database::{
    Contents, close, damage, guarded, io_error, one_line, open_database, open_error, read_contents,
};
use super::journal::{Frame, Frames, Journal, JournalNote};
use super::tables::Tables;
use crate::log::Error;
use crate::log::merkle::Frontier;
use crate::record;

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
pub(super) fn take_in_journal(
    file: &str,
    store: Database,
    contents: Contents,
    journal: &mut Journal,
    open: impl Fn() -> Result<Database, DatabaseError>,
) -> Result<(Database, Contents), Error> {
    let Some(note) = contents.journal else {
        journal.restart();
        return Ok((store, contents));
    };
    let bytes = journal.bytes().map_err(|error| open_error(&journal.file, io_error(error)));
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
            journal.restart();
            return read_contents(file, store);
        }
        Err(reason) => reason,
    };
    tracing::error!(reason, "the log cannot be committed; it goes on with its journal");
    // After an error a database takes nothing more until it is opened again.
    close(store);
    let (store, contents) = read_contents(file, open_database(file, open)?)?;
    let taken = take_in(&store, &contents.frontier, &frames.frames, Commit::InMemory)
        .and_then(|()| journal.go_on(&bytes, &frames).map_err(one_line));
    if let Err(reason) = taken {
        close(store);
        return Err(Error::Open(one_line(format!("{file}: {reason}; see to the disk, then start again"))));
    }
    read_contents(file, store)
}

/// Has a database whose changes stay in memory hold what the journal at `path` has.
pub(super) fn read_journal(
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
        take_in(&store, &contents.frontier, &frames.frames, Commit::InMemory)
            .map_err(|reason| Error::Open(damage(file, reason)))
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
pub(super) fn journal_error(journal: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::Open(format!(
            "{journal}: missing, and it may hold the newest events; put it back beside the log, or make an empty file of that name to go on without them"
        ));
    }
    open_error(journal, io_error(error))
}

fn frames_of(journal: &str, bytes: &[u8], note: &JournalNote) -> Result<Frames, Error> {
    Frames::read(bytes, note).map_err(|reason| Error::Open(damage(journal, reason)))
}

/// Puts the frames that a database, whose tree has this right edge, does not have into it.
fn take_in(database: &Database, frontier: &Frontier, frames: &[Frame], commit: Commit) -> Result<(), String> {
    guarded(|| try_take_in(database, frontier, frames, commit)).unwrap_or_else(Err)
}

fn try_take_in(
    database: &Database,
    frontier: &Frontier,
    frames: &[Frame],
    commit: Commit,
) -> Result<(), String> {
    let mut frontier = frontier.clone();
    let mut transaction = database.begin_write().map_err(one_line)?;
    {
        let mut tables = Tables::open(&transaction).map_err(one_line)?;
        let mut row = Vec::new();
        let head = frontier.size();
        for frame in frames.iter().filter(|frame| frame.last().get() > head) {
            if frame.first.get() != frontier.size() + 1 {
                return Err(format!("the journal goes on at position {}, the log does not", frame.first));
            }
            for entry in &frame.entries {
                let record = record::decode(entry).map_err(one_line)?;
                let key = record.stream.to_index_key();
                let inserted = tables.insert_entry(&mut frontier, &mut row, entry, &key, record.version);
                if record.position.get() != frontier.size() || !inserted.map_err(one_line)? {
                    return Err(format!("the journal's record at position {} has no place", frontier.size()));
                }
            }
            for (first, row) in &frame.commands {
                tables.commands.insert(first, row).map_err(one_line)?;
            }
            if frontier != frame.frontier {
                return Err(format!(
                    "the journal's records up to position {} are not those that were written",
                    frontier.size()
                ));
            }
        }
        tables.set_frontier(&frontier).map_err(one_line)?;
        if commit == Commit::Settled {
            tables.set_journal(None).map_err(one_line)?;
        }
    }
    match commit {
        Commit::Settled => {
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
        }
        Commit::InMemory => transaction.set_durability(Durability::None).map_err(one_line)?,
    }
    transaction.commit().map_err(one_line)
}
