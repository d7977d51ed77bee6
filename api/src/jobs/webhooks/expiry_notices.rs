//! Notifies webhooks that keys expire soon: once for each configured notice time before the expiry.
//!
//! The verification index returns keys in the order of their expiry, and a watermark for each notice time
//! records the last key that was handled. So no search reads all keys, and notices that came due while the
//! process was down are found at the next start. If several notices of a key are overdue, it gets the one
//! nearest to its expiry. Watermarks are stored together with the messages.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::KeyStatus;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::domain::webhook::{MessageType, Webhook};
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::log::LogReader;
use keyledger_engine::value::id::{KeyId, WebhookId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::{Lane, Message, Watermarks};

use super::content::Unreadable;
use super::dispatcher::is_delivering;
use super::lookup::read;
use crate::service::Service;

/// Keys handled at a time.
const BATCH_LEN: usize = 256;
/// How long to wait after the log could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest sleep, as the machine's clock may be changed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// The shortest sleep, however many commands are executed.
const SLEEP_MIN: Duration = Duration::from_millis(100);
const LAST_KEY: KeyId = KeyId::from_u128(u128::MAX);

/// Runs until the service stops.
pub(super) async fn run(service: Arc<Service>) {
    let mut times: Vec<i64> = service
        .webhooks
        .options
        .expiry_notices
        .iter()
        .filter_map(|time| i64::try_from(time.as_millis()).ok())
        .collect();
    times.sort_unstable();
    times.dedup();
    if times.is_empty() {
        return;
    }
    let mut progress = service.index.watch();
    while is_delivering(&service) {
        progress.mark_unchanged();
        let pause = match notify(&service, &times).await {
            Ok(true) => continue,
            Ok(false) => time_to_next(&service, &times),
            Err(Unreadable) => RETRY_AFTER,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A new key may expire sooner than the next known one.
            () = async { let _ = progress.changed().await; tokio::time::sleep(SLEEP_MIN).await } => {}
            () = service.stopped() => return,
        }
    }
}

/// Queues the notices that are due, one batch at a time. Returns whether there may be more.
async fn notify(service: &Arc<Service>, times: &[i64]) -> Result<bool, Unreadable> {
    let now = service.now();
    let known = service.webhooks.deliveries.watermarks();
    let (found, watermarks, more) =
        due(times, &known, now, |after, through| service.index.expiries_between(after, through, BATCH_LEN));
    let webhooks = interested(service);
    let mut notices = Vec::new();
    if !webhooks.is_empty() && !found.is_empty() {
        let reader = service.ledger.reader();
        let make = move || -> Result<Vec<_>, Unreadable> {
            let notices = found.into_iter().map(|found| notices_of(&found, &webhooks, reader.as_ref(), now));
            Ok(notices.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        notices = read(service, make).await.map_err(|_| Unreadable)??;
    }
    let is_news = !notices.is_empty();
    service.webhooks.deliveries.notify(notices, watermarks, now);
    if is_news {
        service.webhooks.wake();
    }
    Ok(more)
}

/// A notice that is due: a key, its expiry, and the notice time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    key_id: KeyId,
    expires_at: Timestamp,
    notice_millis: i64,
}

/// Finds the notices that are due: for each of `times` (ascending), the keys after its watermark. Returns
/// them with the new watermarks, and whether there may be more. A notice time without a watermark starts now.
fn due(
    times: &[i64],
    known: &Watermarks,
    now: Timestamp,
    ends: impl Fn((Timestamp, KeyId), Timestamp) -> Vec<(Timestamp, KeyId)>,
) -> (Vec<Due>, Watermarks, bool) {
    let (mut found, mut watermarks, mut more) = (Vec::new(), Watermarks::new(), false);
    // Keys that expire before this get the notice of a nearer time, or have expired.
    let mut nearer = now;
    for &time in times {
        let through = now.saturating_add_millis(time);
        let reached = match known.get(&time) {
            // The machine's clock was set back: no notice is repeated.
            Some(known) if known.0 > through => *known,
            Some(known) => {
                let after = (*known).max((nearer, LAST_KEY));
                let batch = ends(after, through);
                let reached = match batch.last() {
                    Some(last) if batch.len() >= BATCH_LEN => {
                        more = true;
                        *last
                    }
                    _ => (through, LAST_KEY),
                };
                found.extend(batch.into_iter().map(|(expires_at, key_id)| Due {
                    key_id,
                    expires_at,
                    notice_millis: time,
                }));
                reached
            }
            None => (through, LAST_KEY),
        };
        watermarks.insert(time, reached);
        nearer = through;
    }
    (found, watermarks, more)
}

fn interested(service: &Service) -> Vec<Arc<Webhook>> {
    let mut webhooks = service.index.webhooks(None, usize::MAX);
    webhooks.retain(|webhook| webhook.is_enabled() && webhook.wants(MessageType::KEY_EXPIRING_SOON));
    webhooks
}

fn notices_of(
    due: &Due,
    webhooks: &[Arc<Webhook>],
    reader: &dyn LogReader,
    now: Timestamp,
) -> Result<Vec<(WebhookId, Message, Lane)>, Unreadable> {
    let stream = StreamId::Key(due.key_id);
    let records = reader.read_stream(&stream).map_err(|_| Unreadable)?.records;
    let Ok(Some(Aggregate::Key(key))) = Aggregate::fold(&records) else { return Ok(Vec::new()) };
    let set_at = records
        .iter()
        .rev()
        .find(|record| matches!(record.event, Event::KeyCreated(..) | Event::KeyExpiryChanged(..)))
        .map_or(key.created_at, |record| record.time);
    let notice_at = due.expires_at.saturating_add_millis(-due.notice_millis);
    // A caller who sets an expiry that is nearer than the notice time knows it.
    if key.expires_at != Some(due.expires_at) || key.status(now) != KeyStatus::Active || notice_at <= set_at {
        return Ok(Vec::new());
    }
    let Due { key_id, expires_at, notice_millis } = *due;
    let concerned = webhooks
        .iter()
        .filter(|webhook| webhook.organization_id.as_ref().is_none_or(|id| *id == key.organization_id));
    let notice = |webhook: &Arc<Webhook>| {
        (webhook.id, Message::KeyExpiringSoon { key_id, expires_at, notice_millis }, Lane::of(&stream))
    };
    Ok(concerned.map(notice).collect())
}

fn time_to_next(service: &Service, times: &[i64]) -> Duration {
    let known = service.webhooks.deliveries.watermarks();
    let next = times.iter().filter_map(|time| {
        let after = *known.get(time)?;
        let next = service.index.expiries_between(after, Timestamp::from_millis(i64::MAX), 1);
        next.first().map(|(end, _)| end.millis().saturating_sub(*time))
    });
    let Some(next) = next.min() else { return SLEEP_MAX };
    let millis = next.saturating_sub(service.now().millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).clamp(SLEEP_MIN / 10, SLEEP_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const TIMES: [i64; 3] = [10, 70, 300];

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn step(keys: &BTreeSet<(i64, u128)>, watermarks: &mut Watermarks, now: i64) -> Vec<(u128, i64)> {
        let mut notices = Vec::new();
        loop {
            let (found, next, more) = due(&TIMES, watermarks, at(now), |after, through| {
                keys.iter()
                    .map(|(end, id)| (at(*end), KeyId::from_u128(*id)))
                    .filter(|key| *key > after && key.0 <= through)
                    .take(BATCH_LEN)
                    .collect()
            });
            *watermarks = next;
            notices.extend(found.into_iter().map(|due| (due.key_id.to_u128(), due.notice_millis)));
            if !more {
                return notices;
            }
        }
    }

    #[test]
    fn each_notice_comes_once() {
        let (keys, mut watermarks) = (BTreeSet::from([(1_000, 1), (1_000, 2)]), Watermarks::new());
        for (now, expected) in [
            (500, vec![]),
            (699, vec![]),
            (700, vec![(1, 300), (2, 300)]),
            (701, vec![]),
            (930, vec![(1, 70), (2, 70)]),
            (995, vec![(1, 10), (2, 10)]),
            (1_001, vec![]),
        ] {
            assert_eq!(step(&keys, &mut watermarks, now), expected, "at {now}");
        }
    }

    #[test]
    fn of_several_missed_the_nearest_comes() {
        let mut watermarks = Watermarks::new();
        let keys = BTreeSet::from([(1_000, 1), (1_060, 2), (1_250, 3), (990, 4)]);
        assert_eq!(step(&keys, &mut watermarks, 100), []);
        assert_eq!(step(&keys, &mut watermarks, 995), [(1, 10), (2, 70), (3, 300)], "the last has ended");
        assert_eq!(step(&keys, &mut watermarks, 995), []);
        assert_eq!(step(&keys, &mut watermarks, 900), [], "nor when the clock is set back");
    }

    #[test]
    fn more_than_a_batch_comes_too() {
        let mut watermarks = Watermarks::new();
        let keys: BTreeSet<_> = (0..1_000).map(|id| (1_000, id)).collect();
        assert_eq!(step(&keys, &mut watermarks, 100), []);
        assert_eq!(step(&keys, &mut watermarks, 700).len(), 1_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However long the pauses: no key gets a notice twice, and each key that is handled in time gets all
        /// of its notices.
        #[test]
        fn none_twice_and_none_missing(
            ends in prop::collection::btree_set((1_000..3_000_i64, 0..5_u128), 1..20),
            pauses in prop::collection::vec(1..200_i64, 1..60),
        ) {
            let (mut now, mut watermarks, mut notices) = (600, Watermarks::new(), Vec::new());
            let mut looks = vec![now];
            step(&ends, &mut watermarks, now);
            for pause in pauses {
                now += pause;
                looks.push(now);
                notices.extend(step(&ends, &mut watermarks, now));
            }
            for (end, id) in &ends {
                for (index, time) in TIMES.iter().enumerate() {
                    let until = index.checked_sub(1).map_or(*end, |nearer| end - TIMES[nearer]);
                    let in_time = looks.iter().any(|look| *look >= end - time && *look < until);
                    let same_id: Vec<_> = ends.iter().filter(|it| it.1 == *id).collect();
                    if same_id.len() == 1 {
                        let count = notices.iter().filter(|it| **it == (*id, *time)).count();
                        prop_assert_eq!(count, usize::from(in_time), "{} before the end of {}", time, end);
                    }
                }
            }
        }
    }
}
