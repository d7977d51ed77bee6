//! `verify`: reads the whole log and checks every byte of it, and compares the projections with it.

use keyledger_engine::log::redb::{RedbReader, VerifyReport};
use keyledger_engine::transparency::signed_checkpoints::SignedCheckpoints;
use keyledger_engine::value::position::Position;
use serde_json::json;

use crate::arguments::{CheckpointOptions, KeyOptions, Options};
use crate::checkpoints;
use crate::comparison::{Comparison, Found, compare_all};
use crate::key_encryption;
use crate::log_key::snapshot_key;
use crate::output::progress::{Pace, Progress};
use crate::output::report::{Failure, Report, grouped, hex};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

pub(crate) fn run(
    options: &Options,
    checkpoint_options: &CheckpointOptions,
    keys: &KeyOptions,
    log_only: bool,
) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    let kek = key_encryption::fetch(&options.kek)?;
    let reader = stopped_log::open(&directory, kek.as_deref())?;
    let checkpoints = checkpoints::read(&directory, checkpoint_options)?;
    let mut progress = Progress::start("verify", Position::START);
    let mut reached = Position::START;
    let verified = reader.verify_with_roots(&checkpoints.sizes(), |position, head| {
        progress.set_end(head);
        progress.reached(position);
        reached = position;
    });
    let pace = progress.finish(reached);
    let verified = verified?;
    let is_sound = finding(&verified, &checkpoints).is_none();
    // A replay of a damaged log would only repeat what is known.
    let comparisons = match is_sound && !log_only {
        true => {
            compare_all(&directory, &reader, snapshot_key(&directory, keys, kek.as_ref())?.as_ref())?.into()
        }
        false => Vec::new(),
    };
    report(&reader, &verified, &checkpoints, &comparisons, pace)
}

/// The first damaged position, and what is wrong there. A finding in the log itself is closer to the damage
/// than a differing checkpoint, so it comes first.
fn finding(verified: &VerifyReport, checkpoints: &SignedCheckpoints) -> Option<(Position, String)> {
    let own = verified.finding.as_ref().map(|it| (it.position, it.reason.clone()));
    own.or_else(|| checkpoints.first_difference(verified).map(|it| (it.position(), it.to_string())))
}

fn report(
    reader: &RedbReader,
    verified: &VerifyReport,
    checkpoints: &SignedCheckpoints,
    comparisons: &[Comparison],
    pace: Pace,
) -> Result<Report, Failure> {
    let (file, head) = (reader.file(), verified.head);
    // With a finding, not every entry was read, so there is no root of all of them.
    let root = verified.finding.is_none().then(|| hex(&verified.root));
    let finding = finding(verified, checkpoints);
    let finding = finding.as_ref();
    let different = comparisons.iter().find(|it| it.found == Found::Different);
    let signed = checkpoints.newest(head).map(|(checkpoint, _)| checkpoint.size);
    let json = json!({
        "command": "verify",
        "ok": finding.is_none() && different.is_none(),
        "file": file,
        "log_id": hex(&verified.log_id.0),
        "head": head.get(),
        "tree_size": head.get(),
        "root_hash": root,
        "seconds": pace.seconds(),
        "events_per_second": pace.events_per_second(),
        "checkpoints": checkpoints.sizes().len(),
        "signed_up_to": signed,
        "projections": comparisons.iter().map(|it| it.to_json(head)).collect::<Vec<_>>(),
        "finding": finding.map(|(position, reason)| json!({ "position": position.get(), "reason": reason })),
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
    lines.push(match signed {
        None => "checkpoints: none signed".into(),
        Some(size) => format!(
            "checkpoints: {}, the newest up to position {}",
            grouped(checkpoints.sizes().len() as u64),
            grouped(size)
        ),
    });
    lines.push(match finding {
        None if signed.is_some() => "every record, checksum, hash, stream and checkpoint is correct".into(),
        None => "every record, checksum, hash and stream is correct".into(),
        Some((position, _)) => format!("first bad position: {position}"),
    });
    lines.extend(comparisons.iter().map(|it| format!("{}: {}", it.projection, it.words)));
    let damaged = finding.map(|(position, reason)| {
        format!("{file}: damaged at position {position}: {reason}; restore it from a backup")
    });
    let forged = different.map(|it| {
        format!(
            "{}: {}; the log is correct: find out who can write to the projections, and run `replay-tool rebuild`",
            it.projection, it.words
        )
    });
    let wrong = damaged.or(forged);
    Report::new(lines.join("\n"), &json, wrong)
}
