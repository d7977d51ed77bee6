//! A small file written past the operating system's page cache.
//!
//! When every write is synced, there is no use for cached pages to be written back later. Without them a
//! write and its sync take two thirds of the processor time, and callers wait a fifth less
//! (docs/decisions/journal.md). Direct writes are made in whole blocks, from block-aligned memory.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

/// Block size that every common disk and file system accepts, in bytes.
const BLOCK_LEN: usize = 4_096;
/// Maximum length of a file that is written directly, in bytes; its image is held in memory.
const LEN_MAX: u64 = 16 * 1024 * 1024;

/// Storage backend that writes directly. It delegates syncing to another backend, and all reading and writing
/// from the first write on that cannot be made directly.
pub(crate) struct DirectFile {
    /// For messages.
    path: PathBuf,
    file: File,
    /// The file's contents. Blocks are written from here.
    image: Mutex<Image>,
    other: Box<dyn StorageBackend>,
}

impl DirectFile {
    /// Wraps `other` so that the file at `path`, which must be the file of `other` at its final length, is
    /// written directly. Returns `other` unchanged where the operating system, the file system or the length
    /// does not allow that.
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
        // A file system without direct access fails here.
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

    /// Reads the image: what was written, even if the disk has lost it.
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
                // For example, the device's blocks are larger. The other backend gets whole blocks too, so
                // nothing has to be read first.
                Err(error) => {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "direct write failed; using the slower page cache");
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

/// Omits the contents.
impl fmt::Debug for DirectFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Contents of a file, in block-aligned memory.
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

    /// Stores bytes, and returns the blocks that contain them with their offset; `None` when they are outside
    /// the image.
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
        /// A write changes nothing else in the file, wherever it begins and ends. A write that makes the file
        /// longer goes to the other backend, and so do all later ones.
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
    fn a_failed_direct_write_goes_to_the_other_backend() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut expected = vec![1; LEN];
        fs::write(&path, &expected).unwrap();
        let mut image = Image::new(LEN);
        image.get_mut(0..LEN).unwrap().copy_from_slice(&expected);
        // A file opened for reading cannot be written.
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
    fn after_a_change_of_length_the_other_backend_writes() {
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
