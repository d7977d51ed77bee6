use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::id::EventId;
use keyledger_engine::value::position::Version;

use super::*;

const LOG: LogId = LogId([7; 16]);
const NOW: Timestamp = Timestamp::from_millis(1_000);

fn webhook(id: u128, registered_at: u64) -> Webhook {
    Webhook {
        id: WebhookId::from_u128(id),
        organization_id: None,
        url: "https://example.com".parse().unwrap(),
        event_types: Vec::new(),
        generation: 1,
        previous_secrets: Vec::new(),
        disabled: None,
        registered_at: Position::new(registered_at),
        created_at: NOW,
        created_by: "system".into(),
        deleted_at: None,
        version: Version::new(1),
    }
}

fn event(position: u64) -> Message {
    let id = EventId::from_u128(u128::from(position));
    Message::Event { position: Position::new(position), id, event_type: "KeyRenamed".into() }
}

fn lane(key: u128) -> Lane {
    Lane::of(&StreamId::Key(KeyId::from_u128(key)))
}

fn give_up(deliveries: &Deliveries, webhook: &Webhook) {
    deliveries.with(webhook, |queue| {
        let (number, _) = queue.start(NOW).unwrap();
        queue.failed(number, Failure::Status(500), NOW, None);
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhooks.redb");
    let open = || Deliveries::open(&path, LOG, Position::new(10)).unwrap();
    let (one, other) = (webhook(1, 3), webhook(2, 30));
    let watermarks = Watermarks::from([(5, (NOW, KeyId::from_u128(9)))]);
    {
        let deliveries = open();
        assert_eq!(deliveries.with(&one, |queue| queue.cursor().get()), 10, "the file was made at 10");
        assert_eq!(deliveries.with(&other, |queue| queue.cursor().get()), 30);
        deliveries.with(&one, |queue| {
            for position in 11..15 {
                queue.push(event(position), lane(u128::from(position % 2)), NOW);
            }
            queue.advance(Position::new(14));
            let (number, _) = queue.start(NOW).unwrap();
            queue.failed(number, Failure::Timeout, NOW, Some(NOW.saturating_add_millis(60)));
        });
        give_up(&deliveries, &one);
        let notice =
            Message::KeyExpiringSoon { key_id: KeyId::from_u128(1), expires_at: NOW, notice_millis: 5 };
        deliveries.notify([(one.id, notice, lane(1))], watermarks.clone(), NOW);
        deliveries.save().unwrap();
        deliveries.with(&one, |queue| queue.advance(Position::new(15)));
    }
    let deliveries = Deliveries::open(&path, LOG, Position::new(50)).unwrap();
    assert_eq!(deliveries.watermarks(), watermarks);
    let mut begun = Vec::new();
    deliveries.with(&one, |queue| {
        assert_eq!((queue.cursor().get(), queue.len(), queue.letter_count()), (14, 4, 1), "as it was saved");
        assert_eq!(queue.failing_since(), Some(NOW));
        while let Some((number, message)) = queue.start(NOW.saturating_add_millis(60)) {
            begun.push((message.id(), queue.attempts(number)));
            queue.delivered(number);
        }
    });
    let evt = |position| event(position).id();
    assert_eq!(begun.len(), 4, "{begun:?}");
    let of_lane_1: Vec<_> = begun.iter().filter(|it| it.0 != evt(14)).cloned().collect();
    let notice = format!("expiring_{}_1000_5", KeyId::from_u128(1));
    assert_eq!(of_lane_1, [(evt(11), 1), (evt(13), 0), (notice, 0)]);
    deliveries.forget(one.id);
    deliveries.save().unwrap();
    drop(deliveries);
    assert_eq!(open().webhooks(), [other.id]);
}

#[test]
fn dead_letters_are_redelivered_alone_or_with_everything_since() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhooks.redb");
    let deliveries = Deliveries::open(&path, LOG, Position::START).unwrap();
    let webhook = webhook(1, 0);
    deliveries.with(&webhook, |queue| {
        for position in 1..=3 {
            queue.push(event(position), lane(u128::from(position)), NOW);
        }
        queue.advance(Position::new(3));
    });
    for _ in 0..3 {
        give_up(&deliveries, &webhook);
    }
    let numbers = |after, limit| {
        let letters = deliveries.dead_letters(webhook.id, after, limit).unwrap();
        letters.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!((numbers(0, 9), numbers(1, 1)), (vec![1, 2, 3], vec![2]));
    assert!(!deliveries.redeliver(&webhook, 4, NOW).unwrap());
    assert!(!deliveries.redeliver(&webhook, 0, NOW).unwrap());
    assert!(deliveries.redeliver(&webhook, 1, NOW).unwrap());
    assert!(!deliveries.redeliver(&webhook, 1, NOW).unwrap(), "it is queued already");
    assert_eq!((numbers(0, 9), deliveries.with(&webhook, |queue| queue.len())), (vec![2, 3], 1));
    deliveries.redeliver_after(&webhook, Position::new(2)).unwrap();
    assert_eq!((numbers(0, 9), deliveries.with(&webhook, |queue| queue.cursor().get())), (vec![2], 2));
}

#[test]
fn a_file_of_another_log_or_a_damaged_one_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhooks.redb");
    let webhook = webhook(1, 0);
    let deliveries = Deliveries::open(&path, LOG, Position::new(4)).unwrap();
    deliveries.with(&webhook, |queue| queue.push(event(5), lane(5), NOW));
    deliveries.save().unwrap();
    assert!(matches!(Deliveries::open(&path, LOG, Position::new(4)), Err(Error::InUse { .. })));
    drop(deliveries);
    let older = Deliveries::open(&path, LOG, Position::new(2)).unwrap();
    assert_eq!(older.with(&webhook, |queue| queue.cursor().get()), 2, "the log is an older copy");
    drop(older);
    let other = Deliveries::open(&path, LogId([8; 16]), Position::new(9)).unwrap();
    assert_eq!(other.with(&webhook, |queue| (queue.cursor().get(), queue.len())), (9, 0));
    drop(other);
    std::fs::write(&path, b"this is no database").unwrap();
    let recreated = Deliveries::open(&path, LOG, Position::new(6)).unwrap();
    assert_eq!(recreated.with(&webhook, |queue| (queue.cursor().get(), queue.len())), (6, 0));
    assert!(directory.path().join("webhooks.redb.damaged").exists());
}
