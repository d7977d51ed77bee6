//! A token bucket, as the time at which it is full again (the generic cell rate algorithm): it needs one
//! number, and no timer fills it.

use super::quota::Quota;

/// Takes `cost` tokens from a bucket that is full at `full_at`. Times are in nanoseconds of any clock that
/// does not go back. Returns when the bucket is full after that. A cost beyond the whole bucket takes the
/// whole bucket.
///
/// # Errors
/// The nanoseconds until the bucket has the tokens.
pub(crate) fn take(full_at: u64, now: u64, quota: Quota, cost: u64) -> Result<u64, u64> {
    let interval = quota.interval();
    let size = interval.saturating_mul(quota.amount());
    let full_at = full_at.max(now).saturating_add(interval.saturating_mul(cost.min(quota.amount())));
    match (full_at - now).checked_sub(size) {
        None | Some(0) => Ok(full_at),
        Some(wait) => Err(wait),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bucket in plain words: a level that rises by one token in each interval up to the amount.
    struct Model {
        /// In nanoseconds' worth of tokens.
        level: u128,
        now: u64,
    }

    impl Model {
        fn take(&mut self, now: u64, quota: Quota, cost: u64) -> Result<(), u128> {
            let interval = u128::from(quota.interval());
            let size = interval * u128::from(quota.amount());
            self.level = (self.level + u128::from(now - self.now)).min(size);
            self.now = now;
            let price = interval * u128::from(cost.min(quota.amount()));
            if price > self.level {
                return Err(price - self.level);
            }
            self.level -= price;
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_like_its_model(
            amount in 1..200_u64,
            seconds in 1..100_u64,
            steps in prop::collection::vec((0..3_000_000_000_u64, 1..50_u64), 1..200),
        ) {
            let quota: Quota = format!("{amount}/{seconds}s").parse().unwrap();
            let size = u128::from(quota.interval()) * u128::from(amount);
            let mut model = Model { level: size, now: 0 };
            let (mut full_at, mut now) = (0, 0);
            for (pause, cost) in steps {
                now += pause;
                let taken = take(full_at, now, quota, cost);
                let expected = model.take(now, quota, cost);
                prop_assert_eq!(taken.map(drop).map_err(u128::from), expected);
                match taken {
                    Ok(after) => full_at = after,
                    Err(wait) => {
                        // The wait is exact.
                        prop_assert!(take(full_at, now + wait - 1, quota, cost).is_err());
                        prop_assert!(take(full_at, now + wait, quota, cost).is_ok());
                    }
                }
            }
        }

        #[test]
        fn no_more_than_a_bucket_and_its_refill_pass_in_any_time(
            amount in 1..50_u64,
            pauses in prop::collection::vec(0..200_000_000_u64, 1..500),
        ) {
            let quota: Quota = format!("{amount}/1s").parse().unwrap();
            let (mut full_at, mut now, mut passed) = (0, 0_u64, 0_u64);
            for pause in pauses {
                now += pause;
                if let Ok(after) = take(full_at, now, quota, 1) {
                    (full_at, passed) = (after, passed + 1);
                }
            }
            prop_assert!(passed <= amount + now / quota.interval());
        }
    }
}
