//! The journal's file: its two regions, and which of their frames count.

use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::path::Path;

use memchr::memmem;
use rand::Rng;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::frame::{FinishedFrame, Frame, Salt};
use crate::storage::atomic_file;
use crate::storage::direct_file::DirectFile;

/// Number of regions of a new journal.
const REGIONS: usize = 2;

/// What the database notes about its journal.
#[derive(Clone)]
pub(in crate::log::redb) struct JournalNote {
    /// Salt of the frames that count, for each region.
    salts: Vec<Salt>,
    /// Length of the file. A shorter file has lost something.
    len: u64,
}

impl JournalNote {
    pub(in crate::log::redb) fn to_bytes(&self) -> Vec<u8> {
        let salts = self.salts.iter().flat_map(|salt| salt.0);
        salts.chain(self.len.to_be_bytes()).collect()
    }

    /// Decodes [`to_bytes`](Self::to_bytes); `None` when the bytes are malformed.
    pub(in crate::log::redb) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (salts, len) = bytes.split_last_chunk::<8>()?;
        let (salts, rest) = salts.as_chunks::<{ Salt::LEN }>();
        let is_valid = rest.is_empty() && (1..=REGIONS).contains(&salts.len());
        is_valid
            .then(|| Self { salts: salts.iter().copied().map(Salt).collect(), len: u64::from_be_bytes(*len) })
    }
}

/// Byte range of region `index` in a file of this length and number of regions.
fn region(len: u64, regions: usize, index: usize) -> Range<u64> {
    let region_len = len / (regions as u64).max(1);
    let start = region_len * index as u64;
    start..start + region_len
}

/// Contents of a journal file by which the operator gives up the events that it held.
pub(in crate::log::redb) const DISCARD_MARKER: &str = "go on without it";

/// Whether a journal's bytes are the [`DISCARD_MARKER`].
fn is_discarded(bytes: &[u8]) -> bool {
    bytes.trim_ascii() == DISCARD_MARKER.as_bytes()
}

/// The frames of a journal that count, in log order.
#[derive(Default)]
pub(in crate::log::redb) struct Frames {
    pub(in crate::log::redb) frames: Vec<Frame>,
    /// Region of the last frame.
    current: usize,
    /// End of the last frame.
    end: u64,
    /// Whether the other region has frames too.
    other_is_used: bool,
}

impl Frames {
    /// Returns the frames that count among the journal's bytes; none if the operator discarded them. An
    /// incomplete last frame was never acknowledged and does not count.
    ///
    /// # Errors
    /// What is wrong, when a complete frame follows an incomplete one. Only damage causes that, because each
    /// frame is synced before the next one is written.
    pub(in crate::log::redb) fn read(bytes: &[u8], note: &JournalNote) -> Result<Self, &'static str> {
        let JournalNote { salts, len } = note;
        if is_discarded(bytes) {
            tracing::warn!("discarding the events that the journal held, as requested by its file");
            return Ok(Self::default());
        }
        if (bytes.len() as u64) < *len {
            return Err("it ends too early");
        }
        let mut found = Vec::with_capacity(salts.len());
        for (index, salt) in salts.iter().enumerate() {
            let Range { start, end } = region(*len, salts.len(), index);
            let places = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let bytes = places.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default();
            let (frames, used) = Self::read_region(bytes, salt)?;
            if let Some(first) = frames.first() {
                found.push((first.first, index, start + used, frames));
            }
        }
        // The regions are used in turn, so either may hold the older frames.
        found.sort_unstable_by_key(|(first, ..)| *first);
        let mut all = Self { other_is_used: found.len() > 1, ..Self::default() };
        for (_, index, end, frames) in found {
            (all.current, all.end) = (index, end);
            all.frames.extend(frames);
        }
        let continues = |(before, frame): (&Frame, &Frame)| before.last().next() == frame.first;
        if all.frames.iter().zip(all.frames.iter().skip(1)).all(continues) {
            Ok(all)
        } else {
            Err("a frame does not continue the previous one")
        }
    }

    /// Returns the frames of a region, and their length in bytes.
    fn read_region(bytes: &[u8], salt: &Salt) -> Result<(Vec<Frame>, u64), &'static str> {
        let (mut frames, mut rest): (Vec<Frame>, _) = (Vec::new(), bytes);
        while let Some((frame, len)) = Frame::read(rest, salt) {
            frames.push(frame);
            rest = rest.get(len..).unwrap_or_default();
        }
        let used = bytes.len() - rest.len();
        let mut later = memmem::find_iter(rest, &salt.0);
        let is_damaged = later.any(|at| rest.get(at..).is_some_and(|it| Frame::read(it, salt).is_some()));
        if is_damaged { Err("a frame before its last one is damaged") } else { Ok((frames, used as u64)) }
    }
}

