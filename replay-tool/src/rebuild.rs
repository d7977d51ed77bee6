//! `rebuild`: the projections anew.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use keyledger_engine::log::LogReader;
use keyledger_engine::log::redb::RedbReader;
use keyledger_projections::audit_trail::AuditTrail;
use keyledger_projections::key_list::KeyList;
use keyledger_projections::projection::Projection;
use keyledger_projections::rebuild;
use keyledger_projections::store::path_of;
use serde_json::{Value, json};

use crate::arguments::{Options, ProjectionName};
use crate::data_directory::DataDirectory;
use crate::progress::Progress;
use crate::report::{Failure, Report, grouped};

pub(crate) fn run(options: &Options, only: Option<ProjectionName>) -> Result<Report, Failure> {
    let directory = DataDirectory::open(&options.data)?;
    // Open to the end: the service cannot start meanwhile.
    let reader = directory.open_log()?;
    let mut lines = Vec::new();
    let mut rebuilt = Vec::new();
    let asked = |name| only.is_none_or(|only| only == name);
    if asked(ProjectionName::KeyList) {
        rebuilt.push(rebuild(&directory, KeyList::new().1, &reader, &mut lines)?);
    }
    if asked(ProjectionName::AuditTrail) {
        rebuilt.push(rebuild(&directory, AuditTrail::new(reader.clone()).1, &reader, &mut lines)?);
    }
    let snapshot = directory.verification_snapshot();
    let dropped = only.is_none() && delete(&snapshot)?;
    if dropped {
        let snapshot = snapshot.display();
        lines.push(format!(
            "verification: {snapshot} deleted; the index lives in memory, and the next start replays it from the log"
        ));
    }
    let json = json!({
        "command": "rebuild",
        "ok": true,
        "head": reader.head()?.get(),
        "projections": rebuilt,
        "verification_snapshot_deleted": dropped,
    });
    Report::new(lines.join("\n"), &json, None)
}

fn rebuild<P: Projection>(
    directory: &DataDirectory,
    projection: P,
    reader: &Arc<RedbReader>,
    lines: &mut Vec<String>,
) -> Result<Value, Failure> {
    let mut progress = Progress::start(format!("rebuild {}", P::NAME), reader.head()?);
    let reader: Arc<dyn LogReader> = reader.clone();
    let projections = directory.projections();
    let position = rebuild::rebuild(&projections, projection, reader, |position| progress.reached(position))?;
    let pace = progress.finish(position);
    let file = path_of(&projections, P::NAME);
    lines.push(format!(
        "{}: {} made anew from {} events in {pace}",
        P::NAME,
        file.display(),
        grouped(position.get())
    ));
    Ok(json!({
        "projection": P::NAME,
        "file": file.display().to_string(),
        "position": position.get(),
        "seconds": pace.seconds(),
        "events_per_second": pace.events_per_second(),
    }))
}

/// Deletes the file at `path` for good, and says whether it was there.
fn delete(path: &Path) -> Result<bool, Failure> {
    let deleted = match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        deleted => deleted,
    };
    let parent = path.parent().unwrap_or(Path::new("."));
    deleted.and_then(|()| File::open(parent)?.sync_all()).map(|()| true).map_err(|error| {
        let file = path.display();
        Failure::could_not_run(format!("{file}: cannot be deleted: {error}; check its owner and permissions"))
    })
}
