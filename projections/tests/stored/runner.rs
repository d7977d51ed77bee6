//! Threads that keep projections caught up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::key_list::{KeyList, KeyQuery, QueryError};
use keyledger_projections::stored::projection::{self, Projection};
use keyledger_projections::stored::runner::{COMMIT_INTERVAL_MAX, ProjectionHandle, Status, start};
use keyledger_projections::stored::store::{self, Changes, Snapshot};
use tokio::sync::watch;

use crate::history::History;

pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn reaches(handle: &ProjectionHandle, position: Position) {
    wait("the projection catches up", || handle.position() >= position);
}

#[test]
fn a_projection_follows_the_log_and_survives_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(20, 1_000);
    for notified in [true, false, true] {
        let head_changes = watch::Sender::new(history.reader().head().unwrap());
        let (list, projection) = KeyList::new();
        let head = notified.then(|| head_changes.subscribe());
        let (handle, thread) = start(directory.path(), projection, history.reader(), head).unwrap();
        for _ in 0..20 {
            history.extend(10);
            let head = history.reader().head().unwrap();
            head_changes.send_replace(head);
            reaches(&handle, head);
            assert_eq!(handle.status(), Status::Live);
            let page = list.query(&KeyQuery::new(history.now())).unwrap();
            assert_eq!(page.position, head);
        }
        thread.stop();
        assert!(matches!(handle.status(), Status::Stopped { position } if position == handle.position()));
    }
    let (_list, projection) = KeyList::new();
    let (handle, thread) = start(directory.path(), projection, history.reader(), None).unwrap();
    assert_eq!(handle.position(), history.reader().head().unwrap(), "a stop saves everything");
    thread.stop();
}

#[test]
fn a_poison_event_stops_its_projection_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(21, 100);
    let organization = history.organizations[0].clone();
    let id = KeyId::from_u128(1);
    let (list, keys) = KeyList::new();
    let (_, events) = AuditTrail::new(history.reader());
    let (keys, keys_thread) = start(directory.path(), keys, history.reader(), None).unwrap();
    let (events, events_thread) = start(directory.path(), events, history.reader(), None).unwrap();
    let poison = history.append(StreamId::Key(id), Some(organization), Event::KeyReactivated((), ()));
    history.extend(100);
    let head = history.reader().head().unwrap();
    reaches(&events, head);
    wait("the key list stops", || matches!(keys.status(), Status::Poisoned { .. }));
    let Status::Poisoned { position, reason } = keys.status() else { unreachable!() };
    assert_eq!(position, poison.position);
    assert!(reason.contains(&id.to_string()), "{reason}");
    // Everything before the event is applied and still readable.
    assert_eq!(keys.position().next(), poison.position);
    assert_eq!(list.query(&KeyQuery::new(history.now())).unwrap().position, keys.position());
    assert_eq!(events.status(), Status::Live);
    // A rebuild fails as well, says so, and changes nothing.
    assert!(keys.rebuild().blocking_recv().unwrap().is_err());
    assert!(matches!(keys.status(), Status::Poisoned { .. }));
    assert_eq!(list.query(&KeyQuery::new(history.now())).unwrap().position, keys.position());
    keys_thread.stop();
    events_thread.stop();
    // A projection that was never complete does not answer.
    let (list, keys) = KeyList::new();
    let (keys, keys_thread) = start(directory.path(), keys, history.reader(), None).unwrap();
    wait("the key list stops", || matches!(keys.status(), Status::Poisoned { .. }));
    let refused = list.query(&KeyQuery::new(history.now()));
    assert!(matches!(refused, Err(QueryError::Store(store::Error::NotReady))), "{refused:?}");
    keys_thread.stop();
}

#[test]
fn many_records_gather_between_commits_unless_a_reader_waits() {
    const ROUNDS: u32 = 20;
    // So many that the interval reaches its maximum.
    const MANY: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(22, 100);
    let head_changes = watch::Sender::new(Position::START);
    let (_, projection) = KeyList::new();
    let (handle, thread) =
        start(directory.path(), projection, history.reader(), Some(head_changes.subscribe())).unwrap();
    // Each round is a separate commit.
    let mut rounds = |count: usize, wait: &mut dyn FnMut(Position)| -> Vec<Duration> {
        let round = |_| {
            let begun = Instant::now();
            history.extend(count);
            let head = history.reader().head().unwrap();
            head_changes.send_replace(head);
            wait(head);
            begun.elapsed()
        };
        (0..ROUNDS).map(round).collect()
    };
    let all_gather = |rounds: &[Duration]| {
        assert!(rounds.iter().sum::<Duration>() >= COMMIT_INTERVAL_MAX * (ROUNDS - 2), "{rounds:?}");
    };
    // However busy the machine is, one round is not delayed by others.
    let none_gather = |rounds: &[Duration]| {
        assert!(rounds.iter().any(|round| *round < COMMIT_INTERVAL_MAX), "{rounds:?}");
    };

    all_gather(&rounds(MANY, &mut |head| reaches(&handle, head)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    none_gather(&rounds(MANY, &mut |head| assert!(runtime.block_on(handle.reach(head)))));
    none_gather(&rounds(1, &mut |head| reaches(&handle, head)));

    // A reader that has given up waiting speeds up nothing.
    let gave_up = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = handle.reach(Position::new(u64::MAX)) => false,
            () = std::future::ready(()) => true,
        }
    });
    assert!(gave_up);
    all_gather(&rounds(MANY, &mut |head| reaches(&handle, head)));
    thread.stop();
    assert!(!runtime.block_on(handle.reach(Position::new(u64::MAX))), "it has ended");
}

