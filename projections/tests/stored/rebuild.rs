//! Rebuilds of projections that are in use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::merkle::{Frontier, Hash};
use keyledger_engine::log::{self, CommandId, LogId, LogReader, RememberedCommand, SourceId, Stream};
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::{AuditQuery, AuditTrail};
use keyledger_projections::key_list::{KeyList, KeyListProjection, KeyPage, KeyQuery, KeySort, QueryError};
use keyledger_projections::stored::projection::{self, Projection};
use keyledger_projections::stored::replay::Replay;
use keyledger_projections::stored::runner::{ProjectionHandle, RunnerThread, Status, start};
use keyledger_projections::stored::store::{self, Changes, Snapshot, path_of};
use tempfile::TempDir;

use crate::history::History;
use crate::runner::{reaches, wait};

/// A log that blocks rebuilds while it is shut. The projections themselves can read it.
struct Gate {
    log: Arc<dyn LogReader>,
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn shut(history: &History) -> Arc<Self> {
        Arc::new(Self { log: history.reader(), shut: Mutex::new(true), opened: Condvar::new() })
    }

    fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        if thread::current().name().is_some_and(|name| name.ends_with(" rebuild")) {
            let shut = self.shut.lock().unwrap();
            drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        }
    }
}

impl LogReader for Gate {
    fn log_id(&self) -> LogId {
        self.log.log_id()
    }
    fn source_id(&self) -> SourceId {
        self.log.source_id()
    }
    fn head(&self) -> Result<Position, log::Error> {
        self.log.head()
    }
    fn read(&self, after: Position, records_max: usize) -> Result<Vec<Record>, log::Error> {
        self.pass();
        self.log.read(after, records_max)
    }
    fn read_with_leaves(
        &self,
        after: Position,
        records_max: usize,
    ) -> Result<Vec<(Record, Hash)>, log::Error> {
        self.log.read_with_leaves(after, records_max)
    }
    fn read_entries(&self, after: Position, records_max: usize) -> Result<Vec<Vec<u8>>, log::Error> {
        self.log.read_entries(after, records_max)
    }
    fn read_stream(&self, stream: &StreamId) -> Result<Stream, log::Error> {
        self.log.read_stream(stream)
    }
    fn erasures(&self) -> Result<Vec<Record>, log::Error> {
        self.log.erasures()
    }

    fn find_command(&self, id: &CommandId) -> Option<RememberedCommand> {
        self.log.find_command(id)
    }
    fn commands(
        &self,
        after: Position,
        commands_max: usize,
    ) -> Result<Vec<(CommandId, RememberedCommand)>, log::Error> {
        self.log.commands(after, commands_max)
    }
    fn subtree_hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, log::Error> {
        self.log.subtree_hashes(level, first, count)
    }
    fn frontier(&self) -> Result<Frontier, log::Error> {
        self.log.frontier()
    }
}

/// A running key list.
struct Running {
    directory: TempDir,
    list: KeyList,
    handle: ProjectionHandle,
    thread: RunnerThread,
}

impl Running {
    fn start(reader: Arc<dyn LogReader>) -> Self {
        let (list, projection) = KeyList::new();
        Self::start_in(tempfile::tempdir().unwrap(), list, projection, reader)
    }

    fn start_in<P: Projection>(
        directory: TempDir,
        list: KeyList,
        projection: P,
        reader: Arc<dyn LogReader>,
    ) -> Self {
        let (handle, thread) = start(directory.path(), projection, reader, None).unwrap();
        Self { directory, list, handle, thread }
    }

    fn inode(&self) -> u64 {
        fs::metadata(path_of(self.directory.path(), KeyListProjection::NAME)).unwrap().ino()
    }

