//! Counters that verifications update: a few additions in memory of the key's own, found by the key's number
//! in the verification index. There is no lock, no hash, and only one allocation per thousand keys, when one
//! of them is first verified.
//!
//! A cell counts verifications since it was last gathered. One bit per cell says whether there is something
//! to gather, so that the cost of gathering depends on the keys verified, not on all keys.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;

use super::Last;
use super::address::Address;
use super::counts::Counts;
use crate::verification::Code;

/// Cells allocated together.
const CHUNK_LEN: usize = 1_024;
/// Bucket `b` has 2^b chunks. Together they cover every possible key number.
const BUCKETS: usize = 23;
/// The codes of verifications that found a key, in the order of their counters.
const KEY_CODES: [Code; 8] = [
    Code::Valid,
    Code::OrganizationInactive,
    Code::Revoked,
    Code::Expired,
    Code::WrongEnvironment,
    Code::WrongOrganization,
    Code::WrongApi,
    Code::InsufficientScope,
];

/// Counters of all keys, and of verifications without a key.
pub(super) struct LiveCounters {
    buckets: [OnceLock<Box<[OnceLock<Chunk>]>>; BUCKETS],
    malformed: AtomicU64,
    not_found: AtomicU64,
}

struct Chunk {
    cells: Box<[Cell]>,
    ids: Box<[[AtomicU64; 2]]>,
    /// One bit for each cell that has something to gather.
    full: [AtomicU64; CHUNK_LEN / 64],
}

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Cell {
    counts: [AtomicU32; KEY_CODES.len()],
    last_at: AtomicI64,
    /// Odd while the address below is written.
    last_from_version: AtomicU32,
    last_from: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Cell>() == 64);

impl LiveCounters {
    pub(super) fn new() -> Self {
        Self {
            buckets: array::from_fn(|_| OnceLock::new()),
            malformed: AtomicU64::new(0),
            not_found: AtomicU64::new(0),
        }
    }

