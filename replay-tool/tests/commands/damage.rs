//! Flipped bytes anywhere in a file end in a one-line error, never in a panic.

use std::fs;
use std::path::Path;

use keyledger_engine::log::redb::FILE_NAME;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::fixture::{Data, Ran};

const SEED: u64 = 0x6b6c;

/// Flips one byte or a page of bytes of a file per round, then cuts the file short, and calls `check` after
/// each change.
fn flip(path: &Path, rounds: usize, mut check: impl FnMut(&str)) {
    let good = fs::read(path).unwrap();
    let mut rng = StdRng::seed_from_u64(SEED);
    // Most depends on the header, so every eighth round damages it.
    for round in 0..rounds {
        let end = if round % 8 == 0 { 512 } else { good.len() };
        let (start, len) = (rng.random_range(0..end), if round % 2 == 0 { 1 } else { 4_096 });
        let mut bad = good.clone();
        for byte in bad.iter_mut().skip(start).take(len) {
            *byte ^= rng.random_range(1..=u8::MAX);
        }
        fs::write(path, &bad).unwrap();
        check(&format!("round {round}: {len} bytes at {start}"));
    }
    for len in [0, 100, 4_096, good.len() / 2, good.len() - 1] {
        fs::write(path, &good[..len]).unwrap();
        check(&format!("cut to {len} bytes"));
    }
    fs::write(path, good).unwrap();
}

#[track_caller]
fn is_orderly(ran: &Ran, what: &str) {
    assert!((0..=2).contains(&ran.code), "{what}: {ran:?}");
    assert_eq!(ran.stderr.lines().count(), usize::from(ran.code != 0), "{what}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{what}: {ran:?}");
}

#[test]
fn a_damaged_log_is_reported_in_one_line() {
    let data = Data::with_projections();
    let key = data.key.to_string();
    let mut found = 0;
    flip(&data.path(FILE_NAME), 48, |what| {
        let ran = data.run(&["verify"]);
        is_orderly(&ran, what);
        assert_ne!(ran.code, 2, "{what}: {ran:?}");
        found += ran.code;
        is_orderly(&data.run(&["show", &key]), what);
        is_orderly(&data.run(&["diff"]), what);
    });
    assert!(found > 10, "{found}");
    data.run(&["verify"]).expect(0);
}

#[test]
fn a_damaged_projection_is_reported_as_different_and_can_be_rebuilt() {
    let data = Data::with_projections();
    let mut found = 0;
    flip(&data.path("projections/key-list.redb"), 48, |what| {
        let ran = data.run(&["diff"]);
        is_orderly(&ran, what);
        assert_ne!(ran.code, 2, "{what}: {ran:?}");
        found += ran.code;
        let ran = data.run(&["rebuild", "--projection", "key-list"]);
        assert_eq!(ran.code, 0, "{what}: {ran:?}");
        data.run(&["diff"]).expect(0);
    });
    assert!(found > 10, "{found}");
}
