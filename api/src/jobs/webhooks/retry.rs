//! When a message that did not arrive is sent again.

use std::time::Duration;

use rand::{Rng, RngExt};

/// However long a receiver asks to be left alone, it is not longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait after each attempt, as the specification advises.
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

/// How long to wait after the attempt with this number, from 0; none when it was the last. The delay is spread over half to
/// one and a half of what `delays` says, so that messages that failed together do not come back together, and is what the
/// receiver asks for if that is longer.
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
    fn waiting_grows_is_spread_and_ends() {
        let mut rng = StdRng::seed_from_u64(1);
        for (attempt, delay) in (0..).zip(DELAYS) {
            let waits: Vec<_> = (0..100).map(|_| wait(&DELAYS, attempt, None, &mut rng).unwrap()).collect();
            assert!(waits.iter().all(|wait| *wait >= delay / 2 && *wait < delay * 3 / 2));
            assert!(waits.iter().max() > waits.iter().min().map(|least| *least * 2).as_ref());
        }
        assert_eq!(wait(&DELAYS, 9, None, &mut rng), None);
    }

    #[test]
    fn a_receiver_can_ask_for_more_time_but_not_for_ever() {
        let mut rng = StdRng::seed_from_u64(1);
        let hour = Duration::from_secs(3_600);
        assert_eq!(wait(&DELAYS, 0, Some(hour), &mut rng), Some(hour));
        assert_eq!(wait(&DELAYS, 0, Some(hour * 1_000), &mut rng), Some(hour * 24));
        assert!(wait(&DELAYS, 0, Some(Duration::ZERO), &mut rng).unwrap() >= DELAYS[0] / 2);
    }
}