/// Place for a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::log::redb) enum Room {
    /// In the current region.
    Here,
    /// At the start of the other region, once that is free.
    InTheOther,
    /// Nowhere: it is too long, or no region is in use.
    Nowhere,
}

/// The journal's file.
pub(in crate::log::redb) struct Journal {
    /// Its name, for messages.
    pub(in crate::log::redb) file: String,
    storage: Box<dyn StorageBackend>,
    len: u64,
    /// Salts of the frames that count, for each region; empty while none counts.
    salts: Vec<Salt>,
    /// The region being written.
    current: usize,
    /// Where the next frame goes.
    end: u64,
    /// Whether frames of the other region count.
    other_is_used: bool,
}

impl Journal {
    /// Opens the journal in `storage`. Without a `note` in the database no frame counts, and the file is
    /// prepared: at least `len_if_new` bytes long, with all its space reserved.
    pub(in crate::log::redb) fn open(
        file: String,
        storage: impl StorageBackend,
        len_if_new: u64,
        note: Option<&JournalNote>,
    ) -> io::Result<Self> {
        if note.is_none() {
            Self::prepare(&storage, len_if_new)?;
        }
        let len = storage.len()?;
        let (salts, current, end, other_is_used) = (Vec::new(), 0, 0, false);
        Ok(Self { file, storage: Box::new(storage), len, salts, current, end, other_is_used })
    }

    /// Reserves the length and space of a journal in which no frame counts, whatever an earlier attempt or a
    /// copy left. Later writes must not fail for lack of space.
    fn prepare(storage: &dyn StorageBackend, len_if_new: u64) -> io::Result<()> {
        let len = storage.len()?.max(len_if_new);
        storage.set_len(len)?;
        storage.write(0, &vec![0; usize::try_from(len).map_err(io::Error::other)?])?;
        storage.sync_data()
    }