/// Counts events, and panics at one.
struct Panicking(u64);

impl Projection for Panicking {
    const NAME: &'static str = "panicking";
    const VERSION: u32 = 1;

    fn new_instance(&self) -> Self {
        Self(self.0)
    }
    fn switch_readers(&self) {}
    fn load(&mut self, _rows: Snapshot) -> Result<(), store::Error> {
        Ok(())
    }
    fn apply(&mut self, _rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        assert!(record.position.get() != self.0, "that event again");
        Ok(())
    }
    fn write(&mut self, _changes: &mut Changes) -> Result<(), store::Error> {
        Ok(())
    }
    fn publish(&mut self, _rows: Snapshot) {}
    fn discard(&mut self, _rows: &Snapshot) -> Result<(), store::Error> {
        Ok(())
    }
    fn close(&mut self) {}
    fn row_name(_key: &[u8]) -> String {
        String::new()
    }
}

#[test]
fn a_panic_is_a_poison_event() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::with_events(22, 200);
    let (handle, thread) = start(directory.path(), Panicking(77), history.reader(), None).unwrap();
    wait("it stops", || matches!(handle.status(), Status::Poisoned { .. }));
    let Status::Poisoned { position, reason } = handle.status() else { unreachable!() };
    assert_eq!((position, handle.position()), (Position::new(77), Position::START));
    assert!(reason.contains("that event again"), "{reason}");
    thread.stop();
}

/// A file on a disk that can be full.
struct OnFullDisk(Arc<AtomicBool>);

impl Projection for OnFullDisk {
    const NAME: &'static str = "on-full-disk";
    const VERSION: u32 = 1;

    fn new_instance(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
    fn switch_readers(&self) {}
    fn load(&mut self, _rows: Snapshot) -> Result<(), store::Error> {
        Ok(())
    }
    fn apply(&mut self, _rows: &Snapshot, _record: &Record) -> Result<(), projection::Error> {
        Ok(())
    }
    fn write(&mut self, _changes: &mut Changes) -> Result<(), store::Error> {
        match self.0.load(Ordering::SeqCst) {
            true => {
                Err(store::Error::Unavailable { file: Self::NAME.into(), reason: "no space left".into() })
            }
            false => Ok(()),
        }
    }
    fn publish(&mut self, _rows: Snapshot) {}
    fn discard(&mut self, _rows: &Snapshot) -> Result<(), store::Error> {
        Ok(())
    }
    fn close(&mut self) {}
    fn row_name(_key: &[u8]) -> String {
        String::new()
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_stops_a_projection_for_that_while() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(22, 100);
    let full = Arc::new(AtomicBool::new(false));
    let projection = OnFullDisk(Arc::clone(&full));
    let (handle, thread) = start(directory.path(), projection, history.reader(), None).unwrap();
    reaches(&handle, history.reader().head().unwrap());
    full.store(true, Ordering::SeqCst);
    history.extend(10);
    wait("it stops", || matches!(handle.status(), Status::Failed { .. }));
    let Status::Failed { reason, .. } = handle.status() else { unreachable!() };
    assert!(reason.contains("no space left"), "{reason}");
    // A rebuild fails too while the disk is full.
    wait("a rebuild is tried", || handle.rebuild_counts().1 > 0);
    assert!(matches!(handle.status(), Status::Failed { .. }));
    full.store(false, Ordering::SeqCst);
    wait("it continues", || handle.status() == Status::Live);
    history.extend(10);
    reaches(&handle, history.reader().head().unwrap());
    thread.stop();
}

#[test]
fn readers_see_rows_and_position_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::new(23);
    let (list, projection) = KeyList::new();
    let (handle, thread) = start(directory.path(), projection, history.reader(), None).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let now = keyledger_engine::value::time::Timestamp::from_millis(0);
                let query = KeyQuery { limit: 20_000, ..KeyQuery::new(now) };
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let page = list.query(&query).unwrap();
                    // The log only creates keys, one per event.
                    assert_eq!(page.keys.len() as u64, page.position.get());
                    assert_eq!(page.total, page.position.get());
                }
            });
        }
        for _ in 0..3_000 {
            history.add_key();
        }
        reaches(&handle, history.reader().head().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    thread.stop();
}
