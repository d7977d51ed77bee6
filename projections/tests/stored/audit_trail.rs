//! The audit trail against a filter over all events of the log.

use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::key::KeyStatus;
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::{At, AuditQuery, AuditTrail, event_json, key_at};
use keyledger_projections::stored::replay::Replay;
use proptest::prelude::*;

use crate::history::{History, ORGANIZATIONS};

fn matches(query: &AuditQuery, record: &Record) -> bool {
    record.position > query.after
        && query.before.is_none_or(|before| record.position < before)
        && query.organization_id.as_ref().is_none_or(|id| record.organization_id.as_ref() == Some(id))
        && query.key_id.is_none_or(|id| record.stream.key_id() == Some(id))
        && query.actor_id.as_ref().is_none_or(|id| *id == *record.actor.id)
        && query.event_type.is_none_or(|event_type| event_type == record.event.event_type())
        && query.request_id.as_ref().is_none_or(|id| record.request_id.as_deref() == Some(id))
        && query.from.is_none_or(|from| record.time >= from)
        && query.to.is_none_or(|to| record.time < to)
}

type Choice = (Option<&'static str>, Option<usize>, Option<&'static str>, Option<EventType>);

fn choices() -> impl Strategy<Value = Choice> {
    (
        proptest::option::of(proptest::sample::select(ORGANIZATIONS.to_vec())),
        proptest::option::weighted(0.2, 0..1_000_usize),
        proptest::option::of(proptest::sample::select(vec!["system", "rk_1", "rk_9"])),
        proptest::option::of(proptest::sample::select(EventType::ALL)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_hold_what_the_log_holds(
        seed in 0..8_u64,
        (organization, key, actor, event_type) in choices(),
        bounds in (proptest::option::of(0..1_400_u64), proptest::option::of(0..1_400_u64)),
        request in proptest::option::weighted(0.3, 0..420_u32),
        times in (proptest::option::of(-9_000..1_300_000_i64), proptest::option::of(-9_000..1_300_000_i64)),
        limit in 1..300_usize,
        descending: bool,
    ) {
        let history = History::with_events(seed, 1_200);
        let (trail, projection) = AuditTrail::new(history.reader());
        let mut replay = Replay::in_memory(projection, history.reader()).unwrap();
        replay.catch_up(Position::new(u64::MAX), 512, |_| {}).unwrap();
        let time = |offset: i64| Timestamp::from_millis(1_700_000_000_000 + offset);
        let mut query = AuditQuery {
            after: Position::new(bounds.0.unwrap_or(0)),
            before: bounds.1.map(Position::new),
            limit,
            descending,
            organization_id: organization.map(|id| id.parse().unwrap()),
            key_id: key.map(|index| history.keys[index % history.keys.len()].id),
            actor_id: actor.map(Into::into),
            event_type,
            request_id: request.map(|n| format!("req-{n}")),
            from: times.0.map(time),
            to: times.1.map(time),
        };
        let all = history.reader().read(Position::START, usize::MAX).unwrap();
        let mut expected: Vec<Record> = all.into_iter().filter(|record| matches(&query, record)).collect();
        if descending {
            expected.reverse();
        }
        let mut walked = Vec::new();
        loop {
            let page = trail.query(&query).unwrap();
            prop_assert!(page.records.len() <= limit);
            prop_assert_eq!(page.position, history.reader().head().unwrap());
            walked.extend(page.records);
            match page.next {
                None => break,
                Some(next) if descending => query.before = Some(next),
                Some(next) => query.after = next,
            }
        }
        prop_assert_eq!(walked, expected);
    }
}

#[test]
fn terms_are_found_across_blocks() {
    let history = History::with_events(40, 70_000);
    let (trail, projection) = AuditTrail::new(history.reader());
    let mut replay = Replay::in_memory(projection, history.reader()).unwrap();
    replay.catch_up(Position::new(u64::MAX), 10_000, |_| {}).unwrap();
    let all = history.reader().read(Position::START, usize::MAX).unwrap();
    for descending in [false, true] {
        let query = AuditQuery {
            organization_id: Some("acme".parse().unwrap()),
            event_type: Some(EventType::KeyRevoked),
            limit: 1_000_000,
            descending,
            ..AuditQuery::default()
        };
        let mut expected: Vec<&Record> = all.iter().filter(|record| matches(&query, record)).collect();
        assert!(expected.last().unwrap().position.get() > 65_536);
        if descending {
            expected.reverse();
        }
        let page = trail.query(&query).unwrap();
        assert_eq!(page.records.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn spans_of_time_are_counted_as_the_log_has_them() {
    let history = History::with_events(44, 70_000);
    let (trail, projection) = AuditTrail::new(history.reader());
    let mut replay = Replay::in_memory(projection, history.reader()).unwrap();
    replay.catch_up(Position::new(u64::MAX), 10_000, |_| {}).unwrap();
    let all = history.reader().read(Position::START, usize::MAX).unwrap();
    let first = all.first().unwrap().time.millis();
    let length = (all.last().unwrap().time.millis() - first) / 10;
    // From before the first event to after the last. One span is empty, and one bound is exactly an event's
    // time.
    let mut bounds: Vec<i64> = (-1..=11).map(|n| first + n * length).collect();
    bounds.extend([first + 3 * length, all[40_000].time.millis()]);
    bounds.sort_unstable();
    let bounds: Vec<Timestamp> = bounds.into_iter().map(Timestamp::from_millis).collect();
    let types = [EventType::KeyCreated, EventType::KeyRevoked, EventType::ApiRegistered];
    for organization in [None, Some("acme"), Some("nobody")] {
        let id: Option<OrganizationId> = organization.map(|id| id.parse().unwrap());
        let frequency = trail.frequency(id.as_ref(), &types, &bounds).unwrap();
        assert_eq!(frequency.position, history.reader().head().unwrap());
        for (event_type, counts) in types.iter().zip(&frequency.counts) {
            let expected = bounds.windows(2).map(|span| {
                let counted = all.iter().filter(|record| {
                    record.event.event_type() == *event_type
                        && (span[0]..span[1]).contains(&record.time)
                        && id.as_ref().is_none_or(|id| record.organization_id.as_ref() == Some(id))
                });
                counted.count() as u64
            });
            assert_eq!(*counts, expected.collect::<Vec<_>>(), "{event_type} of {organization:?}");
        }
    }
    let none: &[Timestamp] = &[];
    assert_eq!(trail.frequency(None, &types, none).unwrap().counts, vec![Vec::<u64>::new(); 3]);
}

#[test]
fn a_request_is_found_among_those_that_share_its_hash() {
    let history = History::with_events(43, 3_000);
    let (trail, projection) = AuditTrail::new(history.reader());
    let mut replay = Replay::in_memory(projection, history.reader()).unwrap();
    replay.catch_up(Position::new(u64::MAX), 512, |_| {}).unwrap();
    let all = history.reader().read(Position::START, usize::MAX).unwrap();
    for number in 0..420 {
        let request_id = Some(format!("req-{number}"));
        let query = AuditQuery { request_id, limit: 1_000, ..AuditQuery::default() };
        let expected: Vec<&Record> = all.iter().filter(|record| matches(&query, record)).collect();
        let page = trail.query(&query).unwrap();
        assert_eq!(page.records.iter().collect::<Vec<_>>(), expected);
        assert_eq!(page.next, None);
        assert_eq!(trail.count(&query, 10_000).unwrap(), expected.len());
    }
}

#[test]
fn a_key_is_what_it_was_then() {
    let mut history = History::with_events(41, 300);
    let index =
        history.keys.iter().position(|key| key.deleted_at.is_none() && key.version.get() > 2).unwrap();
    history.apply(index, keyledger_engine::domain::event::Event::KeyDeleted((), ()));
    let reader = history.reader();
    let key = &history.keys[index];
    let (now, records) = key_at(&*reader, key.id, At::Position(reader.head().unwrap())).unwrap().unwrap();
    assert_eq!(now, *key);
    assert_eq!(now.status(history.now()), KeyStatus::Deleted);
    for (count, record) in records.iter().enumerate() {
        let (then, before) = key_at(&*reader, key.id, At::Position(record.position)).unwrap().unwrap();
        assert_eq!((then.version, before.len()), (record.version, count + 1));
        let (then, _) = key_at(&*reader, key.id, At::Time(record.time)).unwrap().unwrap();
        assert!(then.version >= record.version);
    }
    let before = Timestamp::from_millis(key.created_at.millis() - 1);
    assert_eq!(key_at(&*reader, key.id, At::Time(before)).unwrap(), None);
}

#[test]
fn events_are_shown_whole_and_without_digests() {
    let history = History::with_events(42, 3_000);
    let records = history.reader().read(Position::START, usize::MAX).unwrap();
    for record in &records {
        let shown = event_json(record);
        let text = shown.to_string();
        assert!(!text.contains("digest"), "{text}");
        assert_eq!(shown["position"], record.position.get());
        assert_eq!(shown["actor"]["id"], *record.actor.id);
        for field in ["request_id", "causation_id", "key_id", "organization_id", "time", "schema", "version"]
        {
            assert!(shown.get(field).is_some(), "{field}: {text}");
        }
    }
    let created = records.iter().find(|record| record.event.event_type() == EventType::KeyCreated).unwrap();
    let data = &event_json(created)["data"];
    let fields: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "user_id",
        "name",
        "description",
        "metadata",
        "environment",
        "owner",
        "api_id",
        "scopes",
        "expires_at",
        "start",
        "last_four",
    ];
    assert_eq!(fields, expected);
}
