//! Producing a backup.

use std::io;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::frame::{self, Kind};
use super::{CHECKPOINTS_MAX, COMMANDS_MAX, ENTRIES_MAX, Header, KeptFile, MAGIC, write_command};
use crate::crypto::sha256::Sha256;
use crate::log::merkle::Hash;
use crate::log::{self, LogReader};
use crate::transparency::checkpoint::Checkpoint;
use crate::transparency::checkpoint_file::SignedCheckpoint;
use crate::value::position::Position;

/// Reason why a backup cannot be produced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The checkpoints cannot be read, or something is too long for a backup.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Checkpoints for a backup, in the order of signing.
pub type Checkpoints = Box<dyn Iterator<Item = io::Result<SignedCheckpoint>> + Send>;

/// Signs the SHA-256 of a backup; see [`signature::sign`](super::signature::sign).
pub type Sign = Box<dyn FnOnce(&Hash) -> String + Send>;

/// Producer of a backup, chunk by chunk. The log may grow meanwhile; events after the header's head are left
/// out.
pub struct Source {
    log: Arc<dyn LogReader>,
    header: Header,
    checkpoints: Checkpoints,
    files: std::vec::IntoIter<(KeptFile, Zeroizing<Vec<u8>>)>,
    sign: Option<Sign>,
    stage: Stage,
    hash: Sha256,
}

enum Stage {
    Header,
    Checkpoints,
    /// Entries after this position.
    Entries(Position),
    /// Commands whose first event is after this position.
    Commands(Position),
    Files,
    Done,
}

impl Source {
    /// Prepares a backup of the log up to the header's head. Larger checkpoints are left out. Without `sign`
    /// it has no signature, and nobody can tell later who wrote it.
    #[must_use]
    pub fn new(
        log: Arc<dyn LogReader>,
        header: Header,
        checkpoints: Checkpoints,
        files: Vec<(KeptFile, Zeroizing<Vec<u8>>)>,
        sign: Option<Sign>,
    ) -> Self {
        let files = files.into_iter();
        Self { log, header, checkpoints, files, sign, stage: Stage::Header, hash: Sha256::new() }
    }

    /// Returns the next bytes of the backup; `None` after its end. May block on disk.
    ///
    /// # Errors
    /// When the next bytes cannot be produced. The chunks returned so far are not a backup, and a reader
    /// rejects them.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut chunk = Vec::new();
        while chunk.is_empty() {
            match self.stage {
                Stage::Header => {
                    chunk.extend(MAGIC);
                    let json = self.header.to_json().map_err(io::Error::from)?;
                    chunk.extend(frame::to_bytes(Kind::Header, &json)?);
                    self.stage = Stage::Checkpoints;
                }
                Stage::Checkpoints => chunk = self.checkpoints()?,
                Stage::Entries(after) => chunk = self.entries(after)?,
                Stage::Commands(after) => chunk = self.commands(after)?,
                Stage::Files => match self.files.next() {
                    Some((file, bytes)) => {
                        let mut content = Zeroizing::new(file.name().as_bytes().to_vec());
                        content.push(0);
                        content.extend(bytes.iter());
                        chunk = frame::to_bytes(Kind::File, &content)?;
                    }
                    None => {
                        let hash = std::mem::take(&mut self.hash).finalize();
                        self.stage = Stage::Done;
                        let mut content = hash.to_vec();
                        content
                            .extend(self.sign.take().map(|sign| sign(&hash)).unwrap_or_default().as_bytes());
                        return Ok(Some(frame::to_bytes(Kind::End, &content)?));
                    }
                },
                Stage::Done => return Ok(None),
            }
        }
        self.hash.update(&chunk);
        Ok(Some(chunk))
    }

    fn checkpoints(&mut self) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        for checkpoint in self.checkpoints.by_ref().take(CHECKPOINTS_MAX) {
            let checkpoint = checkpoint?;
            let size = Checkpoint::unverified(&checkpoint.checkpoint).map(|it| it.size);
            if size.is_some_and(|size| size > self.header.head.get()) {
                continue;
            }
            serde_json::to_writer(&mut content, &checkpoint).map_err(io::Error::from)?;
            content.push(b'\n');
        }
        if content.is_empty() {
            self.stage = Stage::Entries(Position::START);
            return Ok(content);
        }
        Ok(frame::to_bytes(Kind::Checkpoints, &content)?)
    }

    fn entries(&mut self, after: Position) -> Result<Vec<u8>, Error> {
        let left = usize::try_from(self.header.head.get().saturating_sub(after.get())).unwrap_or(usize::MAX);
        if left == 0 {
            self.stage = Stage::Commands(Position::START);
            return Ok(Vec::new());
        }
        let entries = self.log.read_entries(after, left.min(ENTRIES_MAX))?;
        if entries.is_empty() {
            let ends = format!("the log ends at position {after}, before {}", self.header.head);
            return Err(log::Error::Unavailable(ends).into());
        }
        let mut content = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 2).sum());
        for entry in &entries {
            let len = u16::try_from(entry.len()).map_err(io::Error::other)?;
            content.extend(len.to_be_bytes());
            content.extend(entry);
        }
        self.stage = Stage::Entries(Position::new(after.get() + entries.len() as u64));
        Ok(frame::to_bytes(Kind::Entries, &content)?)
    }

    fn commands(&mut self, after: Position) -> Result<Vec<u8>, Error> {
        let commands = self.log.commands(after, COMMANDS_MAX)?;
        let Some((_, last)) = commands.last().filter(|_| after < self.header.head) else {
            self.stage = Stage::Files;
            return Ok(Vec::new());
        };
        self.stage = Stage::Commands(last.first);
        let mut content = Vec::with_capacity(commands.len() * super::COMMAND_LEN);
        for (id, command) in commands.iter().filter(|(_, command)| command.last <= self.header.head) {
            write_command(&mut content, id, command);
        }
        if content.is_empty() { Ok(content) } else { Ok(frame::to_bytes(Kind::Commands, &content)?) }
    }
}
