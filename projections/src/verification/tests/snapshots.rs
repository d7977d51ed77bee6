//! Snapshots: a saved one restores the index, and a damaged one is refused.

use std::fs;
use std::path::{Path, PathBuf};

use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::id::{ApplicationId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::position::Position;
use keyledger_engine::vault::Subject;
use tempfile::TempDir;

use super::super::{MAC_PURPOSE, SnapshotError};
use super::{Code, History, VerificationIndex, code, key, revoked};

const SOURCE: SourceId = SourceId([7; 16]);
const ENTRY_HASH: [u8; 32] = [9; 32];

/// Where snapshots are saved.
struct Place {
    directory: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("verification.snapshot"), directory }
    }
}

/// An index with one organization.
fn acme() -> (History, VerificationIndex, OrganizationId) {
    let (mut history, index) = (History::new(), VerificationIndex::new());
    let acme: OrganizationId = "acme".parse().unwrap();
    index.apply(&history.organization(&acme)).unwrap();
    (history, index, acme)
}

#[test]
fn a_loaded_index_continues() {
    let Place { directory, path } = Place::new();
    let (mut history, index, acme) = acme();
    let (created, token) = history.key(KeyId::from_u128(1), &acme);
    index.apply(&created).unwrap();
    let (root_created, root_token) = history.root_key(RootKeyId::from_u128(1));
    index.apply(&root_created).unwrap();
    let position = index
        .save_snapshot_with(
            &path,
            SOURCE,
            &key(),
            |position| {
                assert_eq!(position, Position::new(3));
                Ok(ENTRY_HASH)
            },
            || true,
        )
        .unwrap();
    assert_eq!(position, Position::new(3));
    // A second snapshot replaces the first.
    index.save_snapshot(&path, SOURCE, ENTRY_HASH, &key()).unwrap();
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(files, ["verification.snapshot"]);

    let loaded = VerificationIndex::load_snapshot(&path, Some(&key())).unwrap();
    assert_eq!((loaded.source, loaded.position, loaded.entry_hash), (SOURCE, position, ENTRY_HASH));
    let index = loaded.index;
    assert_eq!(index.position(), position);
    assert_eq!(*index.watch().borrow(), position);
    assert_eq!(code(&index, token.expose(), history.now), Code::Valid);
    assert!(index.authenticate_root_key(root_token.expose()).is_some());
    let record = history.record(StreamId::Key(KeyId::from_u128(1)), Some(acme), revoked());
    index.apply(&record).unwrap();
    assert_eq!(code(&index, token.expose(), history.now), Code::Revoked);
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let Place { directory: _directory, path } = Place::new();
    let (mut history, index, acme) = acme();
    index.apply(&history.key(KeyId::from_u128(1), &acme).0).unwrap();
    index.save_snapshot(&path, SOURCE, ENTRY_HASH, &key()).unwrap();
    let valid = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let loaded = VerificationIndex::load_snapshot(&path, Some(&key()));
        matches!(loaded, Err(SnapshotError::Unusable(_) | SnapshotError::Unauthentic))
    };
    for index in 0..valid.len() {
        let mut bad = valid.clone();
        bad[index] ^= 1 << (index % 8);
        assert!(refused(&bad), "byte {index} changed");
        assert!(refused(&valid[..index]), "cut to {index} bytes");
    }
    assert!(refused(&[&valid[..], &[0]].concat()));
    fs::write(&path, valid).unwrap();
    assert!(VerificationIndex::load_snapshot(&path, Some(&key())).is_ok());
}

#[test]
fn a_snapshot_of_another_key_is_not_authentic() {
    let Place { directory: _directory, path } = Place::new();
    acme().1.save_snapshot(&path, SOURCE, ENTRY_HASH, &key()).unwrap();
    for other in [MacKey::derive(&[3; 32], "another purpose"), MacKey::derive(&[4; 32], MAC_PURPOSE)] {
        let loaded = VerificationIndex::load_snapshot(&path, Some(&other));
        assert!(matches!(loaded, Err(SnapshotError::Unauthentic)));
    }
    // Without a key nothing is known about who wrote it.
    assert!(VerificationIndex::load_snapshot(&path, None).is_ok());
}

