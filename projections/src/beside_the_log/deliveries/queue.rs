//! The queue of one webhook. It is pure: it has no clock and no network, and the caller reports the outcome
//! of each message it hands out.
//!
//! Messages wait in the log: the queue reads on from its cursor only while it has room. A message that was
//! read but not delivered is pending. Messages of one lane leave in order, each only after the previous one
//! was delivered or given up. Lanes do not wait for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::{DeadLetter, Failure, Lane, Message, Pending};

/// The queue stops reading the log at this many pending messages.
pub const PENDING_LEN_MAX: usize = 1_000;
/// Dead letters kept per webhook. The oldest are dropped first; the log still has their events.
pub(super) const DEAD_LETTERS_MAX: usize = 10_000;
/// Notices, which are not in the log, are queued up to this length and given up beyond it.
const NOTICES_LEN_MAX: usize = 2 * PENDING_LEN_MAX;

/// The stored state of a queue besides its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) cursor: Position,
    pub(super) next_number: u64,
    pub(super) failing_since: Option<Timestamp>,
}

/// Changes since the last call; `None` removes a message or dead letter.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) header: Option<Header>,
    pub(super) pending: BTreeMap<u64, Option<Pending>>,
    pub(super) letters: BTreeMap<u64, Option<DeadLetter>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.header.is_none() && self.pending.is_empty() && self.letters.is_empty()
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Queue {
    cursor: Position,
    next_number: u64,
    failing_since: Option<Timestamp>,
    pending: BTreeMap<u64, Pending>,
    lanes: HashMap<Lane, VecDeque<u64>>,
    /// First message of each lane by due time, unless it is being sent.
    due: BTreeSet<(Timestamp, u64)>,
    header_changed: bool,
    changed: BTreeSet<u64>,
    letters: BTreeMap<u64, Option<DeadLetter>>,
    letter_count: usize,
}

impl Queue {
    /// Creates an empty queue that starts after `cursor`.
    pub(super) fn new(cursor: Position) -> Self {
        let header = Header { cursor, next_number: 1, failing_since: None };
        Self { header_changed: true, ..Self::load(header, BTreeMap::new(), 0) }
    }

    pub(super) fn load(header: Header, pending: BTreeMap<u64, Pending>, letter_count: usize) -> Self {
        let Header { cursor, next_number, failing_since } = header;
        let mut queue = Self {
            cursor,
            next_number,
            failing_since,
            pending: BTreeMap::new(),
            lanes: HashMap::new(),
            due: BTreeSet::new(),
            header_changed: false,
            changed: BTreeSet::new(),
            letters: BTreeMap::new(),
            letter_count,
        };
        for (number, pending) in pending {
            queue.enqueue(number, pending);
        }
        queue
    }

    fn enqueue(&mut self, number: u64, pending: Pending) {
        let lane = self.lanes.entry(pending.lane.clone()).or_default();
        lane.push_back(number);
        if lane.len() == 1 {
            self.due.insert((pending.due, number));
        }
        self.pending.insert(number, pending);
    }

    /// Position up to which the log is read.
    #[must_use]
    pub const fn cursor(&self) -> Position {
        self.cursor
    }

    /// Number of pending messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Number of dead letters kept.
    #[must_use]
    pub const fn letter_count(&self) -> usize {
        self.letter_count
    }

    /// Start of the current series of failures, if the last attempt failed.
    #[must_use]
    pub const fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// How many messages fit before the queue is full.
    #[must_use]
    pub fn room(&self) -> usize {
        PENDING_LEN_MAX.saturating_sub(self.pending.len())
    }

    /// Appends a message to its lane.
    pub fn push(&mut self, message: Message, lane: Lane, now: Timestamp) {
        let number = self.next_number;
        self.next_number += 1;
        self.header_changed = true;
        if message.position().is_none() && self.pending.len() >= NOTICES_LEN_MAX {
            let failure = Failure::Timeout;
            let letter = DeadLetter { message, lane, attempts: 0, given_up_at: now, failure };
            self.add_dead_letter(number, letter);
            return;
        }
        self.changed.insert(number);
        self.enqueue(number, Pending { message, lane, attempts: 0, due: now, failure: None });
    }

