//! The journal: the groups that were appended since the last commit of the database that is on the disk.
//!
//! A group is durable when its frame is: one write and one sync of a file that has its length and its space from the
//! beginning, where a commit of the database takes two syncs and dozens of pages. The database has the group too, in memory,
//! where readers find it. From time to time a commit puts all of it on the disk ([`RedbLog`](super::RedbLog)), and the
//! journal begins again at its start, over the frames that were there, under another [`Salt`]: frames with another salt than
//! the database names do not count. docs/format.md has the bytes, docs/decisions/journal.md the reasons.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use memchr::memmem;
use rand::Rng;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::tables::COMMAND_ROW_LEN;
use crate::log::merkle::Frontier;
use crate::position::Position;

/// What tells frames that count from those that were there before. It is drawn when the journal begins again, so that nobody
/// who chooses what is stored can make up a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt([u8; Self::LEN]);

impl Salt {
    const LEN: usize = 16;

    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; Self::LEN];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// What the database notes of its journal.
#[derive(Clone, Copy)]
pub(super) struct JournalNote {
    /// The salt of the frames that count.
    pub(super) salt: Salt,
    /// The length of the file. One that is shorter has lost something.
    len: u64,
}

impl JournalNote {
    pub(super) fn to_bytes(self) -> [u8; Salt::LEN + 8] {
        let mut bytes = [0; Salt::LEN + 8];
        let (salt, len) = bytes.split_at_mut(Salt::LEN);
        salt.copy_from_slice(&self.salt.0);
        len.copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; none when the bytes are not that.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let note = Self { salt: Salt(bytes.array()?), len: bytes.u64()? };
        bytes.0.is_empty().then_some(note)
    }
}

/// What stands in a journal whose owner goes on without what it held.
pub(super) const GIVEN_UP: &str = "go on without it";

/// Whether a journal's bytes say that its owner goes on without what it held.
fn is_given_up(bytes: &[u8]) -> bool {
    bytes.trim_ascii() == GIVEN_UP.as_bytes()
}

/// A row of the table of commands and its key.
pub(super) type CommandRow = (u64, [u8; COMMAND_ROW_LEN]);

/// A group as the journal has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where its first entry stands.
    pub(super) first: Position,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) commands: Vec<CommandRow>,
    /// The Merkle tree after it, which says more surely than a checksum that the entries are those that were written.
    pub(super) frontier: Frontier,
}

/// Salt, length of what follows the head, CRC-32 of all but itself.
const HEAD_LEN: usize = Salt::LEN + 4 + 4;
/// Position of the first entry, number of entries, number of commands.
const COUNTS_LEN: usize = 8 + 4 + 4;

/// A frame that is being written.
#[derive(Default)]
pub(super) struct FrameBuilder {
    /// Head and counts, which are filled in at the end, then the entries with their lengths.
    bytes: Vec<u8>,
    entries: u32,
    commands: Vec<CommandRow>,
}

impl FrameBuilder {
    /// A frame without entries, in the memory of one that was written before.
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEAD_LEN + COUNTS_LEN, 0);
        Self { bytes, entries: 0, commands: Vec::new() }
    }

    pub(super) fn entry(&mut self, entry: &[u8]) {
        // Entries are at most 65,535 bytes long.
        self.bytes.extend(u32::try_from(entry.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.bytes.extend(entry);
        self.entries += 1;
    }

    pub(super) fn command(&mut self, first: u64, row: [u8; COMMAND_ROW_LEN]) {
        self.commands.push((first, row));
    }

    /// The frame of what was added, after which the tree has this right edge.
    pub(super) fn finish(mut self, salt: &Salt, frontier: &Frontier) -> Vec<u8> {
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
        fill(&mut self.bytes, 0, &salt.0);
        fill(&mut self.bytes, Salt::LEN, &len);
        let checksum = checksum(&self.bytes).unwrap_or_default().to_be_bytes();
        fill(&mut self.bytes, Salt::LEN + 4, &checksum);
        self.bytes
    }
}

fn fill(bytes: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}

/// Of all of a frame but the checksum itself.
fn checksum(frame: &[u8]) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame.get(..Salt::LEN + 4)?);
    hasher.update(frame.get(HEAD_LEN..)?);
    Some(hasher.finalize())
}

