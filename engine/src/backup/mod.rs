//! Backups: a log with everything needed to continue it, in one file that is written and read sequentially
//! and proves itself (docs/backup.md): that it is complete and consistent, and with the log's key also whose
//! it is.
//!
//! * [`source`]: produces a backup of a log, chunk by chunk.
//! * [`reader`]: reads a backup, and checks every checksum, entry and root on the way.
//! * [`signature`]: the signature at the end.
//! * [`frame`]: the frames of both.

pub mod frame;
pub mod reader;
pub mod signature;
pub mod source;

use serde::{Deserialize, Serialize};

use crate::log::merkle::Hash;
use crate::log::{LogId, RememberedCommand};
use crate::storage::data_directory;
use crate::value::position::Position;
use crate::value::time::Timestamp;

pub use reader::{Part, Reader};
pub use source::Source;

/// First bytes of every backup.
pub const MAGIC: &[u8; 17] = b"KEYLEDGER BACKUP\n";
/// Version of the backup format. A greater one was written by a newer version of the program. Format 1 is the
/// same without a signature.
pub const FORMAT: u32 = 2;
/// The oldest format that can be read.
const FORMAT_MIN: u32 = 1;
/// Maximum number of entries in a frame. Frames of entries have the encoding of C2SP tlog-tiles bundles, and
/// their width.
pub const ENTRIES_MAX: usize = 256;
/// Maximum number of remembered commands in a frame.
pub const COMMANDS_MAX: usize = 4_096;
/// Maximum number of checkpoints in a frame.
pub const CHECKPOINTS_MAX: usize = 256;

/// Description of a backup, at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Identifies the log.
    pub log_id: LogId,
    /// Position of the last event.
    pub head: Position,
    /// Root of the Merkle tree over all events.
    pub root: Hash,
    /// When the backup was begun.
    pub time: Timestamp,
    /// The newest signed checkpoint that covers only events in the backup (C2SP tlog-checkpoint), if any.
    pub checkpoint: Option<String>,
    /// Key that verifies checkpoints (C2SP signed-note), if known.
    pub log_key: Option<String>,
}

/// JSON form of [`Header`].
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

    /// Parses a header. Returns what is wrong if it is invalid.
    fn from_json(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if !(FORMAT_MIN..=FORMAT).contains(&format.format) {
            return Err(format!(
                "it has format {}, this version supports {FORMAT_MIN} to {FORMAT}; use the version that wrote it",
                format.format
            ));
        }
        let header: HeaderJson = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        Ok(Self {
            log_id: LogId(unhex(&header.log_id).ok_or("the log's id is invalid")?),
            head: Position::new(header.head),
            root: unhex(&header.root_hash).ok_or("the root is not a hash")?,
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

/// File that a backup may contain beside the log. No other file is backed up or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFile {
    /// Key that signs checkpoints.
    LogKey,
    /// Keys that sign access tokens.
    SigningKeys,
    /// Key that webhooks' secrets are derived from.
    WebhookKey,
}

impl KeptFile {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::LogKey, Self::SigningKeys, Self::WebhookKey];

    /// Name of the file in a data directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogKey => data_directory::LOG_KEY,
            Self::SigningKeys => data_directory::SIGNING_KEYS,
            Self::WebhookKey => data_directory::WEBHOOK_KEY,
        }
    }
}

/// Length of a remembered command: position of its first event 8, id 16, fingerprint 16, position of its last
/// event 8, time 8; numbers big-endian.
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