    /// Sets the position up to which the log is read.
    pub fn advance(&mut self, cursor: Position) {
        if cursor != self.cursor {
            self.cursor = cursor;
            self.header_changed = true;
        }
    }

    /// Hands out a due message with its number.
    pub fn start(&mut self, now: Timestamp) -> Option<(u64, Message)> {
        let (due, number) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let pending = self.pending.get(&number)?;
        Some((number, pending.message.clone()))
    }

    /// Number of attempts of a message.
    #[must_use]
    pub fn attempts(&self, number: u64) -> u16 {
        self.pending.get(&number).map_or(0, |pending| pending.attempts)
    }

    /// Time at which the next message is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Reports that a message was delivered.
    pub fn delivered(&mut self, number: u64) {
        if self.failing_since.take().is_some() {
            self.header_changed = true;
        }
        self.remove(number);
    }

    /// Reports that a message is obsolete.
    pub fn dropped(&mut self, number: u64) {
        self.remove(number);
    }

    /// Reports that a message was not sent after all.
    pub fn returned(&mut self, number: u64) {
        if let Some(pending) = self.pending.get(&number) {
            self.due.insert((pending.due, number));
        }
    }

    /// Reports a failed attempt. The message is due again at `retry_at`; without one it becomes a dead
    /// letter.
    pub fn failed(&mut self, number: u64, failure: Failure, now: Timestamp, retry_at: Option<Timestamp>) {
        if self.failing_since.is_none() {
            self.failing_since = Some(now);
            self.header_changed = true;
        }
        let Some(pending) = self.pending.get_mut(&number) else { return };
        pending.attempts = pending.attempts.saturating_add(1);
        pending.failure = Some(failure);
        match retry_at {
            Some(due) => {
                pending.due = due;
                self.due.insert((due, number));
                self.changed.insert(number);
            }
            None => {
                if let Some(Pending { message, lane, attempts, .. }) = self.remove(number) {
                    self.add_dead_letter(
                        number,
                        DeadLetter { message, lane, attempts, given_up_at: now, failure },
                    );
                }
            }
        }
    }

    fn add_dead_letter(&mut self, number: u64, letter: DeadLetter) {
        self.letters.insert(number, Some(letter));
        self.letter_count = (self.letter_count + 1).min(DEAD_LETTERS_MAX);
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let removed = self.pending.remove(&number)?;
        self.due.remove(&(removed.due, number));
        self.changed.insert(number);
        let lane = self.lanes.get_mut(&removed.lane)?;
        let was_first = lane.front() == Some(&number);
        lane.retain(|it| *it != number);
        match lane.front().copied() {
            None => drop(self.lanes.remove(&removed.lane)),
            Some(first) if was_first => {
                if let Some(pending) = self.pending.get(&first) {
                    self.due.insert((pending.due, first));
                }
            }
            Some(_) => {}
        }
        Some(removed)
    }

    /// Makes all pending messages due now and resets their attempts, after the webhook was enabled.
    pub fn restart(&mut self, now: Timestamp) {
        self.failing_since = None;
        self.header_changed = true;
        let waiting: Vec<u64> = self.pending.keys().copied().collect();
        for number in waiting {
            let Some(pending) = self.pending.get_mut(&number) else { continue };
            let was_due = self.due.remove(&(pending.due, number));
            pending.due = now;
            pending.attempts = 0;
            self.changed.insert(number);
            if was_due {
                self.due.insert((now, number));
            }
        }
    }

    /// Moves the cursor back to `after`. Pending events after it are removed, because they will be read
    /// again. Messages being sent stay.
    pub fn rewind(&mut self, after: Position) {
        if after >= self.cursor {
            return;
        }
        self.advance(after);
        let again: Vec<u64> = self
            .pending
            .iter()
            .filter(|(number, pending)| {
                let is_first = self.lanes.get(&pending.lane).and_then(VecDeque::front) == Some(number);
                let is_being_sent = is_first && !self.due.contains(&(pending.due, **number));
                pending.message.position().is_some_and(|position| position > after) && !is_being_sent
            })
            .map(|(number, _)| *number)
            .collect();
        for number in again {
            self.remove(number);
        }
    }