/// Takes numbers and stretches off the front of bytes.
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
    /// The frame with this salt that the bytes begin with, and its length; none when there is none, or not all of it.
    fn read(bytes: &[u8], salt: &Salt) -> Option<(Self, usize)> {
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

    /// Where its last entry stands.
    pub(super) fn last(&self) -> Position {
        Position::new(self.frontier.size())
    }
}

/// The frames of a journal that count, in order, and where they end.
pub(super) struct Frames {
    pub(super) frames: Vec<Frame>,
    end: u64,
}

impl Frames {
    /// The frames that count among the journal's bytes; none where its owner goes on without. A frame at the end that is not whole was never acknowledged and
    /// does not count.
    ///
    /// # Errors
    /// What is wrong, when a frame that is not whole has a whole one after it: only damage does that, as each was synced
    /// before the next one was written.
    pub(super) fn read(bytes: &[u8], note: &JournalNote) -> Result<Self, &'static str> {
        let JournalNote { salt, len } = note;
        if is_given_up(bytes) {
            tracing::warn!("going on without the events that the journal held, as its file says");
            return Ok(Self { frames: Vec::new(), end: 0 });
        }
        if (bytes.len() as u64) < *len {
            return Err("it ends too early");
        }
        let (mut frames, mut rest): (Vec<Frame>, _) = (Vec::new(), bytes);
        while let Some((frame, len)) = Frame::read(rest, salt) {
            if frames.last().is_some_and(|before| before.last().next() != frame.first) {
                return Err("a frame does not go on from the one before");
            }
            frames.push(frame);
            rest = rest.get(len..).unwrap_or_default();
        }
        let end = bytes.len() - rest.len();
        let mut later = memmem::find_iter(rest, &salt.0);
        let is_damaged = later.any(|at| rest.get(at..).is_some_and(|it| Frame::read(it, salt).is_some()));
        if is_damaged {
            Err("a frame before its last one is damaged")
        } else {
            Ok(Self { frames, end: end as u64 })
        }
    }
}

/// The journal's file.
pub(super) struct Journal {
    /// Its name, for messages.
    pub(super) file: String,
    storage: Box<dyn StorageBackend>,
    len: u64,
    end: u64,
}

impl Journal {
    /// Opens the journal in `storage`. `note` is what the database notes of it; if nothing, the journal is made what it should
    /// be: `len_if_new` bytes at least, all with their space.
    pub(super) fn open(
        file: String,
        storage: impl StorageBackend,
        len_if_new: u64,
        note: Option<&JournalNote>,
    ) -> io::Result<Self> {
        if note.is_none() {
            Self::prepare(&storage, len_if_new)?;
        }
        let len = storage.len()?;
        Ok(Self { file, storage: Box::new(storage), len, end: 0 })
    }

    /// Gives a journal in which no frame counts its length, and its space: what is written there later must not fail for want
    /// of it, whatever an earlier attempt or a copy has left.
    fn prepare(storage: &dyn StorageBackend, len_if_new: u64) -> io::Result<()> {
        let len = storage.len()?.max(len_if_new);
        storage.set_len(len)?;
        storage.write(0, &vec![0; usize::try_from(len).map_err(io::Error::other)?])?;
        storage.sync_data()
    }

    /// Opens the file at `path`; makes it if it is not there and nothing is noted of it.
    pub(super) fn open_file(path: &Path, len_if_new: u64, note: Option<&JournalNote>) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(note.is_none()).truncate(false).open(path)?;
        let storage = FileBackend::new(file).map_err(io::Error::other)?;
        let journal = Self::open(path.display().to_string(), storage, len_if_new, note)?;
        if note.is_none() {
            let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(journal)
    }

    /// All its bytes.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.storage.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// What the database is to note, if it is to begin again with this salt.
    pub(super) const fn note(&self, salt: Salt) -> JournalNote {
        JournalNote { salt, len: self.len }
    }

    /// Whether a frame of so many bytes has its place before the end.
    pub(super) const fn has_room(&self, len: usize) -> bool {
        self.end + len as u64 <= self.len
    }