    /// Counts a verification without a key.
    pub(super) fn record_nameless(&self, code: Code) {
        match code {
            Code::Malformed => self.malformed.fetch_add(1, Ordering::Relaxed),
            _ => self.not_found.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Takes what [`LiveCounters::record_nameless`] counted.
    pub(super) fn gather_nameless(&self) -> Counts {
        let mut counts = Counts::default();
        counts.add(Code::Malformed, self.malformed.swap(0, Ordering::Relaxed));
        counts.add(Code::NotFound, self.not_found.swap(0, Ordering::Relaxed));
        counts
    }

    /// Counts a verification of the key with this number in the verification index.
    pub(super) fn record(&self, number: u32, key_id: KeyId, code: Code, now: Timestamp, from: Address) {
        let (chunk, place) = self.chunk_of(number);
        let (Some(cell), Some(id), Some(full)) =
            (chunk.cells.get(place), chunk.ids.get(place), chunk.full.get(place / 64))
        else {
            return;
        };
        cell.note_last(now.millis(), from);
        let Some(count) = KEY_CODES.iter().position(|it| *it == code).and_then(|it| cell.counts.get(it))
        else {
            return;
        };
        // Sequentially consistent, as gathering is: either this thread sees the cleared bit and sets it
        // again, or the thread that cleared the bit sees this count.
        count.fetch_add(1, Ordering::SeqCst);
        let bit = 1 << (place % 64);
        if full.load(Ordering::SeqCst) & bit == 0 {
            let bits = key_id.to_u128();
            id[0].store((bits >> 64) as u64, Ordering::Relaxed);
            id[1].store(bits as u64, Ordering::Relaxed);
            full.fetch_or(bit, Ordering::SeqCst);
        }
    }

    fn chunk_of(&self, number: u32) -> (&Chunk, usize) {
        let number = number as usize;
        // Counted from 1, so that the highest bit selects the bucket.
        let chunk = number / CHUNK_LEN + 1;
        let bucket = chunk.ilog2();
        let chunks = self
            .buckets
            .get(bucket as usize)
            .map(|chunks| chunks.get_or_init(|| (0..1_usize << bucket).map(|_| OnceLock::new()).collect()));
        let chunk = chunks.and_then(|chunks| chunks.get(chunk - (1 << bucket)));
        let chunk = chunk.expect("every 32-bit number has a chunk");
        (chunk.get_or_init(Chunk::new), number % CHUNK_LEN)
    }

    /// Takes all counts, key by key.
    pub(super) fn gather(&self, mut take: impl FnMut(KeyId, &Counts, Last)) {
        let chunks = self.buckets.iter().filter_map(OnceLock::get).flatten().filter_map(OnceLock::get);
        for chunk in chunks {
            for (word, full) in chunk.full.iter().enumerate() {
                if full.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                let mut left = full.swap(0, Ordering::SeqCst);
                while left != 0 {
                    let place = word * 64 + left.trailing_zeros() as usize;
                    left &= left - 1;
                    let (Some(cell), Some(id)) = (chunk.cells.get(place), chunk.ids.get(place)) else {
                        continue;
                    };
                    let counts = cell.take_counts();
                    if counts.total() > 0 {
                        let [high, low] = id.each_ref().map(|half| u128::from(half.load(Ordering::Relaxed)));
                        take(KeyId::from_u128(high << 64 | low), &counts, cell.last());
                    }
                }
            }
        }
    }
}

impl Chunk {
    fn new() -> Self {
        Self {
            cells: (0..CHUNK_LEN).map(|_| Cell::default()).collect(),
            ids: (0..CHUNK_LEN).map(|_| Default::default()).collect(),
            full: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Cell {
    fn take_counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (code, count) in KEY_CODES.into_iter().zip(&self.counts) {
            counts.add(code, count.swap(0, Ordering::SeqCst).into());
        }
        counts
    }

    /// Most verifications of a key come from one address, many in the same millisecond. Those write nothing
    /// here.
    fn note_last(&self, now: i64, from: Address) {
        let before = self.last_at.load(Ordering::Relaxed);
        if now < before {
            return;
        }
        if now > before {
            self.last_at.fetch_max(now, Ordering::Relaxed);
        }
        let (high, low) = from.halves();
        let [stored_high, stored_low] = &self.last_from;
        if stored_high.load(Ordering::Relaxed) == high && stored_low.load(Ordering::Relaxed) == low {
            return;
        }
        let version = self.last_from_version.load(Ordering::Relaxed);
        // A concurrent writer has an address that is just as recent.
        if !version.is_multiple_of(2)
            || self
                .last_from_version
                .compare_exchange(version, version.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        fence(Ordering::Release);
        stored_high.store(high, Ordering::Relaxed);
        stored_low.store(low, Ordering::Relaxed);
        self.last_from_version.store(version.wrapping_add(2), Ordering::Release);
    }

    fn last(&self) -> Last {
        let [high, low] = &self.last_from;
        loop {
            let version = self.last_from_version.load(Ordering::Acquire);
            let from = Address::from_halves(high.load(Ordering::Relaxed), low.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.last_from_version.load(Ordering::Relaxed) == version {
                return Last { at: Timestamp::from_millis(self.last_at.load(Ordering::Relaxed)), from };
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn every_number_has_a_cell_of_its_own() {
        let live = LiveCounters::new();
        let numbers = [0, 1, 1_023, 1_024, 3_071, 3_072, 7_168, 1_000_000, 5_000_000];
        for number in numbers {
            live.record(number, KeyId::from_u128(number.into()), Code::Valid, NOW, Address::default());
        }
        let mut gathered = Vec::new();
        live.gather(|id, counts, last| {
            assert_eq!((counts.total(), last.at), (1, NOW));
            gathered.push(id.to_u128() as u32);
        });
        assert_eq!(gathered, numbers);
        live.gather(|id, _, _| panic!("{id} was gathered already"));
        // The greatest possible number.
        live.chunk_of(u32::MAX);
    }

    #[test]
    fn nothing_is_lost_or_counted_twice_while_others_record() {
        const THREADS: u64 = 4;
        const EACH: u64 = 50_000;
        const KEYS: u64 = 70;
        let live = LiveCounters::new();
        let mut sums: HashMap<KeyId, u64> = HashMap::new();
        let addresses: Vec<Address> =
            (0..THREADS).map(|thread| Address::from_halves(thread + 1, thread + 1)).collect();
        thread::scope(|scope| {
            let recording: Vec<_> = addresses
                .iter()
                .map(|from| {
                    let live = &live;
                    scope.spawn(move || {
                        for turn in 0..EACH {
                            let (number, code) = (turn * 31 % KEYS, KEY_CODES[(turn % 8) as usize]);
                            let now = Timestamp::from_millis(turn as i64 / 100);
                            live.record(number as u32, KeyId::from_u128(number.into()), code, now, *from);
                        }
                    })
                })
                .collect();
            let mut take = |id, counts: &Counts, last: Last| {
                *sums.entry(id).or_default() += counts.total();
                assert!(addresses.contains(&last.from), "an address that was never recorded: {last:?}");
            };
            while recording.iter().any(|thread| !thread.is_finished()) {
                live.gather(&mut take);
            }
            live.gather(&mut take);
        });
        assert_eq!(sums.len() as u64, KEYS);
        assert_eq!(sums.values().sum::<u64>(), THREADS * EACH);
    }
}
