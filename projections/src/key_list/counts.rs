//! Number of keys in each state.

use std::sync::Arc;

use keyledger_engine::domain::key::KeyStatus;
use keyledger_engine::value::position::Position;

use super::chunk::Chunk;
use super::query::KeyQuery;
use super::search::Filter;

/// Number of keys in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCounts {
    /// Keys that are accepted.
    pub active: u64,
    /// Keys that are revoked and not expired.
    pub revoked: u64,
    /// Keys that have expired.
    pub expired: u64,
    /// Keys that were deleted.
    pub deleted: u64,
    /// Position of the log that the counts reflect.
    pub position: Position,
}

/// Counts the keys of `chunks` that match a query.
pub(super) fn count(query: &KeyQuery, chunks: &[Arc<Chunk>], position: Position) -> KeyCounts {
    const ALL: [KeyStatus; 4] =
        [KeyStatus::Active, KeyStatus::Revoked, KeyStatus::Expired, KeyStatus::Deleted];
    let query = KeyQuery { status: ALL.into(), unused_since: None, ..query.clone() };
    let mut counts = KeyCounts { active: 0, revoked: 0, expired: 0, deleted: 0, position };
    let Some(filter) = Filter::of(&query, None, None) else { return counts };
    let now = query.now.millis();
    for chunk in chunks {
        for row in filter.rows(chunk).iter() {
            let count = match chunk.status(row, now) {
                KeyStatus::Active => &mut counts.active,
                KeyStatus::Revoked => &mut counts.revoked,
                KeyStatus::Expired => &mut counts.expired,
                KeyStatus::Deleted => &mut counts.deleted,
            };
            *count += 1;
        }
    }
    counts
}
