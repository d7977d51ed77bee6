//! The checkpoints that were signed for a log, and whether the log is what they say.

use std::path::Path;

use keyledger_engine::log::redb::VerifyReport;
use keyledger_engine::position::Position;
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::transparency::note::Verifier;

use crate::arguments::CheckpointOptions;
use crate::data_directory::DataDirectory;
use crate::report::{Failure, grouped};

/// Signed checkpoints, smallest first, each with the note it came from.
pub(crate) struct Checkpoints(Vec<(Checkpoint, String)>);

impl Checkpoints {
    /// Those that the data directory holds, and one from elsewhere if it is given; every signature is checked.
    pub(crate) fn read(directory: &DataDirectory, options: &CheckpointOptions) -> Result<Self, Failure> {
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
            return Ok(Self(Vec::new()));
        }
        let verifier = verifier(directory, options)?;
        let mut checkpoints = Vec::with_capacity(notes.len());
        for (file, note) in notes {
            let checkpoint = Checkpoint::open(&note, &verifier).map_err(|error| {
                Failure::wrong(format!(
                    "{file}: a checkpoint is not good: {error}; compare the key and the file with copies kept elsewhere"
                ))
            })?;
            checkpoints.push((checkpoint, note));
        }
        checkpoints.sort_by_key(|(checkpoint, _)| checkpoint.size);
        Ok(Self(checkpoints))
    }

    /// The sizes of the tree that were signed.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        self.0.iter().map(|(checkpoint, _)| checkpoint.size).collect()
    }

    /// The largest that the log can be compared with, and its note.
    pub(crate) fn newest(&self, head: Position) -> Option<&(Checkpoint, String)> {
        self.0.iter().rev().find(|(checkpoint, _)| checkpoint.size <= head.get())
    }

    /// The first position at which the log is not what was signed, and what is wrong there.
    pub(crate) fn first_difference(&self, report: &VerifyReport) -> Option<(Position, String)> {
        let mut roots = report.roots.iter().copied().peekable();
        let mut good = 0;
        for (checkpoint, _) in &self.0 {
            let (size, next) = (checkpoint.size, Position::new(good).next());
            // Two checkpoints may have one size.
            while roots.next_if(|(at, _)| *at < size).is_some() {}
            match roots.peek() {
                Some((at, root)) if *at == size && *root == checkpoint.root => good = size,
                Some((at, _)) if *at == size => {
                    let reason = format!(
                        "the events from here to position {} are not those that a checkpoint was signed for",
                        grouped(size)
                    );
                    return Some((next, reason));
                }
                _ if size > report.head.get() => {
                    let head = report.head;
                    let reason = format!(
                        "the log ends at position {}, but a checkpoint was signed up to position {}",
                        grouped(head.get()),
                        grouped(size)
                    );
                    return Some((head.next(), reason));
                }
                // The entries could not be read so far; the log's own finding says why.
                _ => return None,
            }
        }
        None
    }
}

/// The key that checks signatures: the one given, or the data directory's own.
pub(crate) fn verifier(directory: &DataDirectory, options: &CheckpointOptions) -> Result<Verifier, Failure> {
    let (shown, text) = match &options.log_key {
        Some(text) => ("--log-key".to_owned(), text.clone()),
        None => {
            let path = directory.log_verifier();
            (path.display().to_string(), read_text(&path)?)
        }
    };
    text.parse().map_err(|error| {
        Failure::could_not_run(format!("{shown}: {error}; `keyledger log-key` prints the right one"))
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::could_not_run(format!("{}: cannot be read: {error}; check the path", path.display()))
    })
}
