//! The frames that a backup is made of: a kind in one byte, the length of what follows in four, that, and the CRC-32 of all
//! before it in the frame; numbers big-endian.

use std::io::{self, Read};

use super::{CHECKPOINTS_MAX, COMMAND_LEN, COMMANDS_MAX, ENTRIES_MAX};
use crate::codec::ENTRY_LEN_MAX;

/// What a frame holds. They come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Header,
    Checkpoints,
    Entries,
    Commands,
    File,
    End,
}

/// Kind and length.
const HEAD_LEN: usize = 5;
const CHECKSUM_LEN: usize = 4;
/// A checkpoint's line is far shorter.
const CHECKPOINT_LEN_MAX: usize = 4_096;
/// Files of keys are far shorter.
const FILE_LEN_MAX: usize = 1 << 20;

impl Kind {
    const TABLE: [(Self, u8, usize); 6] = [
        (Self::Header, b'H', 65_536),
        (Self::Checkpoints, b'S', CHECKPOINTS_MAX * CHECKPOINT_LEN_MAX),
        (Self::Entries, b'E', ENTRIES_MAX * (ENTRY_LEN_MAX + 2)),
        (Self::Commands, b'C', COMMANDS_MAX * COMMAND_LEN),
        (Self::File, b'F', FILE_LEN_MAX),
        (Self::End, b'Z', 32),
    ];

    fn code(self) -> u8 {
        Self::TABLE.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }
}

/// The bytes of a frame.
pub(super) fn to_bytes(kind: Kind, content: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(content.len())
        .ok()
        .filter(|_| Kind::TABLE.iter().any(|(row, _, len_max)| *row == kind && content.len() <= *len_max));
    let len = len.ok_or_else(|| io::Error::other("it is too long for a frame of a backup"))?;
    let mut bytes = Vec::with_capacity(HEAD_LEN + content.len() + CHECKSUM_LEN);
    bytes.push(kind.code());
    bytes.extend(len.to_be_bytes());
    bytes.extend(content);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    Ok(bytes)
}

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum Error {
    /// The bytes cannot be had.
    Io(io::Error),
    /// They are not a frame.
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

/// Reads one frame into `bytes`, all of it, and says what it holds.
pub(super) fn read(input: &mut impl Read, bytes: &mut Vec<u8>) -> Result<Kind, Error> {
    let mut head = [0; HEAD_LEN];
    input.read_exact(&mut head)?;
    let [code, len @ ..] = head;
    let row = Kind::TABLE.iter().find(|row| row.1 == code);
    let (kind, _, len_max) = *row.ok_or(Error::Damaged("there is no such kind of frame"))?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > len_max {
        return Err(Error::Damaged("no frame of this kind is so long"));
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

/// What a frame holds, of its bytes.
pub(super) fn content(bytes: &[u8]) -> &[u8] {
    bytes.get(HEAD_LEN..bytes.len().saturating_sub(CHECKSUM_LEN)).unwrap_or_default()
}
