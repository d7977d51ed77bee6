//! Frames of a backup: kind in one byte, length of the content in four, the content, and the CRC-32 of
//! everything before it in the frame; numbers big-endian.

use std::io::{self, Read};

use super::{CHECKPOINTS_MAX, COMMAND_LEN, COMMANDS_MAX, ENTRIES_MAX};
use crate::codec::ENTRY_LEN_MAX;

/// Kind of a frame, in the order of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Header,
    Checkpoints,
    Entries,
    Commands,
    File,
    End,
}

/// Length of kind and length.
const HEAD_LEN: usize = 5;
const CHECKSUM_LEN: usize = 4;
/// Maximum length of a checkpoint's line, in bytes. Real ones are far shorter.
const CHECKPOINT_LEN_MAX: usize = 4_096;
/// Maximum length of a file, in bytes. Real key files are far shorter.
const FILE_LEN_MAX: usize = 1 << 20;
/// Maximum length of the signature at the end, in bytes. Real ones are far shorter.
const SIGNATURE_LEN_MAX: usize = 4_096;

impl Kind {
    const TABLE: [(Self, u8, usize); 6] = [
        (Self::Header, b'H', 65_536),
        (Self::Checkpoints, b'S', CHECKPOINTS_MAX * CHECKPOINT_LEN_MAX),
        (Self::Entries, b'E', ENTRIES_MAX * (ENTRY_LEN_MAX + 2)),
        (Self::Commands, b'C', COMMANDS_MAX * COMMAND_LEN),
        (Self::File, b'F', FILE_LEN_MAX),
        (Self::End, b'Z', 32 + SIGNATURE_LEN_MAX),
    ];

    fn code(self) -> u8 {
        Self::TABLE.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }
}

/// Encodes a frame.
pub(super) fn to_bytes(kind: Kind, content: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(content.len())
        .ok()
        .filter(|_| Kind::TABLE.iter().any(|(row, _, len_max)| *row == kind && content.len() <= *len_max));
    let len = len.ok_or_else(|| io::Error::other("too long for a frame of a backup"))?;
    let mut bytes = Vec::with_capacity(HEAD_LEN + content.len() + CHECKSUM_LEN);
    bytes.push(kind.code());
    bytes.extend(len.to_be_bytes());
    bytes.extend(content);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    Ok(bytes)
}

/// Reason why a frame cannot be read.
#[derive(Debug)]
pub(super) enum Error {
    /// The bytes cannot be read.
    Io(io::Error),
    /// The bytes are not a frame.
    Damaged(&'static str),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Damaged("it ends too early")
        } else {
            Self::Io(error)
        }
    }
}

/// Reads one frame into `bytes`, head and checksum included, and returns its kind.
pub(super) fn read(input: &mut impl Read, bytes: &mut Vec<u8>) -> Result<Kind, Error> {
    let mut head = [0; HEAD_LEN];
    input.read_exact(&mut head)?;
    let [code, len @ ..] = head;
    let row = Kind::TABLE.iter().find(|row| row.1 == code);
    let (kind, _, len_max) = *row.ok_or(Error::Damaged("unknown kind of frame"))?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > len_max {
        return Err(Error::Damaged("too long for a frame of this kind"));
    }
    bytes.clear();
    bytes.extend(head);
    bytes.resize(HEAD_LEN + len + CHECKSUM_LEN, 0);
    input.read_exact(bytes.get_mut(HEAD_LEN..).unwrap_or_default())?;
    match bytes.split_last_chunk::<CHECKSUM_LEN>() {
        Some((summed, sum)) if crc32fast::hash(summed) == u32::from_be_bytes(*sum) => Ok(kind),
        _ => Err(Error::Damaged("wrong checksum")),
    }
}

/// The content of a frame.
pub(super) fn content(bytes: &[u8]) -> &[u8] {
    bytes.get(HEAD_LEN..bytes.len().saturating_sub(CHECKSUM_LEN)).unwrap_or_default()
}
