//! `proof`: writes a file that proves that one event is in the log, to every holder of the log's verifier
//! key.

use std::path::PathBuf;

use keyledger_engine::log::LogReader;
use keyledger_engine::transparency::proof::{FILE_EXTENSION, InclusionProof};
use keyledger_engine::transparency::tree;
use keyledger_engine::value::position::Position;
use serde_json::json;

use crate::arguments::{CheckpointOptions, Options};
use crate::checkpoints;
use crate::key_encryption;
use crate::output::report::{Failure, Report, grouped};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

pub(crate) fn run(
    options: &Options,
    checkpoint_options: &CheckpointOptions,
    position: u64,
    output: Option<PathBuf>,
) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    let log = stopped_log::open(&directory, key_encryption::fetch(&options.kek)?.as_deref())?;
    let (position, head) = (Position::new(position), log.head()?);
    let Some(before) = position.entry_index().filter(|_| position <= head) else {
        let head = grouped(head.get());
        return Err(Failure::could_not_run(format!(
            "{position}: not in the log, which has positions 1 to {head}; name one of those"
        )));
    };
    let checkpoints = checkpoints::read(&directory, checkpoint_options)?;
    let Some((checkpoint, note)) = checkpoints.newest(head).filter(|(it, _)| it.size >= position.get())
    else {
        return Err(Failure::could_not_run(format!(
            "{position}: not covered by a signed checkpoint yet; start the service, which signs one"
        )));
    };
    if tree::root(log.as_ref(), checkpoint.size)? != checkpoint.root {
        return Err(Failure::wrong(format!(
            "{}: the log differs from the signed checkpoint at position {}; run `replay-tool verify`",
            log.file(),
            grouped(checkpoint.size)
        )));
    }
    let missing = || Failure::wrong(format!("{}: no event at position {position}", log.file()));
    let proof = InclusionProof::new(log.as_ref(), position, note, checkpoint.size)?.ok_or_else(missing)?;
    let entries = log.read_entries(Position::new(before), 1)?;
    let entry = entries.first().ok_or_else(missing)?;
    let verifier = checkpoints::verifier(&directory, checkpoint_options)?;
    proof.verify(entry, &verifier).map_err(|error| Failure::wrong(format!("{}: {error}", log.file())))?;

    let path = output.unwrap_or_else(|| PathBuf::from(format!("event-{position}.{FILE_EXTENSION}")));
    let entry_path = path.with_extension("entry");
    let write = |path: &PathBuf, bytes: &[u8]| {
        std::fs::write(path, bytes).map_err(|error| {
            Failure::could_not_run(format!(
                "{}: cannot be written: {error}; name another file with --output",
                path.display()
            ))
        })
    };
    write(&path, proof.to_text().as_bytes())?;
    write(&entry_path, entry)?;
    let text = format!(
        "{}: proof of the event at position {position}, under the checkpoint of {} events\n\
         {}: the event's bytes\n\
         verifier key: {verifier}",
        path.display(),
        grouped(checkpoint.size),
        entry_path.display()
    );
    let json = json!({
        "command": "proof", "ok": true, "position": position.get(), "proof": path, "entry": entry_path,
        "checkpoint_size": checkpoint.size, "verifier_key": verifier.to_string(),
    });
    Report::new(text, &json, None)
}
