//! The same log gives the same rows, whatever happens on the way.

use keyledger_engine::log::LogId;
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::{AuditTrail, AuditTrailProjection};
use keyledger_projections::key_list::{KeyList, KeyListProjection, KeyQuery};
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::rebuild::rebuild;
use keyledger_projections::stored::replay::{Replay, first_difference};
use keyledger_projections::stored::store::{self, Snapshot, path_of};

use crate::history::History;

const END: Position = Position::new(u64::MAX);

fn key_list() -> KeyListProjection {
    KeyList::new().1
}

fn audit_trail(history: &History) -> AuditTrailProjection {
    AuditTrail::new(history.reader()).1
}

fn fresh<P: Projection>(projection: P, history: &History, batch_len: usize) -> Replay<P> {
    let mut replay = Replay::in_memory(projection, history.reader()).unwrap();
    replay.catch_up(END, batch_len, |_| {}).unwrap();
    replay
}

#[test]
fn batches_of_any_size_give_the_same_rows() {
    // The longer log exceeds a block of the audit trail.
    for (len, batch_lens) in [(1_500, vec![1, 7, 512]), (66_000, vec![512])] {
        let history = History::with_events(1, len);
        let digests = |batch_len| {
            let keys = fresh(key_list(), &history, batch_len);
            let events = fresh(audit_trail(&history), &history, batch_len);
            assert_eq!(keys.position(), history.reader().head().unwrap());
            (keys.rows().digest().unwrap(), events.rows().digest().unwrap())
        };
        let expected = digests(100_000);
        for batch_len in batch_lens {
            assert_eq!(digests(batch_len), expected, "batches of {batch_len}");
        }
    }
}

#[test]
fn a_replay_resumes_where_it_was_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(2, 500);
    for round in 0..20 {
        history.extend(100 * (round % 4));
        // Dropped without saving: what is not durable may be lost, rows and position together.
        let mut keys = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
        let mut events = Replay::open(directory.path(), audit_trail(&history), history.reader()).unwrap();
        for step in 0..3 {
            keys.step(37, step == 0).unwrap();
            events.step(37, step == 1).unwrap();
        }
    }
    let mut keys = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
    let mut events = Replay::open(directory.path(), audit_trail(&history), history.reader()).unwrap();
    keys.catch_up(END, 64, |_| {}).unwrap();
    events.catch_up(END, 64, |_| {}).unwrap();
    let (fresh_keys, fresh_events) =
        (fresh(key_list(), &history, 999), fresh(audit_trail(&history), &history, 999));
    assert_eq!(first_difference::<KeyListProjection>(keys.rows(), fresh_keys.rows()).unwrap(), None);
    assert_eq!(first_difference::<AuditTrailProjection>(events.rows(), fresh_events.rows()).unwrap(), None);
}

#[test]
fn a_crash_costs_only_what_was_not_durable() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::with_events(3, 400);
    let after_crash = tempfile::tempdir().unwrap();
    let mut replay = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
    replay.step(100, true).unwrap();
    replay.step(100, false).unwrap();
    assert_eq!((replay.position(), replay.unsaved()), (Position::new(200), 100));
    // The file as after a crash.
    let path = |directory: &tempfile::TempDir| path_of(directory.path(), KeyListProjection::NAME);
    std::fs::copy(path(&directory), path(&after_crash)).unwrap();
    let mut replay = Replay::open(after_crash.path(), key_list(), history.reader()).unwrap();
    assert_eq!(replay.position(), Position::new(100));
    replay.catch_up(END, 512, |_| {}).unwrap();
    let expected = fresh(key_list(), &history, 512).rows().digest().unwrap();
    assert_eq!(replay.rows().digest().unwrap(), expected);
}

/// Replays `first` into a file, calls `meddle` on it, opens it for `second` and returns its position.
fn reopened(first: &History, second: &History, meddle: impl FnOnce(&std::path::Path)) -> Position {
    let directory = tempfile::tempdir().unwrap();
    let mut replay = Replay::open(directory.path(), key_list(), first.reader()).unwrap();
    replay.catch_up(END, 512, |_| {}).unwrap();
    drop(replay);
    meddle(&path_of(directory.path(), KeyListProjection::NAME));
    let mut replay = Replay::open(directory.path(), key_list(), second.reader()).unwrap();
    let position = replay.position();
    replay.catch_up(END, 512, |_| {}).unwrap();
    let expected = fresh(key_list(), second, 512).rows().digest().unwrap();
    assert_eq!(replay.rows().digest().unwrap(), expected);
    position
}

#[test]
fn files_that_do_not_fit_the_log_are_rebuilt() {
    let history = History::with_events(4, 300);
    let shorter = History::with_events(4, 200);
    let restored = History::with_events(5, 600);
    let mut other = History::of_log(4, LogId([8; 16]));
    other.extend(300);
    assert!(reopened(&history, &history, |_| {}) > Position::START);
    assert_eq!(reopened(&history, &shorter, |_| {}), Position::START, "ahead of the log");
    assert_eq!(reopened(&history, &restored, |_| {}), Position::START, "the log continued differently");
    assert_eq!(reopened(&history, &other, |_| {}), Position::START, "another log");
}