    /// Writes a frame, and returns when it is on the disk. After an error it is not known whether it is.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        self.storage.write(self.end, frame)?;
        self.storage.sync_data()?;
        self.end += frame.len() as u64;
        Ok(())
    }

    /// Begins at the start again; there is another salt now.
    pub(super) const fn restart(&mut self) {
        self.end = 0;
    }

    /// Begins at the start again after its frames were read at opening; a file that was given up becomes a journal.
    pub(super) fn restart_after(&mut self, note: &JournalNote) -> io::Result<()> {
        if self.len < note.len {
            Self::prepare(&*self.storage, note.len)?;
            self.len = self.storage.len()?;
        }
        self.end = 0;
        Ok(())
    }

    /// Goes on after frames that were found in these bytes. They are written once more: what was read may never have reached
    /// the disk.
    pub(super) fn go_on(&mut self, bytes: &[u8], frames: &Frames) -> io::Result<()> {
        self.storage.write(0, bytes)?;
        self.storage.sync_data()?;
        self.end = frames.end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::merkle::leaf_hash;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn frontier_over(entries: &[Vec<u8>]) -> Frontier {
        let mut frontier = Frontier::default();
        entries.iter().for_each(|entry| frontier.append(leaf_hash(entry), |_, _, _| {}));
        frontier
    }

    /// Frames of 1, 2, 3, … entries, one after the other.
    fn frames(salt: &Salt, count: usize) -> Vec<Vec<u8>> {
        let entries: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number; usize::from(number) * 3]).collect();
        let mut end = 0;
        let frame = |len| {
            let mut frame = FrameBuilder::new(vec![7; 3]);
            entries[end..end + len].iter().for_each(|entry| frame.entry(entry));
            frame.command(end as u64 + 1, [9; COMMAND_ROW_LEN]);
            end += len;
            frame.finish(salt, &frontier_over(&entries[..end]))
        };
        (1..=count).map(frame).collect()
    }

    const LEN: usize = 8_192;

    fn journal_of(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = frames.concat();
        bytes.resize(LEN, 0);
        bytes
    }

    fn salt(seed: u64) -> Salt {
        Salt::draw(&mut StdRng::seed_from_u64(seed))
    }

    fn note(seed: u64) -> JournalNote {
        JournalNote { salt: salt(seed), len: LEN as u64 }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let bytes = note(1).to_bytes();
        assert_eq!(JournalNote::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        assert!(JournalNote::from_bytes(&bytes[1..]).is_none());
        assert!(JournalNote::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frames = frames(&salt(1), 4);
        let read = Frames::read(&journal_of(&frames), &note(1)).unwrap();
        assert_eq!(read.end, frames.concat().len() as u64);
        let places: Vec<_> = read.frames.iter().map(|it| (it.first.get(), it.last().get())).collect();
        assert_eq!(places, [(1, 1), (2, 3), (4, 6), (7, 10)]);
        assert_eq!(read.frames[1].entries, [vec![1; 3], vec![2; 6]]);
        assert_eq!(read.frames[1].commands, [(2, [9; COMMAND_ROW_LEN])]);
    }

    #[test]
    fn frames_of_another_salt_do_not_count() {
        let mut bytes = journal_of(&frames(&salt(1), 4));
        assert!(Frames::read(&bytes, &note(2)).unwrap().frames.is_empty());
        let newer = frames(&salt(2), 1).concat();
        bytes[..newer.len()].copy_from_slice(&newer);
        let read = Frames::read(&bytes, &note(2)).unwrap();
        assert_eq!((read.frames.len(), read.end), (1, newer.len() as u64));
    }

    #[test]
    fn a_torn_end_does_not_count_and_damage_before_it_is_told() {
        let frames = frames(&salt(1), 3);
        let whole = frames[..2].concat().len();
        let bytes = journal_of(&frames);
        for at in (0..frames.concat().len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            match Frames::read(&changed, &note(1)) {
                Ok(read) => assert_eq!((at >= whole, read.frames.len()), (true, 2), "at {at}"),
                Err(_) => assert!(at < whole, "at {at}"),
            }
        }
    }

    #[test]
    fn a_journal_is_whole_or_given_up() {
        let bytes = journal_of(&frames(&salt(1), 1));
        assert!(Frames::read(&[], &note(1)).is_err());
        assert!(Frames::read(b"go on without it\n", &note(1)).unwrap().frames.is_empty());
        assert!(Frames::read(&bytes[..bytes.len() - 1], &note(1)).is_err());
    }
}
