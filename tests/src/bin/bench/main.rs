//! The benchmarks of the whole service, over HTTP and against the servers that others would use instead.
//!
//! Everything is measured in one run, in rounds that go through all contestants in turn, and printed as ratios: on a
//! machine that others use too only those mean something. `KEYLEDGER_BENCH_KEYS`, `KEYLEDGER_BENCH_ROUNDS` and
//! `KEYLEDGER_BENCH_SECONDS` choose the number of keys, of rounds, and the length of a round; the argument
//! `verifications` or `creates` measures only those.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot run has nothing better to do"
)]

mod baseline;
mod creates;
mod neighbours;
mod ratio;
mod verifications;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyledger_tests::processes::binaries;
use tempfile::TempDir;

use crate::ratio::Report;

/// What the environment says about the run.
struct Settings {
    keys: usize,
    rounds: usize,
    round: Duration,
    /// Where all stores put their data, so that they share one disk.
    place: TempDir,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default: usize| {
            env::var(name)
                .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
        };
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| binaries::workspace().join("target"), PathBuf::from);
        let place = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(target)
            .expect("the target directory is there");
        Self {
            keys: number("KEYLEDGER_BENCH_KEYS", 100_000),
            rounds: number("KEYLEDGER_BENCH_ROUNDS", 7),
            round: Duration::from_secs(number("KEYLEDGER_BENCH_SECONDS", 3) as u64),
            place,
        }
    }

    fn place(&self) -> &Path {
        self.place.path()
    }
}

fn main() {
    let only = env::args().nth(1);
    if only.as_deref() == Some(baseline::ARGUMENT) {
        baseline::serve();
        return;
    }
    let chosen = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let settings = Settings::read();
    let mut report = Report::default();
    if chosen("verifications") {
        verifications::measure(&settings, &mut report);
    }
    if chosen("creates") {
        creates::measure(&settings, &mut report);
    }
    print!("{report}");
}
