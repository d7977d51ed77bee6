//! `verify`: the whole log, read again.

use keyledger_engine::log::redb::{RedbReader, VerifyReport};
use keyledger_engine::position::Position;
use serde_json::json;

use crate::arguments::Options;
use crate::data_directory::DataDirectory;
use crate::progress::{Pace, Progress};
use crate::report::{Failure, Report, grouped, hex};

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let reader = DataDirectory::open(&options.data)?.open_log()?;
    let mut progress = Progress::start("verify", Position::START);
    let mut reached = Position::START;
    let verified = reader.verify(|position, head| {
        progress.set_end(head);
        progress.reached(position);
        reached = position;
    });
    let pace = progress.finish(reached);
    report(&reader, &verified?, pace)
}

fn report(reader: &RedbReader, verified: &VerifyReport, pace: Pace) -> Result<Report, Failure> {
    let (file, head) = (reader.file(), verified.head);
    // The root is that of all entries only when all could be read.
    let root = verified.finding.is_none().then(|| hex(&verified.root));
    let finding = verified.finding.as_ref();
    let json = json!({
        "command": "verify",
        "ok": finding.is_none(),
        "file": file,
        "log_id": hex(&verified.log_id.0),
        "head": head.get(),
        "tree_size": head.get(),
        "root_hash": root,
        "seconds": pace.seconds(),
        "events_per_second": pace.events_per_second(),
        "finding": finding.map(|it| json!({ "position": it.position.get(), "reason": it.reason })),
    });
    let mut lines = vec![format!("{file}: log {}", hex(&verified.log_id.0))];
    lines.push(match head {
        Position::START => "positions: none, the log is empty".into(),
        head => format!("positions: 1 to {}", grouped(head.get())),
    });
    if let Some(root) = root {
        lines.push(format!("root hash: {root}"));
    }
    lines.push(format!("read in {pace}"));
    lines.push(match finding {
        None => "every record, checksum, hash and stream is right".into(),
        Some(finding) => format!("first bad position: {}", finding.position),
    });
    let wrong = finding.map(|finding| {
        let (position, reason) = (finding.position, &finding.reason);
        format!("{file}: damaged at position {position}: {reason}; restore it from a backup")
    });
    Report::new(lines.join("\n"), &json, wrong)
}
