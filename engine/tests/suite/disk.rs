//! Simulated disk that can lose power: each unsynced write is then lost, kept or torn. It has two files: a
//! log's database and its journal.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

/// Aligned writes of this many bytes are atomic.
const SECTOR: usize = 512;
/// Space is allocated in blocks of this many bytes.
const BLOCK: usize = 4_096;

/// Faults of a [`Disk`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The power fails after this many operations.
    pub(crate) crash_after: Option<u64>,
    /// Syncs do nothing but report success.
    pub(crate) ignores_sync: bool,
    /// The next sync fails.
    pub(crate) fail_sync: bool,
    /// There is no space to extend a file, or to write a block for the first time.
    pub(crate) full: bool,
    /// After this many operations on the database, further ones block until the faults change.
    pub(crate) hold_database_after: Option<u64>,
}

/// Maximum time that an operation is held or waited for; longer than any machine takes.
const HELD_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Unsynced {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// Bytes of the two files: the database's and the journal's.
pub(crate) type Images = [Vec<u8>; 2];

#[derive(Debug, Clone, Default)]
struct Contents {
    /// What survives in any case.
    durable: Vec<u8>,
    /// What is read: durable bytes with unsynced changes.
    current: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Blocks that have space.
    allocated: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct State {
    files: [Contents; 2],
    faults: Faults,
    operations: u64,
    /// Number of operations on the database.
    database_operations: u64,
    /// Whether an operation on the database is held.
    is_held: bool,
    crashed: bool,
}

/// File of a disk, at first the database. Clones are handles of the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    /// Notified when faults are set and when the database is held.
    changed: Arc<Condvar>,
    file: usize,
}

fn apply(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

impl Contents {
    fn after_power_loss(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut length = image.len();
        for unsynced in &self.unsynced {
            match unsynced {
                Unsynced::Write { offset, data } => match rng.random_range(0..3) {
                    0 => {}
                    1 => apply(&mut image, *offset, data),
                    _ => {
                        for start in (0..data.len()).step_by(SECTOR) {
                            if rng.random() {
                                let sector = &data[start..data.len().min(start + SECTOR)];
                                apply(&mut image, offset + start, sector);
                            }
                        }
                    }
                },
                Unsynced::Length(new) => {
                    if rng.random() {
                        length = *new;
                        image.truncate(length);
                    }
                }
            }
        }
        image.resize(length, 0);
        image
    }
}

impl Disk {
    pub(crate) fn of(images: Images) -> Self {
        let files = images.map(|image| Contents {
            allocated: (0..image.len().div_ceil(BLOCK)).collect(),
            current: image.clone(),
            durable: image,
            unsynced: Vec::new(),
        });
        Self::with(files)
    }

    fn with(files: [Contents; 2]) -> Self {
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        Self { state, changed: Arc::default(), file: 0 }
    }

    /// The journal on the same disk.
    pub(crate) fn journal(&self) -> Self {
        Self { file: 1, ..self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        (state.operations, state.database_operations, state.is_held) = (0, 0, false);
        self.changed.notify_all();
    }

    /// Waits until the database is held. Returns `false` when the work is done first, according to `is_done`.
    pub(crate) fn wait_until_held(&self, is_done: impl Fn() -> bool) -> bool {
        let since = Instant::now();
        let mut state = self.state();
        while !state.is_held {
            if is_done() {
                return false;
            }
            assert!(since.elapsed() < HELD_MAX, "the database is idle");
            let waited = self.changed.wait_timeout(state, Duration::from_millis(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Current contents, as a process without a loss of power sees them.
    pub(crate) fn images(&self) -> Images {
        self.state().files.each_ref().map(|file| file.current.clone())
    }

    /// Whether a sync failure was requested and has not happened yet.
    pub(crate) fn is_to_fail(&self) -> bool {
        self.state().faults.fail_sync
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The disk after its process was killed: the power is on, but unsynced changes may still be lost.
    pub(crate) fn after_kill(&self) -> Self {
        Self::with(self.state().files.clone())
    }

    /// The disk after a loss of power.
    pub(crate) fn after_power_loss(&self, rng: &mut StdRng) -> Self {
        Self::of(self.state().files.each_ref().map(|file| file.after_power_loss(rng)))
    }

    /// Counts an operation. Fails when the power has failed.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let since = Instant::now();
        while self.file == 0
            && state.faults.hold_database_after.is_some_and(|after| state.database_operations >= after)
        {
            assert!(since.elapsed() < HELD_MAX, "the database was never released");
            state.is_held = true;
            self.changed.notify_all();
            let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.database_operations += u64::from(self.file == 0);
        if state.faults.crash_after == Some(state.operations) {
            state.crashed = true;
        }
        state.operations += 1;
        if state.crashed { Err(io::Error::other("the power has failed")) } else { Ok(state) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().files[self.file].current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let offset = usize::try_from(offset).unwrap();
        let stored = state.files[self.file].current.get(offset..offset + out.len());
        out.copy_from_slice(stored.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.operate()?;
        let len = usize::try_from(len).unwrap();
        if state.faults.full && len > state.files[self.file].current.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.file];
        file.current.resize(len, 0);
        file.unsynced.push(Unsynced::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.operate()?;
        if state.faults.fail_sync {
            state.faults.fail_sync = false;
            return Err(io::Error::other("input/output error"));
        }
        if state.faults.ignores_sync {
            return Ok(());
        }
        let Contents { durable, unsynced, .. } = &mut state.files[self.file];
        for unsynced in unsynced.drain(..) {
            match unsynced {
                Unsynced::Write { offset, data } => apply(durable, offset, &data),
                Unsynced::Length(len) => durable.resize(len, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.operate()?;
        let offset = usize::try_from(offset).unwrap();
        let blocks = offset / BLOCK..(offset + data.len()).div_ceil(BLOCK);
        let full = state.faults.full;
        let file = &mut state.files[self.file];
        if full && blocks.clone().any(|block| !file.allocated.contains(&block)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.allocated.extend(blocks);
        apply(&mut file.current, offset, data);
        file.unsynced.push(Unsynced::Write { offset, data: data.to_vec() });
        Ok(())
    }
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}
