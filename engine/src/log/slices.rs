//! Processing of a long range of a log by several threads, with results in log order.

use std::iter;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::value::position::Position;

/// Maximum number of finished results per thread that wait for their turn. It bounds the slices held in
/// memory.
const WAITING_MAX: usize = 2;

/// Range of a log, processed slice by slice.
#[derive(Debug, Clone, Copy)]
pub struct Slices {
    /// The range begins after this position.
    pub after: Position,
    /// The last position of the range.
    pub until: Position,
    /// Number of positions in a slice; the last one may have fewer.
    pub len: usize,
    /// Number of threads. With 1, or 0, the caller's thread does the work.
    pub threads: usize,
}

impl Slices {
    /// Number of available processors; 1 if unknown.
    #[must_use]
    pub fn all_processors() -> usize {
        thread::available_parallelism().map_or(1, NonZero::get)
    }

    /// Processes the range. Each thread creates a worker and calls it for its slices, with the position
    /// before the slice and the slice's length. `take` receives the results on the caller's thread, in log
    /// order. The range ends early when `take` breaks; some later slices may then have been processed in
    /// vain.
    pub fn run<R, W>(self, worker: impl Fn() -> W + Sync, mut take: impl FnMut(R) -> ControlFlow<()>)
    where
        R: Send,
        W: FnMut(Position, usize) -> R,
    {
        if self.threads <= 1 {
            let mut work = worker();
            let mut results = self.iter().map(|(after, len)| work(after, len));
            let _ = results.try_for_each(take);
            return;
        }
        thread::scope(|scope| {
            let start = |first: usize| {
                let (sender, results) = sync_channel(WAITING_MAX);
                let worker = &worker;
                scope.spawn(move || {
                    let mut work = worker();
                    let mut slices = self.iter().skip(first).step_by(self.threads);
                    // Sending fails once the caller has seen enough.
                    slices.all(|(after, len)| sender.send(work(after, len)).is_ok())
                });
                results
            };
            let results: Vec<_> = (0..self.threads).map(start).collect();
            // A channel that is closed on its turn belongs to the thread that had the last slice, or to one
            // that panicked; the scope propagates the panic.
            let in_order = results.iter().cycle().map_while(|results| results.recv().ok());
            for result in in_order {
                if take(result).is_break() {
                    break;
                }
            }
        });
    }

    /// The position before each slice, and its length.
    fn iter(self) -> impl Iterator<Item = (Position, usize)> {
        let mut after = self.after;
        iter::from_fn(move || {
            let left = usize::try_from(self.until.get().checked_sub(after.get())?).unwrap_or(usize::MAX);
            let slice = (after, left.min(self.len.max(1)));
            after = Position::new(after.get() + slice.1 as u64);
            (slice.1 > 0).then_some(slice)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(after: u64, until: u64, len: usize, threads: usize) -> Slices {
        Slices { after: Position::new(after), until: Position::new(until), len, threads }
    }

    /// Positions in the order in which their results were taken, up to the slice that contains `last`.
    fn positions(slices: Slices, last: u64) -> Vec<u64> {
        let mut taken: Vec<u64> = Vec::new();
        let worker =
            || |after: Position, len: usize| (1..=len as u64).map(|n| after.get() + n).collect::<Vec<_>>();
        slices.run(worker, |slice| {
            taken.extend(slice);
            if taken.contains(&last) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        taken
    }

    #[test]
    fn results_come_in_log_order_for_any_number_of_threads() {
        for threads in [0, 1, 2, 3, 8] {
            for (after, until, len) in
                [(0, 1_000, 7), (5, 6, 7), (3, 80, 1), (0, 64, 64), (9, 9, 4), (9, 3, 4)]
            {
                let all: Vec<u64> = (after + 1..=until).collect();
                assert_eq!(positions(slices(after, until, len, threads), u64::MAX), all, "{threads} threads");
            }
        }
    }

    #[test]
    fn nothing_is_taken_after_a_break() {
        for threads in [1, 2, 5] {
            assert_eq!(positions(slices(0, 100_000, 10, threads), 35), (1..=40).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_a_worker_is_propagated() {
        let worker = || |after: Position, _| assert!(after.get() < 50);
        slices(0, 100, 10, 2).run(worker, |()| ControlFlow::Continue(()));
    }
}
