//! `rebuild`: rebuilds the projections from the log.

use std::path::Path;

use keyledger_engine::log::LogReader;
use keyledger_engine::storage::atomic_file;
use keyledger_projections::audit_trail::{AuditTrail, AuditTrailProjection};
use keyledger_projections::key_list::KeyListProjection;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::rebuild::Rebuilds;
use keyledger_projections::stored::store::path_of;
use keyledger_projections::verification::temporary_of;
use serde_json::json;

use crate::arguments::{Options, ProjectionName};
use crate::key_encryption;
use crate::output::progress::Progress;
use crate::output::report::{Failure, Report, grouped};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

pub(crate) fn run(options: &Options, only: Option<ProjectionName>) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    // Held until the end, so that the service cannot start in the meantime.
    let reader = stopped_log::open(&directory, key_encryption::fetch(&options.kek)?.as_deref())?;
    let projections = directory.projections();
    let mut rebuilds = Rebuilds::new(&projections, reader.clone());
    let asked = |name| only.is_none_or(|only| only == name);
    let mut names = Vec::new();
    if asked(ProjectionName::KeyList) {
        rebuilds.add(KeyListProjection::without_readers())?;
        names.push(KeyListProjection::NAME);
    }
    if asked(ProjectionName::AuditTrail) {
        rebuilds.add(AuditTrail::new(reader.clone()).1)?;
        names.push(AuditTrailProjection::NAME);
    }
    let snapshot = directory.verification_snapshot();
    let dropped = only.is_none() && delete(&snapshot)?;
    if only.is_none() {
        // A service that was killed while it saved the snapshot leaves this file.
        delete(&temporary_of(&snapshot))?;
    }
    let mut progress = Progress::start(format!("rebuild {}", names.join(", ")), reader.head()?);
    let position = rebuilds.run(|position| progress.reached(position))?;
    let pace = progress.finish(position);
    let files: Vec<_> = names.iter().map(|name| path_of(&projections, name).display().to_string()).collect();
    let rebuilt = |(name, file): (&&str, &String)| format!("{name}: {file} rebuilt");
    let mut lines: Vec<_> = names.iter().zip(&files).map(rebuilt).collect();
    lines.push(format!("from {} events in {pace}", grouped(position.get())));
    if dropped {
        let snapshot = snapshot.display();
        lines.push(format!(
            "verification: {snapshot} deleted; the index is in memory, and the next start replays it from the log"
        ));
    }
    let json = json!({
        "command": "rebuild",
        "ok": true,
        "head": reader.head()?.get(),
        "position": position.get(),
        "seconds": pace.seconds(),
        "events_per_second": pace.events_per_second(),
        "projections": names.iter().zip(&files).map(|(name, file)| json!({
            "projection": name,
            "file": file,
            "position": position.get(),
        })).collect::<Vec<_>>(),
        "verification_snapshot_deleted": dropped,
    });
    Report::new(lines.join("\n"), &json, None)
}

/// Deletes the file at `path` durably. Returns whether it existed.
fn delete(path: &Path) -> Result<bool, Failure> {
    atomic_file::remove(path).map_err(|error| {
        let file = path.display();
        Failure::could_not_run(format!("{file}: cannot be deleted: {error}; check its owner and permissions"))
    })
}
