//! Tests of the promises that every log keeps. An implementation runs all of them:
//!
//! ```ignore
//! keyledger_engine::event_log_contract_tests!(MyFixture::new());
//! ```

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are assertions of tests")]

use std::sync::Arc;

use super::merkle::{Frontier, TILE_HEIGHT, leaf_hash};
use super::{
    Append, AppendOutcome, COMMAND_MEMORY_MILLIS, CommandId, CommandKey, Error, EventLog, LogReader,
    RememberedCommand, StreamHead,
};
use crate::codec;
use crate::domain::erasure::{ErasedSubject, PersonalDataErased};
use crate::domain::event::Event;
use crate::domain::key::{KeyRenamedPersonal, KeyScopesChanged};
use crate::domain::record::{Personal, Record};
use crate::domain::stream::StreamId;
use crate::value::actor::Actor;
use crate::value::id::{ErasureId, EventId, KeyId};
use crate::value::position::{Position, Version};
use crate::value::subject::Subject;
use crate::value::text::{Name, Scope, UserId};
use crate::value::time::Timestamp;

/// Source of logs to test.
pub trait Fixture {
    /// The implementation under test.
    type Log: EventLog;

    /// Creates an empty log.
    fn create(&mut self) -> Self::Log;

    /// Reopens a log, as after a restart of its process. A log that does not survive its process is returned
    /// as it is.
    fn reopen(&mut self, log: Self::Log) -> Self::Log;
}

/// Declares one test for each function of this module, run on the logs of a fixture.
#[macro_export]
macro_rules! event_log_contract_tests {
    ($fixture:expr) => {
        $crate::event_log_contract_tests! { $fixture;
            positions_are_dense_and_records_never_change
            time_never_goes_backwards
            events_of_an_append_are_consecutive
            a_group_that_cannot_be_stored_leaves_nothing_behind
            an_append_needs_the_exact_head_of_its_stream
            the_second_of_a_group_sees_the_first
            an_append_without_events_is_a_conflict
            appended_records_are_there_after_reopening
            readers_return_what_append_returned
            readers_page_through_the_log
            recovering_keeps_all_records_and_readers
            a_repeated_command_is_answered_but_not_appended
            a_refused_command_is_not_remembered
            commands_are_remembered_long_enough
            the_tree_covers_the_entries
            a_log_keeps_its_id
            personal_text_is_sealed_and_erased
        }
    };
    ($fixture:expr; $($promise:ident)*) => {
        $(#[test]
        fn $promise() {
            $crate::log::contract::$promise(&mut $fixture);
        })*
    };
}

/// An append of `count` events to the stream of key number `key`, which must have the head `expected`.
#[must_use]
pub fn append_of(key: u128, expected: StreamHead, count: usize) -> Append {
    let event = |number: usize| {
        let name = Name::new(&format!("name {number} after version {}", expected.version)).unwrap();
        Event::KeyRenamed((), KeyRenamedPersonal { name: Some(name) })
    };
    let id = |number: usize| {
        EventId::from_u128(key << 64 | u128::from(expected.version.get()) << 32 | number as u128)
    };
    Append {
        stream: StreamId::Key(KeyId::from_u128(key)),
        expected,
        time: Timestamp::from_millis(1_790_000_000_000),
        subject: Subject::Organization("acme".parse().unwrap()),
        organization_id: Some("acme".parse().unwrap()),
        actor: Actor::system(),
        request_id: Some("request".into()),
        causation: None,
        events: (0..count).map(|number| (id(number), event(number))).collect(),
        command: None,
    }
}

pub(crate) fn first_of(key: u128) -> Append {
    append_of(key, StreamHead::ABSENT, 1)
}

