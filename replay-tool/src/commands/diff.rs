//! `diff`: compares the projections with a fresh replay.
//!
//! A projection's file is copied before it is opened, because opening a file that a crash left may write to
//! it. A file may be behind the log, as a crash loses the records applied last, so it is compared with a
//! replay up to its own position. Equal rows stay equal from there on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use keyledger_engine::log::LogReader;
use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::key_list::KeyListProjection;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::replay::first_difference;
use keyledger_projections::stored::store::{self, Snapshot, path_of};
use keyledger_projections::verification::VerificationIndex;
use serde_json::{Value, json};

use crate::arguments::Options;
use crate::output::report::{Failure, Report, grouped};
use crate::replays;
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

/// The comparison of one projection.
struct Comparison {
    projection: &'static str,
    /// The projection's position, if its file could be read.
    position: Option<Position>,
    /// The first row that differs.
    row: Option<String>,
    /// The result in words.
    words: String,
    same: bool,
}

impl Comparison {
    const fn new(projection: &'static str, position: Option<Position>, words: String, same: bool) -> Self {
        Self { projection, position, row: None, words, same }
    }

    const fn different(projection: &'static str, position: Option<Position>, words: String) -> Self {
        Self::new(projection, position, words, false)
    }

    fn to_json(&self, head: Position) -> Value {
        json!({
            "projection": self.projection,
            "same": self.same,
            "position": self.position.map(Position::get),
            "behind": self.position.map(|position| head.get().saturating_sub(position.get())),
            "row": self.row,
            "detail": self.words,
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    let reader = stopped_log::open(&directory)?;
    let head = reader.head()?;
    let comparisons = [
        compare(&directory, KeyListProjection::without_readers(), &reader)?,
        compare(&directory, AuditTrail::new(reader.clone()).1, &reader)?,
        compare_verification(&directory, &reader)?,
    ];
    let mut lines = vec![format!("{}: {} events", reader.file(), grouped(head.get()))];
    lines.extend(comparisons.iter().map(|it| format!("{}: {}", it.projection, it.words)));
    let wrong = comparisons.iter().find(|it| !it.same);
    let json = json!({
        "command": "diff",
        "ok": wrong.is_none(),
        "head": head.get(),
        "projections": comparisons.iter().map(|it| it.to_json(head)).collect::<Vec<_>>(),
    });
    let wrong = wrong.map(|it| {
        let projections = directory.projections();
        let (directory, data) = (projections.display(), options.data.display());
        let (projection, words) = (it.projection, &it.words);
        format!("{directory}: {projection}: {words}; run `replay-tool rebuild --data {data}`")
    });
    Report::new(lines.join("\n"), &json, wrong)
}

fn compare<P: Projection>(
    directory: &DataDirectory,
    projection: P,
    reader: &Arc<RedbReader>,
) -> Result<Comparison, Failure> {
    let different = |position, words| Ok(Comparison::different(P::NAME, position, words));
    let path = path_of(&directory.projections(), P::NAME);
    if !path.exists() {
        return different(
            None,
            format!("{} is missing; the service builds it at its next start", path.display()),
        );
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
            return different(None, format!("{} is damaged: {reason}", path.display()));
        }
        Err(error) => return Err(error.into()),
    };
    // It is open now. Unlinked, nothing remains of it however the process ends.
    let _ = fs::remove_file(&copy);
    let position = rows.checkpoint().position;
    if let Some(reason) = mismatch::<P>(&rows, reader)? {
        return different(Some(position), reason);
    }
    let fresh = match replays::stored(&scratch, projection, reader, position) {
        Ok(fresh) => fresh,
        Err(error @ store::Error::Poisoned { .. }) => return different(Some(position), error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let place = place_of(position, reader.head()?);
    let found = match first_difference::<P>(&rows, fresh.rows()) {
        Ok(found) => found,
        Err(store::Error::Damaged { reason, .. }) => {
            return different(Some(position), format!("{} is damaged: {reason}", path.display()));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match found {
        None => Comparison::new(P::NAME, Some(position), format!("{place}; equal to a fresh replay"), true),
        Some(difference) => {
            let row = difference.row;
            let words = match (difference.in_first, difference.in_second) {
                (true, false) => format!("{place}; {row} is in the file and not in a fresh replay"),
                (false, true) => format!("{place}; {row} is in a fresh replay and not in the file"),
                _ => format!("{place}; {row} differs from a fresh replay"),
            };
            Comparison { row: Some(row), ..Comparison::different(P::NAME, Some(position), words) }
        }
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
    } else if checkpoint.leaf != replays::leaf_at(reader, position)? {
        Some(format!("the log has another event at position {position} than the one it was made from"))
    } else {
        None
    })
}

/// Compares the verification index that the next start would load from its snapshot with a freshly replayed
/// one.
fn compare_verification(directory: &DataDirectory, reader: &RedbReader) -> Result<Comparison, Failure> {
    const NAME: &str = "verification";
    let head = reader.head()?;
    let fresh = VerificationIndex::new();
    replays::verification("replay verification", &fresh, reader)?;
    let path = directory.verification_snapshot();
    if !path.exists() {
        let words = "no snapshot; the next start replays the log".to_owned();
        return Ok(Comparison::new(NAME, None, words, true));
    }
    let different = |position, words| Ok(Comparison::different(NAME, position, words));
    let snapshot = match VerificationIndex::load_snapshot(&path) {
        Ok(snapshot) => snapshot,
        Err(error) => return different(None, format!("{}: {error}", path.display())),
    };
    let position = snapshot.position;
    if snapshot.source != reader.source_id() {
        return different(
            Some(position),
            "the snapshot was made from another log, or with the keys of another vault".into(),
        );
    }
    if position > head {
        return different(
            Some(position),
            format!("the snapshot is at position {position}, ahead of the log, which ends at {head}"),
        );
    }
    if position > Position::START && snapshot.entry_hash != replays::leaf_at(reader, position)? {
        let words = format!(
            "the log has another event at position {position} than the one the snapshot was made from"
        );
        return different(Some(position), words);
    }
    if let Err(failure) = replays::verification("catch up the snapshot", &snapshot.index, reader) {
        return different(
            Some(position),
            format!("later records cannot be applied to the snapshot: {}", failure.line),
        );
    }
    let place = place_of(position, head);
    Ok(match snapshot.index.first_difference(&fresh) {
        None => {
            let words = format!("snapshot {place}; caught up, it equals a fresh replay");
            Comparison::new(NAME, Some(position), words, true)
        }
        Some(what) => {
            let words = format!("snapshot {place}; caught up, {what} differs from a fresh replay");
            Comparison { row: Some(what), ..Comparison::different(NAME, Some(position), words) }
        }
    })
}

fn place_of(position: Position, head: Position) -> String {
    match head.get().saturating_sub(position.get()) {
        0 => format!("at position {position}, the log's end"),
        behind => format!("at position {position}, {} behind the log's end", grouped(behind)),
    }
}
