//! How many keys there are in each state.

use std::sync::Arc;

use keyledger_engine::domain::key::KeyStatus;
use keyledger_engine::value::position::Position;

use super::chunk::Chunk;
use super::query::KeyQuery;
use super::search::Filter;

/// Numbers of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCounts {
    /// Accepted.
    pub active: u64,
    /// Stopped for now.
    pub revoked: u64,
    /// Past their time.
    pub expired: u64,
    /// Gone.
    pub deleted: u64,
    /// The position of the log that the answer is from.
    pub position: Position,
}

/// Counts the keys of `chunks` that a query is about.
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
