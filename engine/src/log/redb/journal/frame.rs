//! Frames: the encoding of a group in the journal (docs/format.md).

use rand::Rng;

use crate::log::merkle::Frontier;
use crate::log::redb::tables::CommandRow;
use crate::value::position::Position;

/// Random value that distinguishes the frames that count from older ones. Drawn each time a region is reused,
/// so that a client who chooses what is stored cannot forge a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::log::redb) struct Salt(pub(in crate::log::redb) [u8; Self::LEN]);

impl Salt {
    pub(in crate::log::redb) const LEN: usize = 16;

    pub(in crate::log::redb) fn draw(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; Self::LEN];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// Group as stored in the journal.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::log::redb) struct Frame {
    /// Position of the first entry.
    pub(in crate::log::redb) first: Position,
    pub(in crate::log::redb) entries: Vec<Vec<u8>>,
    pub(in crate::log::redb) commands: Vec<CommandRow>,
    /// Merkle tree after the frame. Stronger evidence than a checksum that the entries are those that were
    /// written.
    pub(in crate::log::redb) frontier: Frontier,
}

/// Salt, length of what follows the head, CRC-32 of everything but itself.
const HEAD_LEN: usize = Salt::LEN + 4 + 4;
/// Position of the first entry, number of entries, number of commands.
const COUNTS_LEN: usize = 8 + 4 + 4;

/// Encodes a frame entry by entry.
#[derive(Default)]
pub(in crate::log::redb) struct FrameBuilder {
    /// Head and counts, filled in at the end, then the entries with their lengths.
    bytes: Vec<u8>,
    entries: u32,
    commands: Vec<CommandRow>,
}

impl FrameBuilder {
    /// An empty frame, in the memory of an earlier one.
    pub(in crate::log::redb) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEAD_LEN + COUNTS_LEN, 0);
        Self { bytes, entries: 0, commands: Vec::new() }
    }

    pub(in crate::log::redb) fn entry(&mut self, entry: &[u8]) {
        // Entries are at most 65,535 bytes long.
        self.bytes.extend(u32::try_from(entry.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.bytes.extend(entry);
        self.entries += 1;
    }

    pub(in crate::log::redb) fn command(&mut self, row: CommandRow) {
        self.commands.push(row);
    }

    /// Completes the frame. `frontier` is the tree after its entries.
    pub(in crate::log::redb) fn finish(mut self, frontier: &Frontier) -> FinishedFrame {
        let commands = u32::try_from(self.commands.len()).unwrap_or(u32::MAX);
        for (first, row) in self.commands {
            self.bytes.extend(first.to_be_bytes());
            self.bytes.extend(row);
        }
        self.bytes.extend(frontier.to_bytes());
        let first = frontier.size() - u64::from(self.entries) + 1;
        let counts =
            [&first.to_be_bytes()[..], &self.entries.to_be_bytes(), &commands.to_be_bytes()].concat();
        let len = u32::try_from(self.bytes.len() - HEAD_LEN).unwrap_or(u32::MAX).to_be_bytes();
        fill(&mut self.bytes, HEAD_LEN, &counts);
        fill(&mut self.bytes, Salt::LEN, &len);
        FinishedFrame(self.bytes)
    }
}

/// Frame that lacks only the salt of its region, and the checksum over it.
pub(in crate::log::redb) struct FinishedFrame(Vec<u8>);

impl FinishedFrame {
    pub(in crate::log::redb) const fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// The bytes to write to the region with this salt.
    pub(in crate::log::redb) fn with_salt(mut self, salt: &Salt) -> Vec<u8> {
        fill(&mut self.0, 0, &salt.0);
        let checksum = checksum(&self.0).unwrap_or_default().to_be_bytes();
        fill(&mut self.0, Salt::LEN + 4, &checksum);
        self.0
    }
}

fn fill(bytes: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}

/// CRC-32 of a frame except the checksum itself.
fn checksum(frame: &[u8]) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame.get(..Salt::LEN + 4)?);
    hasher.update(frame.get(HEAD_LEN..)?);
    Some(hasher.finalize())
}

/// Reads numbers and byte ranges from the front of a slice.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        self.take(LEN)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

impl Frame {
    /// Decodes the frame with this salt at the start of `bytes`, and returns its length; `None` when there is
    /// none or it is incomplete.
    pub(in crate::log::redb) fn read(bytes: &[u8], salt: &Salt) -> Option<(Self, usize)> {
        let mut head = Bytes(bytes);
        if head.take(Salt::LEN)? != salt.0 {
            return None;
        }
        let len = HEAD_LEN.checked_add(usize::try_from(head.u32()?).ok()?)?;
        let frame = bytes.get(..len)?;
        if checksum(frame)? != head.u32()? {
            return None;
        }
        let mut rest = Bytes(frame.get(HEAD_LEN..)?);
        let (first, entries, commands) = (rest.u64()?, rest.u32()?, rest.u32()?);
        let entry = |_| rest.u32().and_then(|len| rest.take(usize::try_from(len).ok()?)).map(<[u8]>::to_vec);
        let entries = (0..entries).map(entry).collect::<Option<Vec<_>>>()?;
        let commands = (0..commands).map(|_| Some((rest.u64()?, rest.array()?))).collect::<Option<_>>()?;
        let frontier = Frontier::from_bytes(rest.0)?;
        Some((Self { first: Position::new(first), entries, commands, frontier }, len))
    }

    /// Position of the last entry.
    pub(in crate::log::redb) fn last(&self) -> Position {
        Position::new(self.frontier.size())
    }
}
