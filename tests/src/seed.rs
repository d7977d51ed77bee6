//! The seed of random tests.

use std::env;

use rand::rngs::{StdRng, SysRng};
use rand::{SeedableRng, TryRng};

/// A random number generator with the seed from `KEYLEDGER_SEED`, or a fresh one. Prints the seed and how to rerun, so
/// that a failure's output is enough to repeat it.
///
/// # Panics
/// When `KEYLEDGER_SEED` is no number.
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
/// When it has none.
#[must_use]
pub fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness");
    bytes
}
