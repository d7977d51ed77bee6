//! The signed checkpoints of a log.

use std::path::Path;

use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::transparency::note::Verifier;
use keyledger_engine::transparency::signed_checkpoints::SignedCheckpoints;

use crate::arguments::CheckpointOptions;
use crate::output::report::Failure;
use keyledger_engine::storage::data_directory::DataDirectory;

/// Reads the checkpoints in the data directory, and the one given with `--checkpoint`. Checks every
/// signature.
pub(crate) fn read(
    directory: &DataDirectory,
    options: &CheckpointOptions,
) -> Result<SignedCheckpoints, Failure> {
    let path = directory.checkpoints();
    let shown = path.display().to_string();
    let kept = checkpoint_file::read(&path)
        .map_err(|error| Failure::wrong(format!("{shown}: {error}; restore it from a backup")))?;
    let mut notes: Vec<(String, String)> =
        kept.into_iter().map(|signed| (shown.clone(), signed.checkpoint)).collect();
    if let Some(path) = &options.checkpoint {
        notes.push((path.display().to_string(), read_text(path)?));
    }
    if notes.is_empty() {
        return Ok(SignedCheckpoints::default());
    }
    let verifier = verifier(directory, options)?;
    let mut checkpoints = Vec::with_capacity(notes.len());
    for (file, note) in notes {
        let checkpoint = Checkpoint::open(&note, &verifier).map_err(|error| {
            Failure::wrong(format!(
                "{file}: invalid checkpoint: {error}; compare the key and the file with copies kept elsewhere"
            ))
        })?;
        checkpoints.push((checkpoint, note));
    }
    Ok(SignedCheckpoints::new(checkpoints))
}

/// The log's verifier key: `--log-key`, or the key in the data directory.
pub(crate) fn verifier(directory: &DataDirectory, options: &CheckpointOptions) -> Result<Verifier, Failure> {
    match given_verifier(options)? {
        Some(verifier) => Ok(verifier),
        None => {
            let path = directory.log_verifier();
            parse_verifier(&path.display().to_string(), &read_text(&path)?)
        }
    }
}

/// The verifier key in `--log-key`.
pub(crate) fn given_verifier(options: &CheckpointOptions) -> Result<Option<Verifier>, Failure> {
    options.log_key.as_deref().map(|text| parse_verifier("--log-key", text)).transpose()
}

fn parse_verifier(shown: &str, text: &str) -> Result<Verifier, Failure> {
    text.parse().map_err(|error| {
        Failure::could_not_run(format!("{shown}: {error}; `keyledger log-key` prints the correct one"))
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::could_not_run(format!("{}: cannot be read: {error}; check the path", path.display()))
    })
}
