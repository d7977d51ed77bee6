//! The seed of random tests.

use std::env;

use rand::rngs::{StdRng, SysRng};
use rand::{SeedableRng, TryRng};

/// A random number generator seeded from `KEYLEDGER_SEED`, or from a fresh seed. Prints the seed, so that a
/// failed test's output is enough to repeat the run.
///
/// # Panics
/// When `KEYLEDGER_SEED` is not a number.
#[must_use]
pub fn rng(test: &str) -> StdRng {
    let seed = env::var("KEYLEDGER_SEED").map_or_else(
        |_| u64::from_le_bytes(fresh()),
        |text| text.parse().expect("KEYLEDGER_SEED must be a number below 2^64"),
    );
    println!("{test}: seed {seed}; rerun with KEYLEDGER_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness.
#[must_use]
pub fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness");
    bytes
}
