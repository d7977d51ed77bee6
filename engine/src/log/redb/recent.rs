//! The newest records as they were appended. Readers that follow the log share them, instead of each reading,
//! checking, unsealing and decoding its own copy.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::record::Record;
use crate::value::position::Position;

/// Maximum number of records kept. The newest group is kept whole, even if it is larger.
const LEN_MAX: usize = 2_048;

/// Consecutive records, oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentRecords(RwLock<Groups>);

#[derive(Debug, Default)]
struct Groups {
    groups: VecDeque<Arc<[Record]>>,
    len: usize,
}

impl RecentRecords {
    /// Adds durable records. If they do not follow the records kept so far, they replace them.
    pub(super) fn add(&self, records: Vec<Record>) {
        let Some(first) = records.first().map(|record| record.position) else { return };
        // Dropped after the lock is released: freeing records takes time. Readers may still share them.
        let mut left = Vec::new();
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.last().is_some_and(|last| last.next() != first) {
            left.extend(kept.groups.drain(..));
            kept.len = 0;
        }
        kept.len += records.len();
        kept.groups.push_back(records.into());
        while kept.len > LEN_MAX && kept.groups.len() > 1 {
            let Some(oldest) = kept.groups.pop_front() else { break };
            kept.len -= oldest.len();
            left.push(oldest);
        }
        drop(kept);
    }

    /// Drops all records.
    pub(super) fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Groups::default();
    }

    /// The kept records after `after`, at most `records_max`; none when the first of them is not kept.
    pub(super) fn after(&self, after: Position, records_max: usize) -> Vec<Record> {
        let groups: Vec<Arc<[Record]>> = {
            let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
            kept.groups.range(kept.group_after(after)..).take(records_max).cloned().collect()
        };
        let len: usize = groups.iter().map(|group| group.len()).sum();
        // Allocated once: growing the vector would move the records.
        let mut records = Vec::with_capacity(len.min(records_max));
        let kept = groups.iter().flat_map(|group| group.iter());
        records.extend(kept.filter(|record| record.position > after).take(records_max).cloned());
        records
    }

    /// The group that contains the record after `after`; `None` when it is not kept.
    pub(super) fn group_after(&self, after: Position) -> Option<Arc<[Record]>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.groups.get(kept.group_after(after)).cloned()
    }
}

impl Groups {
    /// Index of the group that contains the record after `after`; past the end when it is not kept.
    fn group_after(&self, after: Position) -> usize {
        if self.first().is_none_or(|first| first > after.next()) {
            return self.groups.len();
        }
        self.groups.partition_point(|group| group.last().is_none_or(|record| record.position <= after))
    }

    fn first(&self) -> Option<Position> {
        self.groups.front()?.first().map(|record| record.position)
    }

    fn last(&self) -> Option<Position> {
        self.groups.back()?.last().map(|record| record.position)
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::event::Event;
    use crate::domain::record::Personal;
    use crate::domain::stream::StreamId;
    use crate::value::actor::Actor;
    use crate::value::id::{ApiId, EventId};
    use crate::value::position::Version;
    use crate::value::time::Timestamp;

    use super::*;

    fn records(positions: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let record = |position| Record {
            position: Position::new(position),
            id: EventId::from_u128(1),
            time: Timestamp::from_millis(0),
            stream: StreamId::Api(ApiId::from_u128(1)),
            version: Version::NONE.next(),
            organization_id: None,
            actor: Actor::system(),
            request_id: None,
            causation: None,
            event: Event::ApiDeleted((), ()),
            personal: Personal::Readable,
        };
        positions.map(record).collect()
    }

    fn after(kept: &RecentRecords, after: u64, records_max: usize) -> Vec<u64> {
        let records = kept.after(Position::new(after), records_max);
        records.iter().map(|record| record.position.get()).collect()
    }

    #[test]
    fn records_are_returned_without_gaps() {
        let kept = RecentRecords::default();
        assert_eq!(after(&kept, 0, 10), [0; 0]);
        kept.add(records(4..=6));
        kept.add(records(7..=7));
        assert_eq!(after(&kept, 2, 10), [0; 0], "3 is not kept");
        assert_eq!(after(&kept, 3, 10), [4, 5, 6, 7]);
        assert_eq!(after(&kept, 4, 2), [5, 6]);
        assert_eq!(after(&kept, 5, 10), [6, 7]);
        assert_eq!(after(&kept, 7, 10), [0; 0]);
        assert_eq!(after(&kept, 3, 0), [0; 0]);
        kept.add(records(9..=10));
        assert_eq!(after(&kept, 7, 10), [0; 0], "8 is not kept");
        assert_eq!(after(&kept, 8, 10), [9, 10]);
        kept.add(records(11..=11));
        let group = |after| {
            let group = kept.group_after(Position::new(after))?;
            Some(group.iter().map(|record| record.position.get()).collect::<Vec<_>>())
        };
        assert_eq!(
            [7, 8, 9, 10, 11].map(group),
            [None, Some(vec![9, 10]), Some(vec![9, 10]), Some(vec![11]), None]
        );
        kept.clear();
        assert_eq!(after(&kept, 8, 10), [0; 0]);
    }

    #[test]
    fn no_more_than_the_maximum_is_kept() {
        let kept = RecentRecords::default();
        let group = 100;
        for first in (0..50).map(|n| n * group + 1) {
            kept.add(records(first..=first + group - 1));
        }
        let len = after(&kept, 3_000, usize::MAX).len();
        assert!(len <= LEN_MAX && len > LEN_MAX - 2 * group as usize, "{len}");
        kept.add(records(5_001..=8_000));
        assert_eq!(after(&kept, 5_000, usize::MAX).len(), 3_000, "the newest group is kept whole");
    }
}