    /// Queues a dead letter again.
    pub(super) fn requeue(&mut self, number: u64, letter: DeadLetter, now: Timestamp) {
        self.forget_letter(number);
        self.push(letter.message, letter.lane, now);
    }

    pub(super) fn forget_letter(&mut self, number: u64) {
        self.letters.insert(number, None);
        self.letter_count = self.letter_count.saturating_sub(1);
    }

    /// Returns at most `limit` pending messages with numbers greater than `after`.
    #[must_use]
    pub fn page(&self, after: u64, limit: usize) -> Vec<(u64, Pending)> {
        let range = self.pending.range(after.saturating_add(1)..);
        range.take(limit).map(|(number, pending)| (*number, pending.clone())).collect()
    }

    /// Returns the changes since the last call.
    pub(super) fn take_changes(&mut self) -> Changes {
        let Self { cursor, next_number, failing_since, .. } = *self;
        let header = Header { cursor, next_number, failing_since };
        let changed = std::mem::take(&mut self.changed);
        Changes {
            header: std::mem::take(&mut self.header_changed).then_some(header),
            pending: changed.into_iter().map(|number| (number, self.pending.get(&number).cloned())).collect(),
            letters: std::mem::take(&mut self.letters),
        }
    }

    /// Restores changes that could not be stored.
    pub(super) fn put_back(&mut self, changes: Changes) {
        self.header_changed |= changes.header.is_some();
        self.changed.extend(changes.pending.into_keys());
        for (number, letter) in changes.letters {
            self.letters.entry(number).or_insert(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use keyledger_engine::domain::stream::StreamId;
    use keyledger_engine::value::id::{EventId, KeyId};
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn at(millis: i64) -> Timestamp {
        NOW.saturating_add_millis(millis)
    }

    fn lane(key: u128) -> Lane {
        Lane::of(&StreamId::Key(KeyId::from_u128(key)))
    }

    fn event(position: u64) -> Message {
        let id = EventId::from_u128(u128::from(position));
        Message::Event { position: Position::new(position), id, event_type: "KeyRenamed".into() }
    }

    fn queue(messages: &[(u64, u128)]) -> Queue {
        let mut queue = Queue::new(Position::START);
        for (position, key) in messages {
            queue.push(event(*position), lane(*key), NOW);
            queue.advance(Position::new(*position));
        }
        queue
    }

    fn start(queue: &mut Queue, now: Timestamp) -> Option<(u64, u64)> {
        let (number, message) = queue.start(now)?;
        Some((number, message.position().unwrap().get()))
    }

    #[test]
    fn a_lane_waits_for_its_first_message_and_others_continue() {
        let mut queue = queue(&[(1, 1), (2, 1), (3, 2)]);
        let (first, position) = start(&mut queue, NOW).unwrap();
        assert_eq!(position, 1);
        let (other, position) = start(&mut queue, NOW).unwrap();
        assert_eq!(position, 3);
        assert_eq!(start(&mut queue, NOW), None, "2 waits for 1");
        queue.failed(first, Failure::Timeout, NOW, Some(at(5)));
        queue.delivered(other);
        assert_eq!(start(&mut queue, at(4)), None);
        assert_eq!(start(&mut queue, at(5)), Some((first, 1)));
        queue.failed(first, Failure::Status(500), at(5), None);
        assert_eq!(queue.letter_count(), 1);
        assert_eq!(start(&mut queue, at(5)).unwrap().1, 2, "a dead letter does not block its lane");
    }

    #[test]
    fn reading_again_leaves_out_what_comes_again() {
        let mut queue = queue(&[(1, 1), (2, 1), (3, 2), (4, 3)]);
        let (first, _) = start(&mut queue, NOW).unwrap();
        queue.rewind(Position::new(2));
        assert_eq!((queue.cursor().get(), queue.len()), (2, 2));
        queue.rewind(Position::new(9));
        assert_eq!(queue.cursor().get(), 2, "there is nothing to read again after it");
        queue.rewind(Position::START);
        assert_eq!(queue.len(), 1, "a message being sent stays");
        queue.push(event(1), lane(1), NOW);
        assert_eq!(start(&mut queue, NOW), None, "its repetition waits for it");
        queue.delivered(first);
        assert_eq!(start(&mut queue, NOW).unwrap().1, 1);
    }

    #[test]
    fn enabling_begins_from_the_first_attempt() {
        let mut queue = queue(&[(1, 1), (2, 1)]);
        let (number, _) = start(&mut queue, NOW).unwrap();
        queue.failed(number, Failure::Timeout, NOW, Some(at(100_000)));
        assert_eq!(queue.failing_since(), Some(NOW));
        queue.restart(at(1));
        assert_eq!(queue.failing_since(), None);
        assert_eq!((start(&mut queue, at(1)), queue.attempts(number)), (Some((number, 1)), 0));
    }

    #[test]
    fn notices_are_bounded_too() {
        let mut queue = Queue::new(Position::START);
        for number in 0..NOTICES_LEN_MAX as u128 + 3 {
            let key_id = KeyId::from_u128(number);
            let notice = Message::KeyExpiringSoon { key_id, expires_at: NOW, notice_millis: 1 };
            queue.push(notice, lane(number), NOW);
        }
        assert_eq!((queue.len(), queue.letter_count(), queue.room()), (NOTICES_LEN_MAX, 3, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever fails, returns or is given up, and however often the queue is stored and loaded: messages
        /// of a lane leave in order, one at a time, and none is lost.
        #[test]
        fn lanes_keep_their_order(steps in prop::collection::vec((0..8_u8, 0..4_u128, 0..50_i64), 1..200)) {
            let mut queue = Queue::new(Position::START);
            let (mut position, mut now) = (0, NOW);
            let mut sending: Vec<(u64, u64)> = Vec::new();
            let mut last_done: HashMap<u128, u64> = HashMap::new();
            let mut done = 0;
            let key_of: fn(u64) -> u128 = |position| u128::from(position % 4);
            let mut stored: (Option<Header>, BTreeMap<u64, Pending>) = (None, BTreeMap::new());
            for (step, _, wait) in steps {
                now = now.saturating_add_millis(wait);
                match step {
                    0..=2 => {
                        position += 1;
                        queue.push(event(position), lane(key_of(position)), now);
                        queue.advance(Position::new(position));
                    }
                    3 => {
                        if let Some((number, position)) = start(&mut queue, now) {
                            let key = key_of(position);
                            let is_alone = !sending.iter().any(|it| key_of(it.1) == key);
                            prop_assert!(is_alone, "two of a lane at a time");
                            let is_in_order = last_done.get(&key).is_none_or(|last| *last < position);
                            prop_assert!(is_in_order, "overtaken");
                            sending.push((number, position));
                        }
                    }
                    4..=6 => {
                        if let Some((number, position)) = sending.pop() {
                            let retry_at = now.saturating_add_millis(wait);
                            match step {
                                4 => queue.delivered(number),
                                5 => queue.failed(number, Failure::Timeout, now, Some(retry_at)),
                                _ => queue.failed(number, Failure::Timeout, now, None),
                            }
                            if step != 5 {
                                done += 1;
                                last_done.insert(key_of(position), position);
                            }
                        }
                    }
                    _ => {
                        let changes = queue.take_changes();
                        stored.0 = changes.header.or(stored.0);
                        for (number, pending) in changes.pending {
                            match pending {
                                Some(pending) => drop(stored.1.insert(number, pending)),
                                None => drop(stored.1.remove(&number)),
                            }
                        }
                        if let Some(header) = stored.0 {
                            let count = queue.letter_count();
                            queue = Queue::load(header, stored.1.clone(), count);
                            sending.clear();
                        }
                    }
                }
                prop_assert_eq!(queue.len() as u64 + done, position);
            }
        }
    }
}
