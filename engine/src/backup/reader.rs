//! Reading a backup.

use std::collections::VecDeque;
use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

use super::frame::{self, Kind};
use super::{COMMAND_LEN, Header, KeptFile, MAGIC, read_command, signature};
use crate::codec;
use crate::crypto::sha256::Sha256;
use crate::log::merkle::{Frontier, Hash, leaf_hash};
use crate::log::{CommandId, RememberedCommand};
use crate::transparency::checkpoint::Checkpoint;
use crate::transparency::checkpoint_file::SignedCheckpoint;
use crate::transparency::note::Verifier;
use crate::value::position::Position;

pub use crate::log::Entry;

/// Reason why a backup cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be read.
    #[error("{0}")]
    Io(io::Error),
    /// The bytes are not those that were written. Parts read before may be intact, but this is not certain.
    #[error("damaged at byte {byte}: {reason}")]
    Damaged {
        /// Offset of the damaged part.
        byte: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Part of a backup. Parts come in this order; a kind may have several parts.
#[derive(Debug)]
pub enum Part {
    /// Checkpoints in the order of signing, each with its parsed content.
    Checkpoints(Vec<(SignedCheckpoint, Checkpoint)>),
    /// Events in the order of positions, from 1.
    Entries(Vec<Entry>),
    /// Commands that the log remembers, in the order of their first events.
    Commands(Vec<(CommandId, RememberedCommand)>),
    /// A file with secrets.
    File(KeptFile, Zeroizing<Vec<u8>>),
}

/// Sequential reader of a backup. A backup is known to be complete and intact only when
/// [`next_part`](Self::next_part) has returned `None`: every checksum is correct, the events have the roots
/// of the header and of every checkpoint, and every checkpoint is signed by the key in the header. Whose it
/// is then depends on whose that key is, and on [`is_signed_by`](Self::is_signed_by).
pub struct Reader<R> {
    input: R,
    byte: u64,
    hash: Sha256,
    header: Header,
    verifier: Option<Verifier>,
    stage: Kind,
    frontier: Frontier,
    /// Sizes and roots of checkpoints that were not compared yet, smallest first.
    roots: VecDeque<(u64, Hash)>,
    /// Size and root of the header's checkpoint, until compared.
    newest: Option<(u64, Hash)>,
    /// The SHA-256 at the end, and what signs it; empty if nothing does.
    end: Option<(Hash, String)>,
    frame: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the input is not a backup, or has a format that this version does not support.
    pub fn open(mut input: R) -> Result<Self, Error> {
        let mut magic = [0; MAGIC.len()];
        let read = input.read_exact(&mut magic);
        if read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof) {
            return Err(read.err().map_or_else(|| damaged(0, ""), Error::Io));
        }
        if magic != *MAGIC {
            return Err(damaged(0, "it does not begin like a backup"));
        }
        let mut frame = Vec::new();
        let byte = MAGIC.len() as u64;
        match frame::read(&mut input, &mut frame).map_err(|error| frame_error(byte, error))? {
            Kind::Header => {}
            _ => return Err(damaged(byte, "the header is missing")),
        }
        let header = Header::from_json(frame::content(&frame)).map_err(|reason| damaged(byte, reason))?;
        let verifier = header.log_key.as_deref().map(str::parse).transpose();
        let verifier = verifier.map_err(|error| damaged(byte, format!("the log's key: {error}")))?;
        let mut newest = None;
        if let Some(note) = &header.checkpoint {
            let checkpoint = signed(note, verifier.as_ref()).map_err(|reason| damaged(byte, reason))?;
            if checkpoint.size > header.head.get() {
                return Err(damaged(byte, "its checkpoint covers more events than it has"));
            }
            newest = Some((checkpoint.size, checkpoint.root));
        }
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(&frame);
        let byte = byte + frame.len() as u64;
        let (stage, frontier) = (Kind::Checkpoints, Frontier::default());
        let roots = VecDeque::new();
        let end = None;
        let mut reader =
            Self { input, byte, hash, header, verifier, stage, frontier, roots, newest, end, frame };
        reader.check_roots().map_err(|reason| damaged(MAGIC.len() as u64, reason))?;
        Ok(reader)
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the whole backup is signed by this key. `false` before its end was read.
    #[must_use]
    pub fn is_signed_by(&self, verifier: &Verifier) -> bool {
        self.end.as_ref().is_some_and(|(hash, note)| signature::is_by(note, hash, verifier))
    }

    /// Reads the next part; `None` when the backup has ended and is intact.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the bytes are not those that were written; [`Error::Io`].
    pub fn next_part(&mut self) -> Result<Option<Part>, Error> {
        let byte = self.byte;
        let kind =
            frame::read(&mut self.input, &mut self.frame).map_err(|error| self.frame_error(byte, error))?;
        if kind < self.stage {
            return Err(damaged(byte, "a part out of order"));
        }
        self.stage = kind;
        self.byte += self.frame.len() as u64;
        if kind == Kind::End {
            return self.end(byte).map(|()| None);
        }
        self.hash.update(&self.frame);
        let frame = std::mem::take(&mut self.frame);
        let part = self.part(kind, frame::content(&frame));
        self.frame = frame;
        if kind == Kind::File {
            self.frame.zeroize();
        }
        part.map(Some).map_err(|reason| damaged(byte, reason))
    }

    fn part(&mut self, kind: Kind, content: &[u8]) -> Result<Part, String> {
        match kind {
            Kind::Checkpoints => self.checkpoints(content).map(Part::Checkpoints),
            Kind::Entries => self.entries(content).map(Part::Entries),
            Kind::Commands => self.commands(content).map(Part::Commands),
            Kind::File => {
                let zero = content.iter().position(|byte| *byte == 0).ok_or("a file without a name")?;
                let (name, bytes) = content.split_at(zero);
                let file = KeptFile::ALL.into_iter().find(|file| file.name().as_bytes() == name);
                let file = file.ok_or("a file that does not belong in a backup")?;
                Ok(Part::File(file, Zeroizing::new(bytes.get(1..).unwrap_or_default().to_vec())))
            }
            Kind::Header | Kind::End => Err("a second header".into()),
        }
    }

    fn checkpoints(&mut self, content: &[u8]) -> Result<Vec<(SignedCheckpoint, Checkpoint)>, String> {
        let mut checkpoints = Vec::new();
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: SignedCheckpoint =
                serde_json::from_slice(line).map_err(|error| format!("a checkpoint: {error}"))?;
            let checkpoint = signed(&line.checkpoint, self.verifier.as_ref())?;
            if checkpoint.size > self.header.head.get() {
                return Err("a checkpoint that covers more events than it has".into());
            }
            if self.roots.back().is_some_and(|(size, _)| *size > checkpoint.size) {
                return Err("a checkpoint that covers fewer events than the previous one".into());
            }
            self.roots.push_back((checkpoint.size, checkpoint.root));
            checkpoints.push((line, checkpoint));
        }
        self.check_roots()?;
        Ok(checkpoints)
    }

    fn entries(&mut self, mut content: &[u8]) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        while let Some((len, rest)) = content.split_first_chunk::<2>() {
            let position = Position::new(self.frontier.size()).next();
            let len = usize::from(u16::from_be_bytes(*len));
            let (bytes, rest) = rest
                .split_at_checked(len)
                .ok_or_else(|| format!("the event at position {position} is cut off"))?;
            content = rest;
            let record =
                codec::decode(bytes).map_err(|error| format!("the event at position {position}: {error}"))?;
            if record.position != position {
                return Err(format!("the event of position {} is at {position}", record.position));
            }
            self.frontier.append(leaf_hash(bytes), |_, _, _| {});
            self.check_roots()?;
            entries.push(Entry { bytes: bytes.to_vec(), record });
        }
        if !content.is_empty() || self.frontier.size() > self.header.head.get() {
            return Err("more events than its header states".into());
        }
        Ok(entries)
    }

    /// Compares the tree with the checkpoints of its current size.
    fn check_roots(&mut self) -> Result<(), String> {
        let size = self.frontier.size();
        let mut signed = self.newest.take_if(|(at, _)| *at == size);
        while let Some((_, root)) = signed.take().or_else(|| self.roots.pop_front_if(|(at, _)| *at <= size)) {
            if root != self.frontier.root() {
                return Err(format!(
                    "the events up to position {size} are not those that a checkpoint was signed for"
                ));
            }
        }
        Ok(())
    }

    fn commands(&self, content: &[u8]) -> Result<Vec<(CommandId, RememberedCommand)>, String> {
        let (rows, rest) = content.as_chunks::<COMMAND_LEN>();
        let commands: Option<Vec<_>> = rows.iter().map(read_command).collect();
        let commands = commands.filter(|_| rest.is_empty()).ok_or("a remembered command is cut off")?;
        for (_, command) in &commands {
            if command.first == Position::START
                || command.last < command.first
                || command.last > self.header.head
            {
                return Err(format!(
                    "the command that begins at position {} has an impossible end",
                    command.first
                ));
            }
        }
        Ok(commands)
    }

    fn end(&mut self, byte: u64) -> Result<(), Error> {
        let (head, size) = (self.header.head, self.frontier.size());
        if size != head.get() {
            return Err(damaged(byte, format!("it has {size} events, but its header states {head}")));
        }
        if self.frontier.root() != self.header.root {
            let reason =
                format!("the events up to position {head} do not have the root that its header states");
            return Err(damaged(byte, reason));
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        let note = frame::content(&self.frame).strip_prefix(hash.as_slice());
        let note = note.ok_or_else(|| damaged(byte, "wrong SHA-256"))?;
        let note = std::str::from_utf8(note).map_err(|_| damaged(byte, "the signature is not a text"))?;
        let is_signature = |verifier: &Verifier| signature::is_by(note, &hash, verifier);
        if !note.is_empty() && !self.verifier.as_ref().is_some_and(is_signature) {
            return Err(damaged(byte, "its signature is not one by the log's key"));
        }
        self.end = Some((hash, note.to_owned()));
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged(self.byte, "there are bytes after its end")),
            Err(error) => Err(Error::Io(error)),
        }
    }

    fn frame_error(&self, byte: u64, error: frame::Error) -> Error {
        match error {
            frame::Error::Damaged(reason)
                if self.stage <= Kind::Entries && self.frontier.size() < self.header.head.get() =>
            {
                let next = Position::new(self.frontier.size()).next();
                damaged(byte, format!("{reason}; events from position {next} on are affected"))
            }
            error => frame_error(byte, error),
        }
    }
}

/// Parses a checkpoint and verifies its signature.
fn signed(note: &str, verifier: Option<&Verifier>) -> Result<Checkpoint, String> {
    let verifier = verifier.ok_or("it has checkpoints, but not the log's key that verifies them")?;
    Checkpoint::open(note, verifier).map_err(|error| format!("a checkpoint is invalid: {error}"))
}

fn damaged(byte: u64, reason: impl Into<String>) -> Error {
    Error::Damaged { byte, reason: reason.into() }
}

fn frame_error(byte: u64, error: frame::Error) -> Error {
    match error {
        frame::Error::Io(error) => Error::Io(error),
        frame::Error::Damaged(reason) => damaged(byte, reason),
    }
}