fn one(log: &mut impl EventLog, append: Append) -> AppendOutcome {
    let mut outcomes = log.append(vec![append]).unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn appended(outcome: AppendOutcome) -> (Vec<Record>, StreamHead) {
    match outcome {
        AppendOutcome::Appended { records, head } => (records, head),
        other => unreachable!("appended was expected, not {other:?}"),
    }
}

fn replayed(outcome: &AppendOutcome) -> RememberedCommand {
    match outcome {
        AppendOutcome::Replayed(command) => *command,
        other => unreachable!("replayed was expected, not {other:?}"),
    }
}

fn all(reader: &Arc<dyn LogReader>) -> Vec<Record> {
    reader.read(Position::START, usize::MAX).unwrap()
}

fn named(append: Append, id: u8, fingerprint: u8) -> Append {
    let command = CommandKey { id: CommandId([id; 16]), fingerprint: [fingerprint; 16] };
    Append { command: Some(command), ..append }
}

/// Promise 1.
pub fn positions_are_dense_and_records_never_change(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let reader = log.reader();
    assert_eq!(reader.head().unwrap(), Position::START);
    assert!(all(&reader).is_empty());
    let mut seen = Vec::new();
    for round in 0..5 {
        let group = (0..round).map(|number| first_of(round << 8 | number)).collect();
        for outcome in log.append(group).unwrap() {
            seen.extend(appended(outcome).0);
        }
        assert_eq!(all(&reader), seen);
        assert_eq!(reader.head().unwrap().get(), seen.len() as u64);
    }
    assert!(seen.iter().zip(1..).all(|(record, position)| record.position.get() == position));
}

/// Promise 2.
pub fn time_never_goes_backwards(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let at = |key, millis| Append { time: Timestamp::from_millis(millis), ..first_of(key) };
    log.append(vec![at(1, 500), at(2, 300)]).unwrap();
    log.append(vec![at(3, 400), at(4, 600)]).unwrap();
    let mut log = fixture.reopen(log);
    log.append(vec![at(5, 1)]).unwrap();
    let times: Vec<i64> = all(&log.reader()).iter().map(|record| record.time.millis()).collect();
    assert_eq!(times, [500, 500, 500, 600, 600]);
}

/// Promise 3.
pub fn events_of_an_append_are_consecutive(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let group = vec![first_of(1), append_of(2, StreamHead::ABSENT, 3), first_of(3)];
    let mut outcomes = log.append(group).unwrap();
    let (records, head) = appended(outcomes.remove(1));
    let places: Vec<_> = records.iter().map(|record| (record.position.get(), record.version.get())).collect();
    assert_eq!(places, [(2, 1), (3, 2), (4, 3)]);
    assert_eq!(head.version, Version::new(3));
    assert_eq!(log.reader().head().unwrap(), Position::new(5));
}

/// Promise 3, for a group with an event that is too long.
pub fn a_group_that_cannot_be_stored_leaves_nothing_behind(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let scopes = vec![Scope::new(&"s".repeat(Scope::LEN_MAX)).unwrap(); 600];
    let mut huge = append_of(2, StreamHead::ABSENT, 2);
    huge.events[1].1 = Event::KeyScopesChanged(KeyScopesChanged { scopes }, ());
    let group = vec![named(first_of(1), 1, 1), huge];
    assert!(matches!(log.append(group), Err(Error::Record(codec::Error::TooLong(_)))));
    let reader = log.reader();
    assert_eq!(reader.head().unwrap(), Position::START);
    assert_eq!(reader.frontier().unwrap(), Frontier::default());
    assert_eq!(reader.find_command(&CommandId([1; 16])), None);
    assert_eq!(appended(one(&mut log, named(first_of(1), 1, 1))).0[0].position, Position::new(1));
}

/// Promise 4.
pub fn an_append_needs_the_exact_head_of_its_stream(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let (_, head) = appended(one(&mut log, append_of(1, StreamHead::ABSENT, 2)));
    let before = StreamHead { version: Version::new(1), token: head.token };
    let other_token = StreamHead { version: head.version, token: head.token + 1 };
    for expected in [StreamHead::ABSENT, before, other_token] {
        assert!(matches!(one(&mut log, append_of(1, expected, 1)), AppendOutcome::Conflict), "{expected:?}");
    }
    let absent = append_of(2, head, 1);
    let outcomes = log.append(vec![first_of(1), append_of(1, head, 1), absent, first_of(3)]).unwrap();
    assert!(matches!(
        &outcomes[..],
        [
            AppendOutcome::Conflict,
            AppendOutcome::Appended { .. },
            AppendOutcome::Conflict,
            AppendOutcome::Appended { .. }
        ]
    ));
    assert_eq!(log.reader().head().unwrap(), Position::new(4));
}

/// Promise 4, within a group.
pub fn the_second_of_a_group_sees_the_first(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let (_, head) = appended(one(&mut log, first_of(1)));
    let outcomes = log.append(vec![append_of(1, head, 1), append_of(1, head, 1)]).unwrap();
    assert!(matches!(&outcomes[..], [AppendOutcome::Appended { .. }, AppendOutcome::Conflict]));
    let outcomes = log.append(vec![first_of(2), first_of(2)]).unwrap();
    assert!(matches!(&outcomes[..], [AppendOutcome::Appended { .. }, AppendOutcome::Conflict]));
    assert_eq!(log.reader().head().unwrap(), Position::new(3));
}

/// An append without events, as documented on [`EventLog::append`].
pub fn an_append_without_events_is_a_conflict(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let outcomes = log.append(vec![append_of(1, StreamHead::ABSENT, 0), first_of(1)]).unwrap();
    assert!(matches!(&outcomes[..], [AppendOutcome::Conflict, AppendOutcome::Appended { .. }]));
    assert!(log.append(Vec::new()).unwrap().is_empty());
}

/// Promise 5.
pub fn appended_records_are_there_after_reopening(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let (_, head) = appended(one(&mut log, named(first_of(1), 1, 1)));
    log.append((2..300).map(first_of).collect()).unwrap();
    let reader = log.reader();
    let before = (all(&reader), reader.frontier().unwrap(), reader.find_command(&CommandId([1; 16])));
    drop(reader);
    let mut log = fixture.reopen(log);
    let reader = log.reader();
    assert_eq!((all(&reader), reader.frontier().unwrap(), reader.find_command(&CommandId([1; 16]))), before);
    let stream = reader.read_stream(&StreamId::Key(KeyId::from_u128(1))).unwrap();
    assert_eq!(stream.head, head);
    let (records, _) = appended(one(&mut log, append_of(1, stream.head, 1)));
    assert_eq!((records[0].position.get(), records[0].version.get()), (300, 2));
}

/// Promise 6.
pub fn readers_return_what_append_returned(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let mut append = append_of(7, StreamHead::ABSENT, 2);
    append.actor.ip = Some("2001:db8::1".parse().unwrap());
    append.actor.user_agent = Some("curl/8".into());
    append.causation = Some(EventId::from_u128(5));
    let (records, head) = appended(one(&mut log, append.clone()));
    log.append(vec![first_of(8), append_of(7, head, 1)]).unwrap();
    let reader = log.reader();
    assert_eq!(all(&reader)[..2], records);
    for (record, (id, event)) in records.iter().zip(&append.events) {
        assert_eq!((&record.id, &record.event, &record.stream), (id, event, &append.stream));
        assert_eq!((&record.actor, record.causation), (&append.actor, append.causation));
        assert_eq!(
            (&record.organization_id, &record.request_id),
            (&append.organization_id, &append.request_id)
        );
    }
    let stream = reader.read_stream(&append.stream).unwrap();
    let versions: Vec<_> =
        stream.records.iter().map(|record| (record.version.get(), record.position.get())).collect();
    assert_eq!(versions, [(1, 1), (2, 2), (3, 4)]);
    assert_eq!(stream.head.version, Version::new(3));
    assert!(matches!(one(&mut log, append_of(7, stream.head, 1)), AppendOutcome::Appended { .. }));
    let absent = reader.read_stream(&StreamId::Organization("acme".parse().unwrap())).unwrap();
    assert_eq!((absent.records.len(), absent.head), (0, StreamHead::ABSENT));
}

/// Paging, as documented on [`LogReader::read`] and [`LogReader::read_entries`].
pub fn readers_page_through_the_log(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    log.append((1..=10).map(first_of).collect()).unwrap();
    let reader = log.reader();
    let everything = all(&reader);
    let mut paged = Vec::new();
    loop {
        let after = Position::new(paged.len() as u64);
        let page = reader.read(after, 3).unwrap();
        assert_eq!(page.len(), 3.min(10 - paged.len()));
        let entries = reader.read_entries(after, 3).unwrap();
        let vault = log.vault();
        let decoded = entries.iter().map(|entry| codec::decode_with(entry, Some(&vault)).unwrap());
        assert_eq!(decoded.collect::<Vec<_>>(), page);
        let leaves = entries.iter().map(|entry| leaf_hash(entry));
        let with_leaves: Vec<_> = page.iter().cloned().zip(leaves).collect();
        assert_eq!(reader.read_with_leaves(after, 3).unwrap(), with_leaves);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, everything);
    assert!(reader.read(Position::START, 0).unwrap().is_empty());
    assert!(reader.read(Position::new(10), 5).unwrap().is_empty());
    assert!(reader.read(Position::new(1_000), 5).unwrap().is_empty());
}

/// Promise 7, as far as it can be tested without a failing disk.
pub fn recovering_keeps_all_records_and_readers(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let reader = log.reader();
    log.append(vec![named(first_of(1), 1, 1), first_of(2)]).unwrap();
    let before = all(&reader);
    assert_eq!(log.recover().unwrap(), Position::new(2));
    assert_eq!(all(&reader), before);
    assert!(matches!(one(&mut log, named(first_of(3), 1, 1)), AppendOutcome::Replayed(_)));
    appended(one(&mut log, first_of(3)));
    assert_eq!(reader.head().unwrap(), Position::new(3));
}

/// Promise 8.
pub fn a_repeated_command_is_answered_but_not_appended(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let command = named(append_of(1, StreamHead::ABSENT, 2), 1, 1);
    let group = vec![first_of(9), command.clone(), command.clone(), named(first_of(2), 1, 2)];
    let outcomes = log.append(group).unwrap();
    let remembered = replayed(&outcomes[2]);
    assert_eq!((remembered.first, remembered.last), (Position::new(2), Position::new(3)));
    assert!(matches!(outcomes[3], AppendOutcome::CommandReused));
    assert_eq!(log.reader().find_command(&CommandId([1; 16])), Some(remembered));
    let kept = |after, max| log.reader().commands(Position::new(after), max).unwrap();
    assert_eq!(kept(0, 9), [(CommandId([1; 16]), remembered)]);
    assert_eq!((kept(1, 9).len(), kept(2, 9).len(), kept(0, 0).len()), (1, 0, 0));
    assert_eq!(replayed(&one(&mut log, command.clone())), remembered);
    let mut log = fixture.reopen(log);
    assert_eq!(replayed(&one(&mut log, command)), remembered);
    assert!(matches!(one(&mut log, named(first_of(2), 1, 2)), AppendOutcome::CommandReused));
    assert_eq!(log.reader().head().unwrap(), Position::new(3));
    assert_eq!(remembered.time, all(&log.reader())[1].time);
}

/// Promise 8: the id of a refused command can be used again.
pub fn a_refused_command_is_not_remembered(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let (_, head) = appended(one(&mut log, first_of(1)));
    assert!(matches!(one(&mut log, named(first_of(1), 1, 1)), AppendOutcome::Conflict));
    assert_eq!(log.reader().find_command(&CommandId([1; 16])), None);
    appended(one(&mut log, named(append_of(1, head, 1), 1, 1)));
}

/// Promise 8: how long commands are remembered, and that a forgotten id can be used again.
pub fn commands_are_remembered_long_enough(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let at = |append: Append, millis| Append { time: Timestamp::from_millis(millis), ..append };
    appended(one(&mut log, at(named(first_of(1), 1, 1), 0)));
    appended(one(&mut log, at(first_of(2), COMMAND_MEMORY_MILLIS)));
    let mut log = fixture.reopen(log);
    replayed(&one(&mut log, at(named(first_of(3), 1, 1), COMMAND_MEMORY_MILLIS)));
    // From here on the command may be forgotten. Either way the log works, and a new command is remembered.
    appended(one(&mut log, at(first_of(4), COMMAND_MEMORY_MILLIS + 1)));
    appended(one(&mut log, at(first_of(5), COMMAND_MEMORY_MILLIS + 2)));
    let again = one(&mut log, at(named(first_of(6), 1, 1), COMMAND_MEMORY_MILLIS + 3));
    if matches!(again, AppendOutcome::Appended { .. }) {
        replayed(&one(&mut log, named(first_of(7), 1, 1)));
        let mut log = fixture.reopen(log);
        replayed(&one(&mut log, named(first_of(7), 1, 1)));
    }
}

/// Promise 9.
pub fn the_tree_covers_the_entries(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let mut expected = Frontier::default();
    let mut subtrees = Vec::new();
    for group in 0..6_u128 {
        log.append((0..100).map(|key| first_of(group << 16 | key)).collect()).unwrap();
        let reader = log.reader();
        for entry in reader.read_entries(Position::new(expected.size()), usize::MAX).unwrap() {
            expected.append(leaf_hash(&entry), |level, index, hash| {
                if level == TILE_HEIGHT {
                    assert_eq!(index, subtrees.len() as u64);
                    subtrees.push(*hash);
                }
            });
        }
        assert_eq!(reader.frontier().unwrap(), expected);
        let stored = |first, count| reader.subtree_hashes(TILE_HEIGHT, first, count).unwrap();
        assert_eq!(stored(0, usize::MAX), subtrees);
        assert_eq!(stored(0, 1), subtrees.get(..1).unwrap_or_default());
        assert_eq!(stored(1, 9), subtrees.get(1..).unwrap_or_default());
        assert_eq!(reader.subtree_hashes(2 * TILE_HEIGHT, 0, 1).unwrap(), [[0; 32]; 0]);
        drop(reader);
        log = fixture.reopen(log);
    }
    assert_eq!(expected.size(), 600);
}

/// A log's id never changes.
pub fn a_log_keeps_its_id(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let id = log.reader().log_id();
    log.append(vec![first_of(1)]).unwrap();
    log.recover().unwrap();
    assert_eq!(log.reader().log_id(), id);
    let log = fixture.reopen(log);
    assert_eq!(log.reader().log_id(), id);
}

/// Promise 10.
pub fn personal_text_is_sealed_and_erased(fixture: &mut impl Fixture) {
    let mut log = fixture.create();
    let (vault, reader) = (log.vault(), log.reader());
    let user = |name: &str| Subject::User("acme".parse().unwrap(), UserId::new(name).unwrap());
    let of = |key, subject: Subject| Append { subject, ..first_of(key) };
    log.append(vec![of(1, user("ada")), of(2, user("bob")), of(3, user("ada")), first_of(4)]).unwrap();
    let before = all(&reader);
    assert!(before.iter().all(|record| record.personal == Personal::Readable));
    let entries = reader.read_entries(Position::START, usize::MAX).unwrap();
    for entry in &entries {
        assert!(!entry.windows(7).any(|text| text == b"version"), "the name is in plain text");
        assert_eq!(codec::decode(entry).unwrap().personal, Personal::Erased);
    }
    let (frontier, subject_keys) = (reader.frontier().unwrap(), vault.keys_of(&user("ada")));
    assert_eq!((vault.len(), subject_keys.len()), (3, 1));
    assert_eq!(reader.erasures().unwrap(), []);

    let erasure = |number: u32, expected| {
        let facts = PersonalDataErased { subject: ErasedSubject::User, subject_keys: subject_keys.clone() };
        let event = Event::PersonalDataErased(facts, ());
        Append {
            stream: StreamId::Erasure(ErasureId::from_u128(number.into())),
            expected,
            subject: Subject::Installation,
            events: vec![(EventId::from_u128(u128::from(number) << 8), event)],
            ..first_of(9)
        }
    };
    // A refused erasure erases nothing.
    let elsewhere = StreamHead { version: Version::new(3), token: 3 };
    assert!(matches!(one(&mut log, erasure(1, elsewhere)), AppendOutcome::Conflict));
    assert_eq!(all(&reader), before);

    appended(one(&mut log, erasure(2, StreamHead::ABSENT)));
    let check = |log: &dyn EventLog| {
        assert!(log.vault().key(subject_keys[0]).is_none());
        let reader = log.reader();
        let after = all(&reader);
        for (before, after) in before.iter().zip(&after) {
            let is_adas = [1, 3].contains(&before.position.get());
            let expected = if is_adas { Personal::Erased } else { Personal::Readable };
            assert_eq!(after.personal, expected);
            assert_eq!(after == before, !is_adas);
            assert_eq!((after.id, &after.stream, after.time), (before.id, &before.stream, before.time));
        }
        assert_eq!(after[4].personal, Personal::Readable);
        assert_eq!(reader.erasures().unwrap(), after[4..5]);
        let stream = reader.read_stream(&before[0].stream).unwrap();
        assert_eq!(stream.records, after[..1]);
        // The stored bytes stay the same.
        assert_eq!(reader.read_entries(Position::START, 4).unwrap(), entries);
        let mut grown = frontier.clone();
        grown.append(leaf_hash(&reader.read_entries(Position::new(4), 1).unwrap()[0]), |_, _, _| {});
        assert_eq!(reader.frontier().unwrap(), grown);
    };
    check(&log);
    log.recover().unwrap();
    check(&log);
    drop(reader);
    let mut log = fixture.reopen(log);
    check(&log);
    // A user who returns is a subject like any other.
    appended(one(&mut log, of(5, user("ada"))));
    let reader = log.reader();
    assert_eq!(reader.read(Position::new(5), 1).unwrap()[0].personal, Personal::Readable);
    assert_ne!(log.vault().keys_of(&user("ada")), subject_keys);
}

#[cfg(test)]
mod on_memory;
#[cfg(test)]
mod on_redb;
