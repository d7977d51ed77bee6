//! The delays between attempts to deliver a message.

use std::time::Duration;

use rand::{Rng, RngExt};

/// A longer `Retry-After` of a receiver is cut to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The default delays after each failed attempt, as Standard Webhooks recommends.
pub(crate) const DELAYS: [Duration; 9] = {
    const fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }
    [
        Duration::from_secs(5),
        minutes(5),
        minutes(30),
        minutes(2 * 60),
        minutes(5 * 60),
        minutes(10 * 60),
        minutes(14 * 60),
        minutes(20 * 60),
        minutes(24 * 60),
    ]
};

/// Returns the delay after attempt number `attempt`, counted from 0; none after the last. The delay is
/// randomized between half and one and a half of the one in `delays`, so that messages that failed together
/// are not retried together. A longer `retry_after` of the receiver takes precedence.
pub(crate) fn wait(
    delays: &[Duration],
    attempt: u16,
    retry_after: Option<Duration>,
    rng: &mut impl Rng,
) -> Option<Duration> {
    let delay = delays.get(usize::from(attempt))?.mul_f64(rng.random_range(0.5..1.5));
    Some(delay.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn delays_grow_are_randomized_and_end() {
        let mut rng = StdRng::seed_from_u64(1);
        for (attempt, delay) in (0..).zip(DELAYS) {
            let waits: Vec<_> = (0..100).map(|_| wait(&DELAYS, attempt, None, &mut rng).unwrap()).collect();
            assert!(waits.iter().all(|wait| *wait >= delay / 2 && *wait < delay * 3 / 2));
            assert!(waits.iter().max() > waits.iter().min().map(|least| *least * 2).as_ref());
        }
        assert_eq!(wait(&DELAYS, 9, None, &mut rng), None);
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_delay_within_a_limit() {
        let mut rng = StdRng::seed_from_u64(1);
        let hour = Duration::from_secs(3_600);
        assert_eq!(wait(&DELAYS, 0, Some(hour), &mut rng), Some(hour));
        assert_eq!(wait(&DELAYS, 0, Some(hour * 1_000), &mut rng), Some(hour * 24));
        assert!(wait(&DELAYS, 0, Some(Duration::ZERO), &mut rng).unwrap() >= DELAYS[0] / 2);
    }
}
