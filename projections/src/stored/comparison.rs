//! Compares the rows that a running projection answers from with a fresh replay of the log. Nothing in a
//! projection's file shows who wrote it, so a file that was there at the start may be forged.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keyledger_engine::log::LogReader;
use keyledger_engine::value::position::Position;

use crate::stored::projection::Projection;
use crate::stored::rebuild::Rebuild;
use crate::stored::replay::{Difference, first_difference_while};
use crate::stored::runner::ProjectionHandle;
use crate::stored::store::{Error, newest_erasure};

/// A difference has to be found this often in succession: an erasure removes text from the log before it
/// removes it from the rows.
const FOUND_MIN: usize = 2;
/// Attempts that erasures and rebuilds may interrupt.
const ATTEMPTS_MAX: usize = 10;
/// How long to wait for the rows to reach the replay. They follow the log within milliseconds.
const WAIT: Duration = Duration::from_millis(20);

/// Compares the rows of a running projection with a replay of its log, in a file of `directory` that has no
/// name. Returns the first row that differs, or `None` when all are equal. `projection` is an instance
/// without readers. `proceed` receives the position and the end of the replay now and then, and may pause or
/// break.
///
/// # Errors
/// [`Error::Interrupted`] when `proceed` breaks, [`Error::NotReady`] when the projection has no rows of the
/// current version or is rebuilt again and again, and other errors when the file or the log fails.
pub fn differs_from_replay<P: Projection>(
    directory: &Path,
    projection: &P,
    reader: &Arc<dyn LogReader>,
    handle: &ProjectionHandle,
    mut proceed: impl FnMut(Position, Position) -> ControlFlow<()>,
) -> Result<Option<Difference>, Error> {
    let (mut found, mut attempts) = (0, 0);
    while attempts < ATTEMPTS_MAX {
        match compare(directory, projection.new_instance(), reader, handle, &mut proceed)? {
            Compared::Equal => {
                handle.note_comparison();
                return Ok(None);
            }
            Compared::Different(difference) if found + 1 >= FOUND_MIN => return Ok(Some(difference)),
            Compared::Different(_) => found += 1,
            Compared::Interrupted => (found, attempts) = (0, attempts + 1),
        }
    }
    Err(Error::NotReady)
}

enum Compared {
    Equal,
    Different(Difference),
    /// Text was erased, or the rows were replaced by others, in between.
    Interrupted,
}

fn compare<P: Projection>(
    directory: &Path,
    projection: P,
    reader: &Arc<dyn LogReader>,
    handle: &ProjectionHandle,
    proceed: &mut impl FnMut(Position, Position) -> ControlFlow<()>,
) -> Result<Compared, Error> {
    let mut replay = Rebuild::begin_aside(directory, projection, Arc::clone(reader))?;
    // The end of the log moves meanwhile. Twice leaves little to replay once the rows are taken.
    for _ in 0..2 {
        let head = reader.head()?;
        replay.catch_up_to(&**reader, head, |position| proceed(position, head))?;
    }
    // Taken late and for a short time: pages that they need are not used again meanwhile.
    let mut rows = handle.rows()?;
    while rows.checkpoint().position < replay.rows().checkpoint().position {
        let (position, head) = (rows.checkpoint().position, reader.head()?);
        if proceed(position, head).is_break() {
            return Err(Error::Interrupted);
        }
        drop(rows);
        thread::sleep(WAIT);
        rows = handle.rows()?;
    }
    let checkpoint = *rows.checkpoint();
    let until = checkpoint.position;
    replay.catch_up_to(&**reader, until, |position| proceed(position, until))?;
    if checkpoint.version != P::VERSION {
        return Err(Error::NotReady);
    }
    let found = first_difference_while::<P>(&rows, replay.rows(), || proceed(until, until))?;
    let erasure = newest_erasure(&**reader)?;
    let is_same_text = checkpoint.erasure == erasure && replay.rows().checkpoint().erasure == erasure;
    Ok(match found {
        _ if !is_same_text => Compared::Interrupted,
        None => Compared::Equal,
        Some(difference) => Compared::Different(difference),
    })
}
