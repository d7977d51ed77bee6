//! Comparison of the projections' files with a fresh replay of the log, for `diff` and `verify`.
//!
//! A projection's file is copied before it is opened, because opening a file that a crash left may write to
//! it. A file may be behind the log, as a crash loses the records applied last, so it is compared with a
//! replay up to its own position. Equal rows stay equal from there on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::log::LogReader;
use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::key_list::KeyListProjection;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::replay::first_difference;
use keyledger_projections::stored::store::{self, Snapshot, path_of};
use keyledger_projections::verification::{SnapshotError, VerificationIndex};
use serde_json::{Value, json};

use crate::output::report::{Failure, grouped};
use crate::replays;
use keyledger_engine::storage::data_directory::DataDirectory;

/// The name of the verification index in reports.
const VERIFICATION: &str = "verification";

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The file holds what the log says.
    Equal,
    /// There is no file. The service builds it from the log.
    Missing,
    /// The next start does not use the file: it is damaged, of another version, or of another log.
    Unusable,
    /// The file would be used, and does not hold what the log says; or its authentication code is wrong.
    Different,
}

/// The comparison of one projection.
pub(crate) struct Comparison {
    pub(crate) projection: &'static str,
    /// The projection's position, if its file could be read.
    position: Option<Position>,
    /// The first row that differs.
    row: Option<String>,
    /// The result in words.
    pub(crate) words: String,
    pub(crate) found: Found,
}

impl Comparison {
    const fn new(projection: &'static str, position: Option<Position>, words: String, found: Found) -> Self {
        Self { projection, position, row: None, words, found }
    }

    pub(crate) fn to_json(&self, head: Position) -> Value {
        json!({
            "projection": self.projection,
            "same": self.is_same(),
            "position": self.position.map(Position::get),
            "behind": self.position.map(|position| head.get().saturating_sub(position.get())),
            "row": self.row,
            "detail": self.words,
        })
    }

    /// Whether the difference needs no action. The verification index needs no snapshot.
    pub(crate) fn is_same(&self) -> bool {
        self.found == Found::Equal || self.found == Found::Missing && self.projection == VERIFICATION
    }
}

/// Compares all projections. Without `key`, nothing is known about who wrote the snapshot, and it is only
/// compared.
pub(crate) fn compare_all(
    directory: &DataDirectory,
    reader: &Arc<RedbReader>,
    key: Option<&MacKey>,
) -> Result<[Comparison; 3], Failure> {
    Ok([
        compare(directory, KeyListProjection::without_readers(), reader)?,
        compare(directory, AuditTrail::new(reader.clone()).1, reader)?,
        compare_verification(directory, reader, key)?,
    ])
}

