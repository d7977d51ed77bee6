//! The file of signed checkpoints: one JSON object per line, append-only. With a copy kept elsewhere, anyone
//! can later prove that the log was truncated or rewritten.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::value::time::Timestamp;

/// Signed checkpoint with the time of signing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCheckpoint {
    /// When it was signed.
    pub time: Timestamp,
    /// The signed note.
    pub checkpoint: String,
}

/// The file, open for appending.
#[derive(Debug)]
pub struct CheckpointFile(File);

impl CheckpointFile {
    /// Opens or creates the file, and returns its last checkpoint. An incomplete last line left by a crash is
    /// removed: it was never published.
    ///
    /// # Errors
    /// When the file cannot be opened, or a line is not a checkpoint.
    pub fn open(path: &Path) -> io::Result<(Self, Option<SignedCheckpoint>)> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (mut last, mut whole_len) = (None, 0);
        for line in Lines::new(&file) {
            let (line_len, checkpoint) = line?;
            whole_len += line_len;
            last = Some(checkpoint);
        }
        file.set_len(whole_len)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self(file), last))
    }

    /// Appends a checkpoint. It is durable on return.
    ///
    /// # Errors
    /// When it may not be durable.
    pub fn append(&mut self, checkpoint: &SignedCheckpoint) -> io::Result<()> {
        let mut line = serde_json::to_vec(checkpoint)?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        self.0.sync_data()
    }
}

/// Reads all checkpoints of a file, oldest first; none when the file does not exist.
///
/// # Errors
/// When it cannot be read, or a line is not a checkpoint.
pub fn read(path: &Path) -> io::Result<Vec<SignedCheckpoint>> {
    iter(path)?.collect()
}

/// As [`read`], one checkpoint at a time.
///
/// # Errors
/// When the file cannot be opened.
pub fn iter(path: &Path) -> io::Result<impl Iterator<Item = io::Result<SignedCheckpoint>> + Send + use<>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(Lines::new(opened?)),
    };
    Ok(file.into_iter().flatten().map(|line| line.map(|(_, checkpoint)| checkpoint)))
}

/// Length and checkpoint of each complete line.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn new(file: R) -> Self {
        Self { reader: BufReader::new(file), line: Vec::new(), number: 0 }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<(u64, SignedCheckpoint)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line.clear();
        self.number += 1;
        if let Err(error) = self.reader.read_until(b'\n', &mut self.line) {
            return Some(Err(error));
        }
        if self.line.last() != Some(&b'\n') {
            return None;
        }
        let number = self.number;
        Some(match serde_json::from_slice(&self.line) {
            Ok(checkpoint) => Ok((self.line.len() as u64, checkpoint)),
            Err(error) => {
                let reason = format!("line {number} is not a checkpoint: {error}");
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
        })
    }
}
