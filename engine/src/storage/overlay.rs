//! Storage backend that never writes to its file: the database's writes stay in memory. A log that needs
//! repair after a crash can be read this way without touching the file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend};

/// Size of the blocks that written bytes are kept in.
const BLOCK: u64 = 4_096;

#[derive(Debug, Clone)]
pub(crate) struct Overlay(Arc<Layers>);

#[derive(Debug)]
struct Layers {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    blocks: HashMap<u64, Vec<u8>>,
    len: u64,
    /// Bytes of the file from here on do not count, because the length was set to less in between.
    file_end: u64,
}

impl Overlay {
    pub(crate) fn new(file: File) -> Result<Self, DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        let written = Mutex::new(Written { blocks: HashMap::new(), len, file_end: len });
        Ok(Self(Arc::new(Layers { file, written })))
    }

    /// Releases a database over this backend without closing it. Closing commits, which can end the process
    /// on a damaged file. The database's cache leaks; the file is closed so that others can open it, and the
    /// written blocks are freed.
    pub(crate) fn leave(&self, database: Option<Database>) {
        std::mem::forget(database);
        let _ = self.0.file.close();
        self.0.written().blocks = HashMap::new();
    }
}

impl Layers {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads bytes of the file, and zeros past its end.
    fn read_file(&self, written: &Written, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(written.file_end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (there, beyond) = out.split_at_mut(there.min(out.len()));
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { self.file.read(offset, there) }
    }
}

/// The blocks that `len` bytes at `offset` touch: number of the block, offset within it, and number of bytes.
fn blocks_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let (start, stop) = (offset.max(block * BLOCK), end.min((block + 1) * BLOCK));
        ((block), (start % BLOCK) as usize, (stop - start) as usize)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.0.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.read_file(&written, offset, out)?;
        if written.blocks.is_empty() {
            return Ok(());
        }
        let mut rest = out;
        for (block, start, len) in blocks_of(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(len);
            if let Some(bytes) = written.blocks.get(&block).and_then(|bytes| bytes.get(start..start + len)) {
                part.copy_from_slice(bytes);
            }
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.0.written();
        written.len = len;
        written.file_end = written.file_end.min(len);
        written.blocks.retain(|block, _| block * BLOCK < len);
        if let Some(bytes) = written.blocks.get_mut(&(len / BLOCK)) {
            bytes.iter_mut().skip((len % BLOCK) as usize).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.0.written();
        let mut rest = data;
        for (block, start, len) in blocks_of(offset, data.len()) {
            if !written.blocks.contains_key(&block) {
                let mut bytes = vec![0; BLOCK as usize];
                self.0.read_file(&written, block * BLOCK, &mut bytes)?;
                written.blocks.insert(block, bytes);
            }
            let (part, after) = rest.split_at(len);
            let target = written.blocks.get_mut(&block).and_then(|bytes| bytes.get_mut(start..start + len));
            if let Some(target) = target {
                target.copy_from_slice(part);
            }
            rest = after;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    // A reader must lock out writers but not other readers, so exclusive locks become shared ones.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}
