//! Benchmarks of the whole service over HTTP, compared with the servers that could be used instead.
//!
//! One run measures all contestants in turn, round by round, and prints ratios, because on a shared machine
//! only ratios are meaningful. `KEYLEDGER_BENCH_KEYS`, `KEYLEDGER_BENCH_ROUNDS` and `KEYLEDGER_BENCH_SECONDS`
//! set the number of keys, the number of rounds and the length of a round. The argument `verifications` or
//! `creates` runs only that part. `versions PATH` compares the service with another build of it, whose binary
//! is at PATH. `abuse` measures what one client can do to others.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot run fails by panicking"
)]

mod abuse;
mod baseline;
mod creates;
mod neighbours;
mod ratio;
mod verifications;
mod versions;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyledger_tests::processes::binaries;
use tempfile::TempDir;

use crate::ratio::Report;

/// The settings of a run, from the environment.
struct Settings {
    keys: usize,
    rounds: usize,
    round: Duration,
    /// The directory of all data, so that all stores are on one disk.
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
            .expect("the target directory exists");
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
    if only.as_deref() == Some(versions::ARGUMENT) {
        let settings = Settings::read();
        let mut report = Report::default();
        versions::measure(&settings, &mut report);
        print!("{report}");
        return;
    }
    if only.as_deref() == Some(abuse::ARGUMENT) {
        let settings = Settings::read();
        let mut report = Report::default();
        abuse::measure(&settings, &mut report);
        print!("{report}");
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