#[test]
fn a_snapshot_that_cannot_be_saved_leaves_the_previous_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("verification.snapshot");
    let index = VerificationIndex::new();
    index.save_snapshot(&path, SOURCE, ENTRY_HASH, &key()).unwrap();
    let failed = index.save_snapshot_with(
        &path,
        SOURCE,
        &key(),
        |_| Err(SnapshotError::Unsavable("the log is not there".into())),
        || true,
    );
    assert!(failed.is_err());
    assert!(VerificationIndex::load_snapshot(&path, Some(&key())).is_ok());
    let missing = Path::new("/nonexistent/verification.snapshot");
    assert!(matches!(index.save_snapshot(missing, SOURCE, ENTRY_HASH, &key()), Err(SnapshotError::Io(_))));
    assert!(matches!(VerificationIndex::load_snapshot(missing, Some(&key())), Err(SnapshotError::Io(_))));
}

#[test]
fn a_restored_index_is_the_one_that_a_replay_makes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("verification.snapshot");
    let mut history = History::new();
    let (replayed, other) = (VerificationIndex::new(), VerificationIndex::new());
    let acme: OrganizationId = "acme".parse().unwrap();
    let mut records = vec![history.organization(&acme), history.root_key(RootKeyId::from_u128(1)).0];
    records.push(history.application(ApplicationId::from_u128(1), Some(acme.clone())));
    records.extend((1..=9).map(|id| history.key(KeyId::from_u128(id), &acme).0));
    for record in &records {
        replayed.apply(record).unwrap();
        assert_eq!(replayed.first_difference(&other), Some("the position".into()));
        other.apply(record).unwrap();
        assert_eq!(replayed.first_difference(&other), None);
    }
    replayed.save_snapshot(&path, SOURCE, ENTRY_HASH, &key()).unwrap();
    let restored = VerificationIndex::load_snapshot(&path, Some(&key())).unwrap().index;
    assert_eq!(restored.first_difference(&replayed), None);

    let (one, two) = (KeyId::from_u128(1), KeyId::from_u128(2));
    let record = history.record(StreamId::Key(one), Some(acme.clone()), revoked());
    replayed.apply(&record).unwrap();
    other
        .apply(&keyledger_engine::domain::record::Record { stream: StreamId::Key(two), ..record.clone() })
        .unwrap();
    restored.apply(&record).unwrap();
    assert_eq!(restored.first_difference(&replayed), None);
    assert_eq!(replayed.first_difference(&other), Some(one.to_string()));
    assert_eq!(other.first_difference(&replayed), Some(one.to_string()));
}

#[test]
fn nothing_is_left_of_a_snapshot_that_an_erasure_or_its_caller_interrupts() {
    let Place { directory, path } = Place::new();
    let (mut history, index, acme) = acme();
    for number in 1..4 {
        index.apply(&history.key(KeyId::from_u128(number), &acme).0).unwrap();
    }
    let files = || fs::read_dir(directory.path()).unwrap().count();
    // Before every piece: the first, those between, and the last one, which is empty.
    for moment in 0..4 {
        for erases in [true, false] {
            let mut asked = 0;
            let keep_going = || {
                asked += 1;
                if erases && asked > moment {
                    index.erase(&Subject::Organization(acme.clone()));
                }
                erases || asked <= moment
            };
            let saved = index.save_in_pieces(&path, SOURCE, &key(), |_| Ok(ENTRY_HASH), keep_going, 1);
            assert!(matches!(saved, Err(SnapshotError::Interrupted)), "{moment} {erases}");
            assert_eq!(files(), 0);
        }
    }
    // The next snapshot can be saved.
    index.save_snapshot(&path, SOURCE, ENTRY_HASH, &key()).unwrap();
    assert_eq!(files(), 1);
}