#[test]
fn a_file_resumes_at_its_position_when_the_log_has_grown() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(4, 200);
    let mut replay = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
    replay.catch_up(END, 512, |_| {}).unwrap();
    drop(replay);
    history.extend(100);
    let replay = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
    assert!(replay.position() > Position::START);
}

#[test]
fn damaged_files_are_rebuilt() {
    let history = History::with_events(6, 2_000);
    let write = |bytes: &'static [u8]| move |path: &std::path::Path| std::fs::write(path, bytes).unwrap();
    assert_eq!(reopened(&history, &history, write(b"")), Position::START);
    assert_eq!(reopened(&history, &history, write(b"no database at all")), Position::START);
    let mut rebuilt = 0;
    for part in 0..40 {
        let position = reopened(&history, &history, |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let place = bytes.len() * part / 40 + 11;
            bytes[place] ^= 0x10;
            std::fs::write(path, bytes).unwrap();
        });
        // A flipped bit in an unused page does no harm.
        rebuilt += usize::from(position == Position::START);
    }
    assert!(rebuilt > 5, "{rebuilt} of 40");
}

struct NewerKeyList(KeyListProjection);

impl Projection for NewerKeyList {
    const NAME: &'static str = KeyListProjection::NAME;
    const VERSION: u32 = KeyListProjection::VERSION + 1;

    fn new_instance(&self) -> Self {
        Self(self.0.new_instance())
    }
    fn switch_readers(&self) {
        self.0.switch_readers();
    }
    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        self.0.load(rows)
    }
    fn apply(
        &mut self,
        rows: &Snapshot,
        record: &keyledger_engine::domain::record::Record,
    ) -> Result<(), keyledger_projections::stored::projection::Error> {
        self.0.apply(rows, record)
    }
    fn write(&mut self, changes: &mut store::Changes) -> Result<(), store::Error> {
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
fn a_file_of_another_version_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::with_events(7, 100);
    let mut replay = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
    replay.catch_up(END, 512, |_| {}).unwrap();
    drop(replay);
    let replay = Replay::open(directory.path(), NewerKeyList(key_list()), history.reader()).unwrap();
    assert_eq!(replay.position(), Position::START);
}

#[test]
fn a_rebuild_replaces_the_file_when_it_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::with_events(8, 100);
    let mut replay = Replay::open(directory.path(), key_list(), history.reader()).unwrap();
    replay.catch_up(END, 512, |_| {}).unwrap();
    history.extend(50);
    let rebuilt = || rebuild(directory.path(), key_list(), history.reader(), |_| {});
    assert!(matches!(rebuilt(), Err(store::Error::InUse { .. })));
    drop(replay);
    assert_eq!(rebuilt().unwrap(), history.reader().head().unwrap());
    let rows = Snapshot::open(&path_of(directory.path(), KeyListProjection::NAME)).unwrap();
    assert_eq!(rows.digest().unwrap(), fresh(key_list(), &history, 7).rows().digest().unwrap());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn spilled_rows_equal_those_of_a_plain_replay() {
    let mut history = History::with_events(10, 30_000);
    // Keys of any age change up to here; from here on only the newest does.
    for _ in 0..20_000 {
        history.time += 1;
        let index = history.add_key();
        history.change(index);
    }
    let expected = fresh(key_list(), &history, 512);
    for keys in [1, 1_000, 2_500, usize::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let projection = KeyListProjection::without_readers().keeping(keys);
        let position = rebuild(directory.path(), projection, history.reader(), |_| {}).unwrap();
        assert_eq!(position, history.reader().head().unwrap());
        let rows = Snapshot::open(&path_of(directory.path(), KeyListProjection::NAME)).unwrap();
        let difference = first_difference::<KeyListProjection>(&rows, expected.rows()).unwrap();
        assert_eq!(difference, None, "with {keys} keys in memory");
        assert_eq!(rows.checkpoint(), expected.rows().checkpoint());
    }
}

#[test]
fn the_first_row_that_differs_is_named() {
    let mut history = History::with_events(9, 300);
    let one = fresh(key_list(), &history, 512);
    let index = history.keys.iter().position(|key| key.deleted_at.is_none()).unwrap();
    history.apply(index, keyledger_engine::domain::event::Event::KeyDeleted((), ()));
    let other = fresh(key_list(), &history, 512);
    let difference = first_difference::<KeyListProjection>(one.rows(), other.rows()).unwrap().unwrap();
    assert_eq!(difference.row, history.keys[index].id.to_string());
    assert!(difference.in_first && difference.in_second);
}

#[test]
fn answers_after_a_restart_are_those_from_before() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::with_events(10, 5_000);
    let query = KeyQuery { text: Some("straSSe".into()), limit: 500, ..KeyQuery::new(history.now()) };
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (list, projection) = KeyList::new();
        let mut replay = Replay::open(directory.path(), projection, history.reader()).unwrap();
        replay.catch_up(END, 512, |_| {}).unwrap();
        answers.push(list.query(&query).unwrap());
        drop(replay);
        assert!(list.query(&query).is_err(), "a stopped projection has no answers");
    }
    assert!(answers[0].total > 100);
    assert_eq!(answers[0], answers[1]);
}
