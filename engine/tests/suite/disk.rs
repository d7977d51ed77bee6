//! A disk in memory that can lose its power: what was not synced is lost, kept or torn, write by write. It has two files: a
//! log's database, and its journal.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

/// Writes of this many bytes, aligned, take place whole or not at all.
const SECTOR: usize = 512;
/// Space is taken in blocks of this many bytes.
const BLOCK: usize = 4_096;

/// What goes wrong with a [`Disk`] on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The power fails at the operation after this many.
    pub(crate) crash_after: Option<u64>,
    /// Syncing does nothing, and says that it did.
    pub(crate) ignores_sync: bool,
    /// The next sync fails.
    pub(crate) fail_sync: bool,
    /// There is no space for anything longer, nor for what is written where nothing was before.
    pub(crate) full: bool,
    /// The database's operation after this many waits, and all that follow, until the faults are others.
    pub(crate) hold_database_after: Option<u64>,
}

/// How long an operation is held, or waited for, at most: longer than any machine takes.
const HELD_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// What the files hold: the database's bytes and the journal's.
pub(crate) type Images = [Vec<u8>; 2];

#[derive(Debug, Clone, Default)]
struct Contents {
    /// What survives in any case.
    durable: Vec<u8>,
    /// What is read: durable and pending.
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// The blocks that have their space.
    allocated: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct State {
    files: [Contents; 2],
    faults: Faults,
    operations: u64,
    /// Of them, the database's.
    database_operations: u64,
    /// Whether the database waits.
    is_held: bool,
    crashed: bool,
}

/// A file of a disk, the database's to begin with. Clones are handles of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    /// Told when faults are set, and when the database is held.
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
        for pending in &self.pending {
            match pending {
                Pending::Write { offset, data } => match rng.random_range(0..3) {
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
                Pending::Length(new) => {
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
            pending: Vec::new(),
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

    /// Waits until the database is held. False when it has ended what it did, as `is_done` says, without coming so far.
    pub(crate) fn wait_until_held(&self, is_done: impl Fn() -> bool) -> bool {
        let since = Instant::now();
        let mut state = self.state();
        while !state.is_held {
            if is_done() {
                return false;
            }
            assert!(since.elapsed() < HELD_MAX, "the database does nothing");
            let waited = self.changed.wait_timeout(state, Duration::from_millis(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What is on it now, for those who go on without a loss of power.
    pub(crate) fn images(&self) -> Images {
        self.state().files.each_ref().map(|file| file.current.clone())
    }

    /// Whether a sync is to fail and none has come.
    pub(crate) fn is_to_fail(&self) -> bool {
        self.state().faults.fail_sync
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The disk as a process that was killed leaves it: the power is there, and what was not synced may be lost yet.
    pub(crate) fn after_kill(&self) -> Self {
        Self::with(self.state().files.clone())
    }

    /// The disk after the power has failed, and come back.
    pub(crate) fn after_power_loss(&self, rng: &mut StdRng) -> Self {
        Self::of(self.state().files.each_ref().map(|file| file.after_power_loss(rng)))
    }

    /// Counts an operation; fails at the one at which the power fails, and ever after.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let since = Instant::now();
        while self.file == 0
            && state.faults.hold_database_after.is_some_and(|after| state.database_operations >= after)
        {
            assert!(since.elapsed() < HELD_MAX, "nobody lets the database go on");
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
        file.pending.push(Pending::Length(len));
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
        let Contents { durable, pending, .. } = &mut state.files[self.file];
        for pending in pending.drain(..) {
            match pending {
                Pending::Write { offset, data } => apply(durable, offset, &data),
                Pending::Length(len) => durable.resize(len, 0),
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
        file.pending.push(Pending::Write { offset, data: data.to_vec() });
        Ok(())
    }
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}