    fn stop(self) -> TempDir {
        self.thread.stop();
        self.directory
    }
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The file in a directory must equal a fresh replay.
fn assert_as_fresh(directory: &Path, history: &History) {
    let rows = Snapshot::open(&path_of(directory, KeyListProjection::NAME)).unwrap();
    assert_eq!(rows.checkpoint().position, history.reader().head().unwrap());
    assert_eq!(rows.checkpoint().version, KeyListProjection::VERSION);
    let mut fresh = Replay::in_memory(KeyList::new().1, history.reader()).unwrap();
    fresh.catch_up(Position::new(u64::MAX), 512, |_| {}).unwrap();
    assert_eq!(rows.digest().unwrap(), fresh.rows().digest().unwrap());
}

#[test]
fn readers_keep_the_current_rows_during_a_rebuild() {
    let mut history = History::with_events(31, 500);
    let gate = Gate::shut(&history);
    let running = Running::start(gate.clone());
    let before = running.inode();
    let outcome = running.handle.rebuild();
    wait("the rebuild starts", || running.handle.rebuild_progress().is_some());
    for _ in 0..5 {
        history.extend(50);
        reaches(&running.handle, history.reader().head().unwrap());
        let page = running.list.query(&KeyQuery::new(history.now())).unwrap();
        assert_eq!(page.position, history.reader().head().unwrap());
        assert_eq!(running.handle.status(), Status::Live);
    }
    assert!(running.handle.rebuild_if_idle().is_none(), "a rebuild is running");
    assert_eq!(running.inode(), before);
    gate.open();
    assert_eq!(outcome.blocking_recv().unwrap().unwrap(), history.reader().head().unwrap());
    assert_ne!(running.inode(), before);
    assert_eq!(names(running.directory.path()), ["key-list.redb"]);
    assert_eq!(running.handle.rebuild_progress(), None);
    assert_eq!(running.handle.rebuild_counts(), (1, 0));
    // The projection continues from there.
    history.extend(100);
    reaches(&running.handle, history.reader().head().unwrap());
    let directory = running.stop();
    assert_as_fresh(directory.path(), &history);
}

#[test]
fn requests_during_a_rebuild_share_the_next_one() {
    let history = History::with_events(32, 300);
    let gate = Gate::shut(&history);
    let running = Running::start(gate.clone());
    let first = running.handle.rebuild();
    wait("the rebuild starts", || running.handle.rebuild_progress().is_some());
    // The first request has been taken; these two arrive later and share one rebuild.
    wait("the rebuild is running", || names(running.directory.path()).len() == 2);
    let (second, third) = (running.handle.rebuild(), running.handle.rebuild());
    gate.open();
    for outcome in [first, second, third] {
        outcome.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(running.handle.rebuild_counts(), (2, 0));
    running.stop();
}

#[test]
fn pages_positions_and_readings_hold_across_rebuilds_under_load() {
    let mut history = History::new(33);
    for _ in 0..3_000 {
        history.time += 1;
        history.add_key();
    }
    let running = Running::start(history.reader());
    let (trail, projection) = AuditTrail::new(history.reader());
    let trail_directory = tempfile::tempdir().unwrap();
    let (trail_handle, trail_thread) =
        start(trail_directory.path(), projection, history.reader(), None).unwrap();
    let expected: Vec<_> = history.keys.iter().map(|key| key.id).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reached = Position::START;
                while !done.load(Ordering::Relaxed) {
                    // The log only creates keys, one per event.
                    let page = running.list.query(&KeyQuery::new(history_now())).unwrap();
                    assert_eq!(page.total, page.position.get());
                    assert!(page.position >= reached, "readers do not go back");
                    reached = page.position;
                    // Walking over pages is not affected by rebuilds.
                    let mut query =
                        KeyQuery { sort: KeySort::CreatedAsc, limit: 500, ..KeyQuery::new(history_now()) };
                    let mut walked = Vec::new();
                    while walked.len() < expected.len() {
                        let KeyPage { keys, next_cursor, .. } = running.list.query(&query).unwrap();
                        walked.extend(keys.iter().map(|key| key.id));
                        query.cursor = next_cursor;
                        if query.cursor.is_none() {
                            break;
                        }
                    }
                    assert!(walked[..expected.len()] == expected);
                }
            });
        }
        scope.spawn(|| {
            let mut reached = Position::START;
            while !done.load(Ordering::Relaxed) {
                let query = AuditQuery { actor_id: Some("nobody".into()), ..AuditQuery::default() };
                let page = trail.query(&query).unwrap();
                assert!(page.position >= reached, "readers do not go back");
                reached = page.position;
            }
        });
        for _ in 0..8 {
            let outcomes = [running.handle.rebuild(), trail_handle.rebuild()];
            for _ in 0..200 {
                history.time += 1;
                history.add_key();
            }
            for outcome in outcomes {
                outcome.blocking_recv().unwrap().unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    reaches(&running.handle, history.reader().head().unwrap());
    trail_thread.stop();
    assert_as_fresh(running.stop().path(), &history);
}

#[test]
fn a_rebuilt_list_is_complete_with_few_keys_in_memory() {
    let mut history = History::with_events(36, 9_000);
    for _ in 0..20_000 {
        history.time += 1;
        history.add_key();
    }
    let (list, projection) = KeyList::new();
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start_in(directory, list, projection.keeping(1_000), history.reader());
    reaches(&running.handle, history.reader().head().unwrap());
    let mut query = KeyQuery { sort: KeySort::CreatedAsc, limit: 200, ..KeyQuery::new(history.now()) };
    let mut listed = Vec::new();
    loop {
        let page = running.list.query(&query).unwrap();
        listed.extend(page.keys);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = history.keys.iter().filter(|key| key.deleted_at.is_none()).cloned().collect();
    expected.sort_by_key(|key| (key.created_at, key.id));
    assert!(listed == expected, "{} keys, {} expected", listed.len(), expected.len());
    assert_as_fresh(running.stop().path(), &history);
}

fn history_now() -> keyledger_engine::value::time::Timestamp {
    keyledger_engine::value::time::Timestamp::from_millis(0)
}

#[test]
fn no_reader_sees_an_incomplete_list() {
    // More events than the start replays by itself.
    let history = History::with_events(34, 20_000);
    let gate = Gate::shut(&history);
    let running = Running::start(gate.clone());
    let ask = || running.list.query(&KeyQuery::new(history.now()));
    assert!(matches!(ask(), Err(QueryError::Store(store::Error::NotReady))));
    assert!(!running.handle.is_ready());
    assert!(matches!(running.handle.status(), Status::CatchingUp { .. }));
    assert_eq!(running.handle.position(), Position::START);
    gate.open();
    let page = loop {
        match ask() {
            Ok(page) => break page,
            Err(QueryError::Store(store::Error::NotReady)) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(page.position, history.reader().head().unwrap());
    wait("it is live", || running.handle.status() == Status::Live);
    assert_as_fresh(running.stop().path(), &history);
}

#[test]
fn a_stop_or_a_crash_during_a_rebuild_leaves_the_current_rows() {
    let history = History::with_events(35, 300);
    let gate = Gate::shut(&history);
    let running = Running::start(gate.clone());
    let before = running.inode();
    let outcome = running.handle.rebuild();
    wait("the rebuild is running", || names(running.directory.path()).len() == 2);
    // The files as after a crash.
    let crashed = tempfile::tempdir().unwrap();
    for name in names(running.directory.path()) {
        fs::copy(running.directory.path().join(&name), crashed.path().join(&name)).unwrap();
    }
    thread::scope(|scope| {
        let inode = running.inode();
        scope.spawn(|| gate.open());
        let directory = running.stop();
        assert_eq!(names(directory.path()), ["key-list.redb"]);
        // It may have finished just before the stop.
        let finished = fs::metadata(path_of(directory.path(), "key-list")).unwrap().ino() != inode;
        assert_eq!(outcome.blocking_recv().is_ok(), finished);
        assert_eq!(inode, before);
        assert_as_fresh(directory.path(), &history);
    });
    let (list, projection) = KeyList::new();
    let running = Running::start_in(crashed, list, projection, history.reader());
    assert_eq!(names(running.directory.path()), ["key-list.redb"]);
    assert_eq!(running.handle.rebuild_progress(), None);
    assert_as_fresh(running.stop().path(), &history);
}

/// The next version of the key list, which can read the rows of the current one.
struct NextKeyList(KeyListProjection);

impl Projection for NextKeyList {
    const NAME: &'static str = KeyListProjection::NAME;
    const VERSION: u32 = KeyListProjection::VERSION + 1;

    fn reads(version: u32) -> bool {
        version == Self::VERSION || version == KeyListProjection::VERSION
    }
    fn new_instance(&self) -> Self {
        Self(self.0.new_instance())
    }
    fn switch_readers(&self) {
        self.0.switch_readers();
    }
    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        self.0.load(rows)
    }
    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        self.0.apply(rows, record)
    }
    fn write(&mut self, changes: &mut Changes) -> Result<(), store::Error> {
        self.0.write(changes)
    }
    fn publish(&mut self, rows: Snapshot) {
        self.0.publish(rows);
    }
    fn discard(&mut self, rows: &Snapshot) -> Result<(), store::Error> {
        self.0.discard(rows)
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn row_name(key: &[u8]) -> String {
        KeyListProjection::row_name(key)
    }
}

#[test]
fn rows_of_an_older_version_answer_until_they_are_rebuilt() {
    let mut history = History::with_events(36, 400);
    let directory = Running::start(history.reader()).stop();
    history.extend(30);
    let gate = Gate::shut(&history);
    let (list, projection) = KeyList::new();
    let running = Running::start_in(directory, list, NextKeyList(projection), gate.clone());
    let before = running.inode();
    wait("the rebuild starts", || running.handle.rebuild_progress().is_some());
    history.extend(30);
    reaches(&running.handle, history.reader().head().unwrap());
    running.list.query(&KeyQuery::new(history.now())).unwrap();
    gate.open();
    wait("it is rebuilt", || running.handle.rebuild_counts() == (1, 0));
    assert_ne!(running.inode(), before);
    running.list.query(&KeyQuery::new(history.now())).unwrap();
    let directory = running.stop();
    let rows = Snapshot::open(&path_of(directory.path(), KeyListProjection::NAME)).unwrap();
    assert_eq!(rows.checkpoint().version, NextKeyList::VERSION);
}

/// A key list whose file turns out to be damaged, once.
struct DamagedKeyList(KeyListProjection, Arc<AtomicBool>);

impl Projection for DamagedKeyList {
    const NAME: &'static str = KeyListProjection::NAME;
    const VERSION: u32 = KeyListProjection::VERSION;

    fn new_instance(&self) -> Self {
        Self(self.0.new_instance(), Arc::clone(&self.1))
    }
    fn switch_readers(&self) {
        self.0.switch_readers();
    }
    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        self.0.load(rows)
    }
    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        if self.1.swap(false, Ordering::Relaxed) {
            return Err(rows.damaged("not a key").into());
        }
        self.0.apply(rows, record)
    }
    fn write(&mut self, changes: &mut Changes) -> Result<(), store::Error> {
        self.0.write(changes)
    }
    fn publish(&mut self, rows: Snapshot) {
        self.0.publish(rows);
    }
    fn discard(&mut self, rows: &Snapshot) -> Result<(), store::Error> {
        self.0.discard(rows)
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn row_name(key: &[u8]) -> String {
        KeyListProjection::row_name(key)
    }
}

#[test]
fn damage_found_later_leads_to_a_rebuild() {
    let mut history = History::with_events(37, 400);
    let damage = Arc::new(AtomicBool::new(false));
    let (list, projection) = KeyList::new();
    let projection = DamagedKeyList(projection, Arc::clone(&damage));
    let running = Running::start_in(tempfile::tempdir().unwrap(), list, projection, history.reader());
    let before = running.inode();
    damage.store(true, Ordering::Relaxed);
    history.extend(100);
    wait("it is rebuilt", || running.handle.rebuild_counts() == (1, 0));
    assert_ne!(running.inode(), before);
    reaches(&running.handle, history.reader().head().unwrap());
    assert_eq!(running.handle.status(), Status::Live);
    assert_as_fresh(running.stop().path(), &history);
}