fn compare<P: Projection>(
    directory: &DataDirectory,
    projection: P,
    reader: &Arc<RedbReader>,
) -> Result<Comparison, Failure> {
    let unusable = |position, words| Ok(Comparison::new(P::NAME, position, words, Found::Unusable));
    let path = path_of(&directory.projections(), P::NAME);
    if !path.exists() {
        let words = format!("{} is missing; the service builds it at its next start", path.display());
        return Ok(Comparison::new(P::NAME, None, words, Found::Missing));
    }
    let scratch = replays::scratch()?;
    let copy = scratch.path().join("copy.redb");
    // The copy must be writable even if the file is not.
    let copied =
        fs::copy(&path, &copy).and_then(|_| fs::set_permissions(&copy, Permissions::from_mode(0o600)));
    copied.map_err(|error| {
        let (file, copy) = (path.display(), copy.display());
        Failure::could_not_run(format!(
            "{file}: cannot be copied to {copy}: {error}; check its permissions, or name another directory with TMPDIR"
        ))
    })?;
    let rows = match Snapshot::open(&copy) {
        Ok(rows) => rows,
        Err(store::Error::Damaged { reason, .. }) => {
            return unusable(None, format!("{} is damaged: {reason}", path.display()));
        }
        Err(error) => return Err(error.into()),
    };
    // It is open now. Unlinked, nothing remains of it however the process ends.
    let _ = fs::remove_file(&copy);
    let position = rows.checkpoint().position;
    if let Some(reason) = mismatch::<P>(&rows, reader)? {
        return unusable(Some(position), reason);
    }
    let fresh = match replays::stored(&scratch, projection, reader, position) {
        Ok(fresh) => fresh,
        Err(error @ store::Error::Poisoned { .. }) => return unusable(Some(position), error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let place = place_of(position, reader.head()?);
    let found = match first_difference::<P>(&rows, fresh.rows()) {
        Ok(found) => found,
        Err(store::Error::Damaged { reason, .. }) => {
            return unusable(Some(position), format!("{} is damaged: {reason}", path.display()));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match found {
        None => {
            let words = format!("{place}; equal to a fresh replay");
            Comparison::new(P::NAME, Some(position), words, Found::Equal)
        }
        Some(difference) => Comparison {
            row: Some(difference.row.clone()),
            ..Comparison::new(P::NAME, Some(position), format!("{place}; {difference}"), Found::Different)
        },
    })
}

/// The reason why the rows cannot be compared with a replay of this log, or `None`.
fn mismatch<P: Projection>(rows: &Snapshot, reader: &RedbReader) -> Result<Option<String>, Failure> {
    let checkpoint = rows.checkpoint();
    let (position, head, version) = (checkpoint.position, reader.head()?, checkpoint.version);
    Ok(if checkpoint.source != reader.source_id() {
        Some("made from another log, or with the keys of another vault".into())
    } else if version != P::VERSION {
        Some(format!("made by version {version} of the projection, this tool has version {}", P::VERSION))
    } else if position > head {
        Some(format!("at position {position}, ahead of the log, which ends at {head}"))
    } else if checkpoint.erasure != newest_erasure(reader)? {
        Some("begun before personal text was erased that it may hold; the next start rebuilds it".into())
    } else if checkpoint.leaf != replays::leaf_at(reader, position)? {
        Some(format!("the log has another event at position {position} than the one it was made from"))
    } else {
        None
    })
}

/// Position of the newest erasure in the log that destroyed a key; the start if there is none.
fn newest_erasure(reader: &RedbReader) -> Result<Position, Failure> {
    Ok(reader.newest_erasure()?.unwrap_or(Position::START))
}

/// Compares the verification index that the next start would load from its snapshot with a freshly replayed
/// one.
fn compare_verification(
    directory: &DataDirectory,
    reader: &RedbReader,
    key: Option<&MacKey>,
) -> Result<Comparison, Failure> {
    let head = reader.head()?;
    let path = directory.verification_snapshot();
    if !path.exists() {
        let words = "no snapshot; the next start replays the log".to_owned();
        return Ok(Comparison::new(VERIFICATION, None, words, Found::Missing));
    }
    let unusable = |position, words| Ok(Comparison::new(VERIFICATION, position, words, Found::Unusable));
    let snapshot = match VerificationIndex::load_snapshot(&path, key) {
        Ok(snapshot) => snapshot,
        Err(error @ SnapshotError::Unauthentic) => {
            let words = format!("{}: {error}", path.display());
            return Ok(Comparison::new(VERIFICATION, None, words, Found::Different));
        }
        Err(error) => return unusable(None, format!("{}: {error}", path.display())),
    };
    let fresh = VerificationIndex::new();
    replays::verification("replay verification", &fresh, reader)?;
    let position = snapshot.position;
    if position < newest_erasure(reader)? {
        let words = "the snapshot was saved before personal text was erased that it may hold; the next start removes it";
        return unusable(Some(position), words.into());
    }
    if snapshot.source != reader.source_id() {
        return unusable(
            Some(position),
            "the snapshot was made from another log, or with the keys of another vault".into(),
        );
    }
    if position > head {
        return unusable(
            Some(position),
            format!("the snapshot is at position {position}, ahead of the log, which ends at {head}"),
        );
    }
    if position > Position::START && snapshot.entry_hash != replays::leaf_at(reader, position)? {
        let words = format!(
            "the log has another event at position {position} than the one the snapshot was made from"
        );
        return unusable(Some(position), words);
    }
    if let Err(failure) = replays::verification("catch up the snapshot", &snapshot.index, reader) {
        let words = format!("later records cannot be applied to the snapshot: {}", failure.line);
        return Ok(Comparison::new(VERIFICATION, Some(position), words, Found::Different));
    }
    let place = place_of(position, head);
    Ok(match snapshot.index.first_difference(&fresh) {
        None => {
            let words = format!("snapshot {place}; caught up, it equals a fresh replay");
            Comparison::new(VERIFICATION, Some(position), words, Found::Equal)
        }
        Some(what) => {
            let words = format!("snapshot {place}; caught up, {what} differs from a fresh replay");
            let compared = Comparison::new(VERIFICATION, Some(position), words, Found::Different);
            Comparison { row: Some(what), ..compared }
        }
    })
}

fn place_of(position: Position, head: Position) -> String {
    match head.get().saturating_sub(position.get()) {
        0 => format!("at position {position}, the log's end"),
        behind => format!("at position {position}, {} behind the log's end", grouped(behind)),
    }
}
