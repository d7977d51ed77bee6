//! A small file that is written past the system's page cache.
//!
//! Who syncs each write has no use for pages that the system is to write back later: without them a write and its sync take
//! two thirds of the processor's time, and a fifth less of everybody's who waits (docs/decisions/journal.md). Such writes are of
//! whole blocks, from memory that begins where one does.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

/// What every disk and file system that is in use takes as a block.
const BLOCK_LEN: usize = 4_096;
/// Longer files are not held in memory.
const LEN_MAX: u64 = 16 * 1024 * 1024;

/// A backend whose writes go to the disk directly. The sync is the other backend's, and so is everything from the first write
/// on that cannot be done directly.
pub(crate) struct DirectFile {
    /// For messages.
    path: PathBuf,
    file: File,
    /// What is in the file; blocks are written from here.
    image: Mutex<Image>,
    other: Box<dyn StorageBackend>,
}

impl DirectFile {
    /// Writes the file at `path`, which is `other`'s too, directly; leaves it to `other` where the system or the file is not
    /// made for that. `other` must have the file at its final length.
    pub(crate) fn over(path: &Path, other: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        match Self::open(path, &*other) {
            Some((file, image)) => {
                Box::new(Self { path: path.into(), file, image: Mutex::new(image), other })
            }
            None => other,
        }
    }

    fn open(path: &Path, other: &dyn StorageBackend) -> Option<(File, Image)> {
        let len = other.len().ok().filter(|len| (1..=LEN_MAX).contains(len))?;
        let len = usize::try_from(len).ok().filter(|len| len.is_multiple_of(BLOCK_LEN))?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(direct_flag()?).open(path).ok()?;
        let mut image = Image::new(len);
        // A file system that does not do this says so now.
        file.read_exact_at(image.get_mut(0..len)?, 0).ok()?;
        Some((file, image))
    }
}

#[cfg(target_os = "linux")]
fn direct_flag() -> Option<i32> {
    i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()
}

#[cfg(not(target_os = "linux"))]
fn direct_flag() -> Option<i32> {
    None
}

impl StorageBackend for DirectFile {
    fn len(&self) -> io::Result<u64> {
        self.other.len()
    }

    /// What was written is known, even if the disk has lost it.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(out.len() as u64);
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        match range.and_then(|(start, end)| image.get_mut(start..end)) {
            Some(known) => {
                out.copy_from_slice(known);
                Ok(())
            }
            None => self.other.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        *self.image.lock().unwrap_or_else(PoisonError::into_inner) = Image::new(0);
        self.other.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.other.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match image.put(offset, data) {
            Some((start, blocks)) => match self.file.write_all_at(blocks, start) {
                Ok(()) => return Ok(()),
                // Larger blocks than these, for example. Whole blocks again: what is in them beside is not read anew.
                Err(error) => {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "cannot be written directly, and goes through the system's cache: slower");
                    self.other.write(start, blocks)
                }
            },
            None => self.other.write(offset, data),
        };
        *image = Image::new(0);
        written
    }

    fn close(&self) -> io::Result<()> {
        self.other.close()
    }
}

/// Says nothing of what is in the file.
impl fmt::Debug for DirectFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The bytes of a file, in memory that begins where a block may.
struct Image {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Image {
    fn new(len: usize) -> Self {
        let memory = vec![0; len + BLOCK_LEN];
        let start = memory.as_ptr().addr().next_multiple_of(BLOCK_LEN) - memory.as_ptr().addr();
        Self { memory, start, len }
    }

    fn get_mut(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        let image = self.memory.get_mut(self.start..self.start + self.len)?;
        image.get_mut(range)
    }

    /// Takes in bytes, and gives the blocks they are in and where these stand; none when it has not got those.
    fn put(&mut self, offset: u64, data: &[u8]) -> Option<(u64, &[u8])> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(data.len())?;
        self.get_mut(offset..end)?.copy_from_slice(data);
        let start = offset - offset % BLOCK_LEN;
        Some((start as u64, self.get_mut(start..end.next_multiple_of(BLOCK_LEN))?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use redb::backends::FileBackend;

    use super::*;

    const LEN: usize = 3 * BLOCK_LEN;

    fn backend(path: &Path) -> Box<dyn StorageBackend> {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        Box::new(FileBackend::new(file).unwrap())
    }

    proptest! {
        /// Wherever a write begins and ends, the rest of the file is as it was; one that makes the file longer is the other
        /// backend's, and so are all after it.
        #[test]
        fn writes_are_found_in_the_file(
            writes in vec((0..LEN + 2_000, vec(any::<u8>(), 1..6_000)), 1..20),
            len in prop_oneof![Just(LEN), Just(LEN + 100), Just(0)],
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            let mut expected: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            fs::write(&path, &expected).unwrap();
            let storage = DirectFile::over(&path, backend(&path));
            for (offset, data) in writes {
                storage.write(offset as u64, &data).unwrap();
                storage.sync_data().unwrap();
                let end = offset + data.len();
                if expected.len() < end {
                    expected.resize(end, 0);
                }
                expected[offset..end].copy_from_slice(&data);
                prop_assert!(fs::read(&path).unwrap() == expected);
                let mut read = vec![0; data.len()];
                storage.read(offset as u64, &mut read).unwrap();
                prop_assert!(read == data);
            }
        }
    }

    #[test]
    fn files_that_are_not_blocks_are_left_to_the_other_backend() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for len in [0, 1, BLOCK_LEN - 1, BLOCK_LEN + 1] {
            fs::write(&path, vec![1; len]).unwrap();
            assert!(DirectFile::open(&path, &*backend(&path)).is_none(), "{len}");
        }
    }

    #[test]
    fn what_cannot_be_written_directly_is_written_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut expected = vec![1; LEN];
        fs::write(&path, &expected).unwrap();
        let mut image = Image::new(LEN);
        image.get_mut(0..LEN).unwrap().copy_from_slice(&expected);
        // Nothing can be written to a file that is open for reading.
        let file = File::open(&path).unwrap();
        let storage =
            DirectFile { path: path.clone(), file, image: Mutex::new(image), other: backend(&path) };
        for (offset, byte) in [(5_000, 2), (6_000, 3), (LEN as u64 - 10, 4)] {
            storage.write(offset, &[byte; 10]).unwrap();
            storage.sync_data().unwrap();
            expected[offset as usize..offset as usize + 10].fill(byte);
            assert!(fs::read(&path).unwrap() == expected);
            let mut read = vec![0; LEN];
            storage.read(0, &mut read).unwrap();
            assert!(read == expected);
        }
    }

    #[test]
    fn a_new_length_is_the_other_backends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![1; LEN]).unwrap();
        let storage = DirectFile::over(&path, backend(&path));
        storage.set_len(BLOCK_LEN as u64).unwrap();
        storage.write(10, &[2; 10]).unwrap();
        let mut expected = vec![1; BLOCK_LEN];
        expected[10..20].fill(2);
        assert!(fs::read(&path).unwrap() == expected);
    }
}
