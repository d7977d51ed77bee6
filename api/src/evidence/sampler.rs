//! Sampling: the first events of a kind and an origin are written, and the rest of a while becomes one
//! line with their number. So nobody can fill a disk by failing, and nobody can hide by doing it often.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyledger_engine::value::time::Timestamp;

/// How much is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The length of a window, in milliseconds.
    pub window_millis: i64,
    /// The events of one subject that are written in a window.
    pub written_max: u32,
    /// The subjects that have a window of their own at a time. The others share one.
    pub subjects_max: usize,
    /// Whether a line says how many were omitted.
    pub is_summed_up: bool,
}

/// Events of one subject that were omitted, of which `first` is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Omitted<E> {
    pub first: E,
    pub count: u64,
    pub begun: Timestamp,
    pub ended: Timestamp,
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<E> {
    Event(E),
    Omitted(Omitted<E>),
}

/// Windows by subject. Subjects are known by a seeded hash, so that memory does not depend on what callers
/// send.
pub(super) struct Sampler<E> {
    limits: Limits,
    hashes: RandomState,
    windows: Mutex<Windows<E>>,
}

struct Windows<E> {
    by_subject: HashMap<u64, Window<E>>,
    /// The window of subjects that have none.
    shared: Option<Window<E>>,
}

struct Window<E> {
    begun: Timestamp,
    written: u32,
    omitted: Option<Omitted<E>>,
}

impl<E> Window<E> {
    const fn begin(now: Timestamp) -> Self {
        Self { begun: now, written: 0, omitted: None }
    }

    /// Ends also when the clock was set back.
    fn has_ended(&self, limits: Limits, now: Timestamp) -> bool {
        now < self.begun || now >= self.begun.saturating_add_millis(limits.window_millis)
    }

    fn take(&mut self, limits: Limits, now: Timestamp, render: impl FnOnce() -> E, into: &mut Vec<Entry<E>>) {
        if self.has_ended(limits, now) {
            into.extend(self.omitted.take().map(Entry::Omitted));
            *self = Self::begin(now);
        }
        if self.written < limits.written_max {
            self.written += 1;
            into.push(Entry::Event(render()));
        } else if limits.is_summed_up {
            let omitted = self.omitted.get_or_insert_with(|| Omitted {
                first: render(),
                count: 0,
                begun: now,
                ended: now,
            });
            omitted.count += 1;
            omitted.ended = now;
        }
    }
}

impl<E> Sampler<E> {
    pub(super) fn new(limits: Limits) -> Self {
        let windows = Windows { by_subject: HashMap::new(), shared: None };
        Self { limits, hashes: RandomState::new(), windows: Mutex::new(windows) }
    }

    /// Takes an event of a subject, and returns what is to be written now.
    pub(super) fn take(
        &self,
        subject: &impl Hash,
        now: Timestamp,
        render: impl FnOnce() -> E,
    ) -> Vec<Entry<E>> {
        let (subject, limits, mut entries) = (self.hashes.hash_one(subject), self.limits, Vec::new());
        let mut windows = self.windows();
        if let Some(window) = windows.by_subject.get_mut(&subject) {
            window.take(limits, now, render, &mut entries);
            return entries;
        }
        if windows.by_subject.len() >= limits.subjects_max {
            windows.end(limits, |window| window.has_ended(limits, now), &mut entries);
        }
        let window = if windows.by_subject.len() < limits.subjects_max {
            windows.by_subject.entry(subject).or_insert_with(|| Window::begin(now))
        } else {
            windows.shared.get_or_insert_with(|| Window::begin(now))
        };
        window.take(limits, now, render, &mut entries);
        entries
    }

    /// Ends the windows that are over at `now`, and returns what was omitted in them.
    pub(super) fn sum_up(&self, now: Timestamp) -> Vec<Entry<E>> {
        let limits = self.limits;
        self.end(|window| window.has_ended(limits, now))
    }

    /// Ends all windows.
    pub(super) fn sum_up_all(&self) -> Vec<Entry<E>> {
        self.end(|_| true)
    }

    fn end(&self, is_over: impl Fn(&Window<E>) -> bool) -> Vec<Entry<E>> {
        let mut entries = Vec::new();
        self.windows().end(self.limits, is_over, &mut entries);
        entries
    }

    fn windows(&self) -> MutexGuard<'_, Windows<E>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Windows<E> {
    fn end(&mut self, limits: Limits, is_over: impl Fn(&Window<E>) -> bool, into: &mut Vec<Entry<E>>) {
        let own = self.by_subject.extract_if(|_, window| is_over(window)).map(|(_, window)| window);
        into.extend(own.filter_map(|window| window.omitted).map(Entry::Omitted));
        if self.shared.as_ref().is_some_and(is_over) {
            into.extend(self.shared.take().and_then(|window| window.omitted).map(Entry::Omitted));
        }
        debug_assert!(self.by_subject.len() <= limits.subjects_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { window_millis: 60_000, written_max: 3, subjects_max: 2, is_summed_up: true };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn omitted(entries: &[Entry<u32>]) -> Vec<(u32, u64)> {
        let of = |entry: &Entry<u32>| match entry {
            Entry::Omitted(omitted) => Some((omitted.first, omitted.count)),
            Entry::Event(_) => None,
        };
        entries.iter().filter_map(of).collect()
    }

    #[test]
    fn the_first_are_written_and_the_rest_are_counted() {
        let sampler = Sampler::new(LIMITS);
        let written: usize = (0..1_000).map(|n| sampler.take(&"one", at(1), || n).len()).sum();
        assert_eq!(written, 3);
        assert!(sampler.sum_up(at(60)).is_empty());
        // The next one after the window begins another, and writes the sum first.
        let next = sampler.take(&"one", at(61), || 5_000);
        assert_eq!((omitted(&next), next.len()), (vec![(3, 997)], 2));
        assert!(sampler.sum_up(at(500)).is_empty());
    }

    #[test]
    fn subjects_without_a_window_share_one() {
        let sampler = Sampler::new(LIMITS);
        let written: usize = (0..1_000_u32).map(|n| sampler.take(&n, at(1), || n).len()).sum();
        assert_eq!(written, 2 + 3);
        assert_eq!(sampler.windows().by_subject.len(), 2);
        assert_eq!(omitted(&sampler.sum_up_all()), [(5, 995)]);
        // Windows that are over make room.
        assert_eq!(sampler.take(&1, at(1), || 1).len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_window() {
        let sampler = Sampler::new(Limits { written_max: 1, is_summed_up: false, ..LIMITS });
        assert_eq!(sampler.take(&1, at(100), || 1).len(), 1);
        assert_eq!(sampler.take(&1, at(101), || 1).len(), 0);
        assert_eq!(sampler.take(&1, at(50), || 1).len(), 1);
        assert!(sampler.sum_up_all().is_empty());
    }
}