    /// Opens the file at `path`. Creates it if it does not exist and the database notes no journal.
    pub(in crate::log::redb) fn open_file(
        path: &Path,
        len_if_new: u64,
        note: Option<&JournalNote>,
    ) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(note.is_none()).truncate(false).open(path)?;
        let storage = FileBackend::new(file).map_err(io::Error::other)?;
        let mut journal = Self::open(path.display().to_string(), storage, len_if_new, note)?;
        journal.storage = DirectFile::over(path, journal.storage);
        if note.is_none() {
            atomic_file::sync_directory_of(path)?;
        }
        Ok(journal)
    }

    pub(in crate::log::redb) fn bytes(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.storage.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether any frame may count.
    pub(in crate::log::redb) const fn is_used(&self) -> bool {
        !self.salts.is_empty()
    }

    /// Draws the note to commit together with everything pending, before the journal [begins](Self::begin)
    /// again.
    pub(in crate::log::redb) fn new_note(&self, rng: &mut impl Rng) -> JournalNote {
        JournalNote { salts: (0..REGIONS).map(|_| Salt::draw(rng)).collect(), len: self.len }
    }

    /// Begins at the start of the first region, with the salts that the database has just noted.
    pub(in crate::log::redb) fn begin(&mut self, note: JournalNote) {
        (self.salts, self.current, self.end, self.other_is_used) = (note.salts, 0, 0, false);
    }

    /// Ends the use of the journal: the database has everything and notes no salts.
    pub(in crate::log::redb) fn end_use(&mut self) {
        self.salts.clear();
    }

    /// Place for a frame of `len` bytes.
    pub(in crate::log::redb) fn room(&self, len: u64) -> Room {
        let current = region(self.len, self.salts.len(), self.current);
        if self.salts.is_empty() {
            Room::Nowhere
        } else if self.end + len <= current.end {
            Room::Here
        } else if self.salts.len() == REGIONS && len <= current.end - current.start {
            Room::InTheOther
        } else {
            Room::Nowhere
        }
    }

    /// Whether no frame of the other region counts.
    pub(in crate::log::redb) const fn other_is_free(&self) -> bool {
        !self.other_is_used
    }

    /// Continues in the other region, which must be free. Returns the note to commit with the contents of the
    /// region just left. After that commit, call [`other_is_checkpointed`](Self::other_is_checkpointed) with
    /// the same note.
    pub(in crate::log::redb) fn switch_region(&mut self, rng: &mut impl Rng) -> JournalNote {
        let mut salts = self.salts.clone();
        if let Some(salt) = salts.get_mut(self.current) {
            *salt = Salt::draw(rng);
        }
        self.current = (self.current + 1) % REGIONS;
        self.end = region(self.len, REGIONS, self.current).start;
        self.other_is_used = true;
        JournalNote { salts, len: self.len }
    }

    /// Frees the other region: the database has its contents, and notes `note`.
    pub(in crate::log::redb) fn other_is_checkpointed(&mut self, note: JournalNote) {
        self.salts = note.salts;
        self.other_is_used = false;
    }

    /// Writes and syncs a frame, and returns its memory for reuse. After an error the frame may or may not be
    /// durable.
    pub(in crate::log::redb) fn append(&mut self, frame: FinishedFrame) -> io::Result<Vec<u8>> {
        let salt = self.salts.get(self.current).ok_or_else(|| io::Error::other("no region is in use"))?;
        let frame = frame.with_salt(salt);
        self.storage.write(self.end, &frame)?;
        self.storage.sync_data()?;
        self.end += frame.len() as u64;
        Ok(frame)
    }

    /// Ends the use of the journal after its frames were committed. A discarded file becomes a journal again.
    pub(in crate::log::redb) fn end_use_after(&mut self, note: &JournalNote) -> io::Result<()> {
        if self.len < note.len {
            Self::prepare(&*self.storage, note.len)?;
            self.len = self.storage.len()?;
        }
        self.end_use();
        Ok(())
    }

    /// Continues after frames that were found in `bytes`. The bytes are written once more, because what was
    /// read may never have reached the disk.
    pub(in crate::log::redb) fn resume(
        &mut self,
        bytes: &[u8],
        note: JournalNote,
        frames: &Frames,
    ) -> io::Result<()> {
        self.storage.write(0, bytes)?;
        self.storage.sync_data()?;
        // The regions are computed from the noted length, even if the file has become longer.
        self.len = self.len.min(note.len);
        self.salts = note.salts;
        (self.current, self.end, self.other_is_used) = (frames.current, frames.end, frames.other_is_used);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::merkle::{Frontier, leaf_hash};
    use crate::log::redb::journal::frame::FrameBuilder;
    use crate::log::redb::tables::COMMAND_ROW_LEN;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn frontier_over(entries: &[Vec<u8>]) -> Frontier {
        let mut frontier = Frontier::default();
        entries.iter().for_each(|entry| frontier.append(leaf_hash(entry), |_, _, _| {}));
        frontier
    }

    /// Consecutive frames of 1, 2, 3, … entries with these salts.
    fn frames(salts: &[Salt]) -> Vec<Vec<u8>> {
        let entries: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number; usize::from(number) * 3]).collect();
        let mut end = 0;
        let frame = |(len, salt): (usize, &Salt)| {
            let mut frame = FrameBuilder::new(vec![7; 3]);
            entries[end..end + len].iter().for_each(|entry| frame.entry(entry));
            frame.command((end as u64 + 1, [9; COMMAND_ROW_LEN]));
            end += len;
            frame.finish(&frontier_over(&entries[..end])).with_salt(salt)
        };
        (1..).zip(salts).map(frame).collect()
    }

    const LEN: usize = 8_192;

    fn salt(seed: u64) -> Salt {
        Salt::draw(&mut StdRng::seed_from_u64(seed))
    }

    fn note(seeds: [u64; 2]) -> JournalNote {
        JournalNote { salts: seeds.map(salt).to_vec(), len: LEN as u64 }
    }

    /// Bytes of a journal whose regions hold these frames.
    fn journal_of(regions: [&[Vec<u8>]; 2]) -> Vec<u8> {
        let region = |frames: &[Vec<u8>]| {
            let mut bytes = frames.concat();
            bytes.resize(LEN / 2, 0);
            bytes
        };
        regions.map(region).concat()
    }

    fn places(frames: &Frames) -> Vec<(u64, u64)> {
        frames.frames.iter().map(|frame| (frame.first.get(), frame.last().get())).collect()
    }

    #[test]
    fn a_note_is_decoded_as_encoded() {
        let bytes = note([1, 2]).to_bytes();
        assert_eq!(bytes.len(), 40);
        assert_eq!(JournalNote::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        // One region, as in layout 2.
        assert_eq!(JournalNote::from_bytes(&bytes[16..]).unwrap().salts.len(), 1);
        for wrong in
            [&bytes[1..], &[&bytes[..], &[0]].concat(), &bytes[32..], &[&bytes[..], &bytes[24..]].concat()]
        {
            assert!(JournalNote::from_bytes(wrong).is_none());
        }
    }

    #[test]
    fn frames_are_decoded_as_encoded() {
        let frames = frames(&[salt(1); 4]);
        let read = Frames::read(&journal_of([&frames, &[]]), &note([1, 2])).unwrap();
        assert_eq!((read.current, read.end, read.other_is_used), (0, frames.concat().len() as u64, false));
        assert_eq!(places(&read), [(1, 1), (2, 3), (4, 6), (7, 10)]);
        assert_eq!(read.frames[1].entries, [vec![1; 3], vec![2; 6]]);
        assert_eq!(read.frames[1].commands, [(2, [9; COMMAND_ROW_LEN])]);
    }

    #[test]
    fn frames_of_two_regions_are_read_in_log_order() {
        let [one, two] = [salt(1), salt(2)];
        let frames = frames(&[two, two, one, one, two]);
        let read = Frames::read(&journal_of([&frames[2..4], &frames[..2]]), &note([1, 2])).unwrap();
        let end = frames[2..4].concat().len() as u64;
        assert_eq!((read.current, read.end, read.other_is_used), (0, end, true));
        assert_eq!(places(&read), [(1, 1), (2, 3), (4, 6), (7, 10)]);
        // The older region is incomplete, but was complete when the newer one was begun.
        assert!(Frames::read(&journal_of([&frames[2..4], &frames[..1]]), &note([1, 2])).is_err());
        // The older region is in the database.
        let read = Frames::read(&journal_of([&frames[2..4], &frames[..2]]), &note([1, 3])).unwrap();
        assert_eq!((places(&read), read.other_is_used), (vec![(4, 6), (7, 10)], false));
        let read = Frames::read(&journal_of([&frames[2..4], &frames[4..]]), &note([1, 2])).unwrap();
        let end = LEN as u64 / 2 + frames[4].len() as u64;
        assert_eq!((read.current, read.end, read.other_is_used), (1, end, true));
    }

    #[test]
    fn a_journal_of_one_region_is_read() {
        let frames = frames(&[salt(1); 9]);
        let mut bytes = frames.concat();
        assert!(bytes.len() > LEN / 2);
        bytes.resize(LEN, 0);
        let note = JournalNote { salts: vec![salt(1)], len: LEN as u64 };
        let read = Frames::read(&bytes, &note).unwrap();
        assert_eq!((read.frames.len(), read.current, read.other_is_used), (9, 0, false));
        assert_eq!(read.end, frames.concat().len() as u64);
    }

    #[test]
    fn frames_of_another_salt_do_not_count() {
        let old = frames(&[salt(1); 4]);
        let mut bytes = journal_of([&old, &[]]);
        assert!(Frames::read(&bytes, &note([2, 1])).unwrap().frames.is_empty());
        let newer = frames(&[salt(2)]).concat();
        bytes[..newer.len()].copy_from_slice(&newer);
        let read = Frames::read(&bytes, &note([2, 3])).unwrap();
        assert_eq!((read.frames.len(), read.end), (1, newer.len() as u64));
    }

    #[test]
    fn a_torn_end_is_ignored_and_damage_before_it_is_an_error() {
        let [one, two] = [salt(1), salt(2)];
        let frames = frames(&[one, one, two, two]);
        let len = |frames: &[Vec<u8>]| frames.concat().len();
        let last = LEN / 2 + len(&frames[2..3])..LEN / 2 + len(&frames[2..]);
        let bytes = journal_of([&frames[..2], &frames[2..]]);
        let first = 0..len(&frames[..2]);
        for at in first.chain(LEN / 2..last.end).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            match Frames::read(&changed, &note([1, 2])) {
                Ok(read) => assert_eq!((last.contains(&at), read.frames.len()), (true, 3), "at {at}"),
                Err(_) => assert!(!last.contains(&at), "at {at}"),
            }
        }
    }

    #[test]
    fn a_journal_is_complete_or_discarded() {
        let bytes = journal_of([&frames(&[salt(1)]), &[]]);
        assert!(Frames::read(&[], &note([1, 2])).is_err());
        assert!(Frames::read(b"go on without it\n", &note([1, 2])).unwrap().frames.is_empty());
        assert!(Frames::read(&bytes[..bytes.len() - 1], &note([1, 2])).is_err());
    }

    #[test]
    fn a_journal_that_has_become_longer_keeps_its_regions() {
        let storage = redb::backends::InMemoryBackend::new();
        let mut bytes = journal_of([&frames(&[salt(1), salt(1)]), &[]]);
        bytes.resize(LEN * 3 / 2, 0);
        storage.set_len(bytes.len() as u64).unwrap();
        let mut journal = Journal::open("j".into(), storage, 0, Some(&note([1, 2]))).unwrap();
        let read = Frames::read(&bytes, &note([1, 2])).unwrap();
        journal.resume(&bytes, note([1, 2]), &read).unwrap();
        let left = LEN as u64 / 2 - read.end;
        assert!(journal.room(left) == Room::Here && journal.room(left + 1) == Room::InTheOther);
    }

    #[test]
    fn regions_are_used_in_turn() {
        let storage = redb::backends::InMemoryBackend::new();
        let mut journal = Journal::open("j".into(), storage, LEN as u64, None).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        assert!(!journal.is_used() && journal.room(1) == Room::Nowhere);
        let noted = journal.new_note(&mut rng);
        journal.begin(noted.clone());
        let [len, half] = [LEN as u64, LEN as u64 / 2];
        assert!(journal.room(half) == Room::Here && journal.room(half + 1) == Room::Nowhere);
        journal.end = half - 10;
        assert!(journal.room(10) == Room::Here && journal.room(11) == Room::InTheOther);
        let next = journal.switch_region(&mut rng);
        assert!(next.salts[0] != noted.salts[0] && next.salts[1] == noted.salts[1]);
        assert_eq!((journal.end, journal.other_is_free()), (half, false));
        // Until the database notes the new salt, the old ones apply.
        assert!(journal.salts == noted.salts);
        journal.other_is_checkpointed(next.clone());
        assert!(journal.other_is_free() && journal.salts == next.salts);
        journal.end = len;
        assert!(journal.room(1) == Room::InTheOther);
        journal.switch_region(&mut rng);
        assert_eq!(journal.end, 0);
    }
}
