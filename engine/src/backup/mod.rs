//! A backup of a log in one file: everything that it takes to go on from there, in a form that is written and read from
//! front to back and proves itself (docs/backup.md).
//!
//! * [`source`]: a backup as it is made from a log, chunk by chunk, whoever takes the chunks.
//! * [`reader`]: a backup as it is read, every checksum, entry and root checked on the way.
//! * [`frame`]: the frames of both.

pub mod frame;
pub mod reader;
pub mod source;

use serde::{Deserialize, Serialize};

use crate::log::merkle::Hash;
use crate::log::{LogId, RememberedCommand};
use crate::storage::data_directory;
use crate::value::position::Position;
use crate::value::time::Timestamp;

pub use reader::{Part, Reader};
pub use source::Source;

/// The first bytes of every backup.
pub const MAGIC: &[u8; 17] = b"KEYLEDGER BACKUP\n";
/// The number of this form of backups. A backup with a greater one was written by a newer version.
pub const FORMAT: u32 = 1;
/// A frame holds at most this many entries: as many as a bundle of C2SP tlog-tiles, and in the same form.
pub const ENTRIES_MAX: usize = 256;
/// A frame holds at most this many remembered commands.
pub const COMMANDS_MAX: usize = 4_096;
/// A frame holds at most this many checkpoints.
pub const CHECKPOINTS_MAX: usize = 256;

/// What a backup says of itself first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Which log it is.
    pub log_id: LogId,
    /// The position of the last event.
    pub head: Position,
    /// The root of the Merkle tree over all events.
    pub root: Hash,
    /// When the backup was begun.
    pub time: Timestamp,
    /// The newest checkpoint that was signed for the events in it (C2SP tlog-checkpoint), if one was.
    pub checkpoint: Option<String>,
    /// The key that checks checkpoints (C2SP signed-note), if it is known.
    pub log_key: Option<String>,
}

/// [`Header`] as it is written.
#[derive(Serialize, Deserialize)]
struct HeaderJson {
    format: u32,
    log_id: String,
    head: u64,
    root_hash: String,
    time: Timestamp,
    checkpoint: Option<String>,
    log_key: Option<String>,
}

impl Header {
    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&HeaderJson {
            format: FORMAT,
            log_id: hex(&self.log_id.0),
            head: self.head.get(),
            root_hash: hex(&self.root),
            time: self.time,
            checkpoint: self.checkpoint.clone(),
            log_key: self.log_key.clone(),
        })
    }

    /// The header, or why it is none.
    fn from_json(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if format.format != FORMAT {
            return Err(format!(
                "it has format {}, this version knows {FORMAT}; use the version that wrote it",
                format.format
            ));
        }
        let header: HeaderJson = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        Ok(Self {
            log_id: LogId(unhex(&header.log_id).ok_or("the log's id is none")?),
            head: Position::new(header.head),
            root: unhex(&header.root_hash).ok_or("the root is no hash")?,
            time: header.time,
            checkpoint: header.checkpoint,
            log_key: header.log_key,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A file that a backup may hold beside the log. Nothing else is taken into a backup, or out of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFile {
    /// The key that signs checkpoints.
    LogKey,
    /// The keys that sign access tokens.
    SigningKeys,
    /// The key that webhooks' secrets are made from.
    WebhookKey,
}

impl KeptFile {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::LogKey, Self::SigningKeys, Self::WebhookKey];

    /// Its name in a data directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogKey => data_directory::LOG_KEY,
            Self::SigningKeys => data_directory::SIGNING_KEYS,
            Self::WebhookKey => data_directory::WEBHOOK_KEY,
        }
    }
}

/// A remembered command in a backup: position of its first event 8, id 16, fingerprint 16, position of its last event 8,
/// time 8; numbers big-endian.
const COMMAND_LEN: usize = 56;

fn write_command(bytes: &mut Vec<u8>, id: &crate::log::CommandId, command: &RememberedCommand) {
    bytes.extend(command.first.get().to_be_bytes());
    bytes.extend(id.0);
    bytes.extend(command.fingerprint);
    bytes.extend(command.last.get().to_be_bytes());
    bytes.extend(command.time.millis().to_be_bytes());
}

fn read_command(row: &[u8; COMMAND_LEN]) -> Option<(crate::log::CommandId, RememberedCommand)> {
    let (first, rest) = row.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (fingerprint, rest) = rest.split_first_chunk::<16>()?;
    let (last, rest) = rest.split_first_chunk::<8>()?;
    let (time, _) = rest.split_first_chunk::<8>()?;
    let command = RememberedCommand {
        fingerprint: *fingerprint,
        first: Position::new(u64::from_be_bytes(*first)),
        last: Position::new(u64::from_be_bytes(*last)),
        time: Timestamp::from_millis(i64::from_be_bytes(*time)),
    };
    Some((crate::log::CommandId(*id), command))
}

#[cfg(test)]
mod tests;
