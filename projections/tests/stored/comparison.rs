//! Rows of a running projection are compared with the log: right ones are equal, whatever happens meanwhile,
//! and forged ones are found, or never read.

use std::ops::ControlFlow;
use std::path::Path;

use keyledger_engine::value::position::Position;
use keyledger_projections::key_list::{KeyList, KeyListProjection, KeyQuery, QueryError};
use keyledger_projections::stored::comparison::differs_from_replay;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::replay::Difference;
use keyledger_projections::stored::runner::{ProjectionHandle, RunnerThread, Status, start};
use keyledger_projections::stored::store::{self, path_of};
use redb::{Database, ReadableTable, TableDefinition};
use tempfile::TempDir;

use crate::history::History;
use crate::runner::{reaches, wait};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// A log of this length is compared at the start, before anybody reads the rows.
const SHORT: usize = 1_000;
/// A log of this length is compared in the background.
const LONG: usize = 9_000;

/// A running key list.
struct Running {
    list: KeyList,
    handle: ProjectionHandle,
    thread: RunnerThread,
}

fn run(directory: &Path, history: &History) -> Running {
    let (list, projection) = KeyList::new();
    let (handle, thread) = start(directory, projection, history.reader(), None).unwrap();
    Running { list, handle, thread }
}

/// The files of a key list that has followed the history to its end.
fn stopped(history: &History) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let running = run(directory.path(), history);
    reaches(&running.handle, history.reader().head().unwrap());
    running.thread.stop();
    directory
}

/// Deletes the first row, as somebody does who hides a key.
fn forge(directory: &Path) {
    let database = Database::open(path_of(directory, KeyListProjection::NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut rows = transaction.open_table(ROWS).unwrap();
        let first = rows.first().unwrap().unwrap().0.value().to_vec();
        rows.remove(first.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

fn compare(
    directory: &Path,
    history: &History,
    handle: &ProjectionHandle,
    proceed: impl FnMut(Position, Position) -> ControlFlow<()>,
) -> Result<Option<Difference>, store::Error> {
    let projection = KeyListProjection::without_readers();
    differs_from_replay(directory, &projection, &history.reader(), handle, proceed)
}

fn is_refused(running: &Running, history: &History) {
    let read = running.list.query(&KeyQuery::new(history.now()));
    assert!(matches!(read, Err(QueryError::Store(store::Error::NotReady))));
    assert!(!running.handle.is_ready() && matches!(running.handle.status(), Status::Failed { .. }));
    assert!(matches!(running.handle.rows(), Err(store::Error::NotReady)));
}

/// A rebuild brings the rows back.
fn is_rebuilt(running: &Running, history: &History) {
    let rebuilt = running.handle.rebuild().blocking_recv().unwrap().unwrap();
    assert_eq!(rebuilt, history.reader().head().unwrap());
    assert!(running.list.query(&KeyQuery::new(history.now())).is_ok() && !running.handle.is_unproven());
    assert_eq!(running.handle.status(), Status::Live);
}

#[test]
fn forged_rows_of_a_short_log_are_never_read() {
    let history = History::with_events(1, SHORT);
    let directory = stopped(&history);
    let running = run(directory.path(), &history);
    assert!(running.list.query(&KeyQuery::new(history.now())).is_ok() && !running.handle.is_unproven());
    running.thread.stop();
    forge(directory.path());
    let running = run(directory.path(), &history);
    is_refused(&running, &history);
    let Status::Failed { reason, .. } = running.handle.status() else { panic!() };
    assert!(reason.contains("key-list.redb") && reason.contains("is in a fresh replay"), "{reason}");
    is_rebuilt(&running, &history);
    running.thread.stop();
}

#[test]
fn forged_rows_of_a_long_log_are_found() {
    let history = History::with_events(2, LONG);
    let directory = stopped(&history);
    forge(directory.path());
    let running = run(directory.path(), &history);
    assert!(running.handle.is_unproven());
    let stopped = compare(directory.path(), &history, &running.handle, |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(store::Error::Interrupted)), "{stopped:?}");
    let proceed = |_, _| ControlFlow::Continue(());
    let found = compare(directory.path(), &history, &running.handle, proceed).unwrap().unwrap();
    assert!(!found.in_first && found.in_second && found.row.starts_with("key_"), "{found:?}");
    running.handle.refuse(found.to_string());
    wait("the rows to be refused", || !running.handle.is_ready());
    wait("readers to lose them", || running.list.query(&KeyQuery::new(history.now())).is_err());
    is_refused(&running, &history);
    is_rebuilt(&running, &history);
    assert_eq!(compare(directory.path(), &history, &running.handle, proceed).unwrap(), None);
    running.thread.stop();
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but the rows is left");
}

#[test]
fn rows_that_follow_the_log_meanwhile_are_equal() {
    let mut history = History::with_events(3, LONG);
    let directory = stopped(&history);
    let running = run(directory.path(), &history);
    let reader = history.reader();
    let projection = KeyListProjection::without_readers();
    let mut extended = 0;
    let compared = differs_from_replay(directory.path(), &projection, &reader, &running.handle, |_, _| {
        if extended < 50 {
            extended += 1;
            history.extend(20);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(compared.unwrap(), None);
    assert!(extended > 20 && !running.handle.is_unproven(), "{extended}");
    running.thread.stop();
}
