//! A long stretch of a log, worked on in slices by several threads at once, with the results in the order of the log.

use std::iter;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::value::position::Position;

/// Results of one thread that wait for their turn; so many slices more than there are threads are held in memory at most,
/// for each thread.
const WAITING_MAX: usize = 2;

/// A stretch of a log, to be worked on slice by slice.
#[derive(Debug, Clone, Copy)]
pub struct Slices {
    /// It begins after this position.
    pub after: Position,
    /// It ends with this one.
    pub until: Position,
    /// Positions in a slice; the last one may have fewer.
    pub len: usize,
    /// How many threads work on slices; with one, it is the caller's.
    pub threads: usize,
}

impl Slices {
    /// As many threads as there are processors.
    #[must_use]
    pub fn all_processors() -> usize {
        thread::available_parallelism().map_or(1, NonZero::get)
    }

    /// Has each thread make a worker and hand it slices, as the position before it and its length; `take` gets what the
    /// workers make of them, slice after slice, on the caller's thread. It ends with the stretch, or when `take` says so:
    /// slices after that one may have been worked on for nothing.
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
                    // Nobody takes any more results when the caller has seen enough.
                    slices.all(|(after, len)| sender.send(work(after, len)).is_ok())
                });
                results
            };
            let results: Vec<_> = (0..self.threads).map(start).collect();
            // Whose turn it is and has no more had the last slice, or panicked; the scope passes that on.
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

    /// Every position that was worked on, in the order in which it was taken, until `last` was.
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
    fn results_come_in_the_order_of_the_log_however_many_threads_there_are() {
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
    fn no_more_is_taken_when_it_is_enough() {
        for threads in [1, 2, 5] {
            assert_eq!(positions(slices(0, 100_000, 10, threads), 35), (1..=40).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_worker_that_panics_is_noticed() {
        let worker = || |after: Position, _| assert!(after.get() < 50);
        slices(0, 100, 10, 2).run(worker, |()| ControlFlow::Continue(()));
    }
}
