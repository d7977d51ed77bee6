//! Finds the page that a query asks for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use keyledger_engine::domain::key::{KeyStatus, OwnerKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::KeyId;
use memchr::memmem::Finder;

use super::chunk::{
    Chunk, NEVER, is_scope, push_api_token, push_client_token, push_scope_token, push_user_token,
};
use super::cursor::{self, NamePrefix, SortValue};
use super::fold::fold_into;
use super::query::{KeyQuery, KeySort, QueryError, TOTAL_MAX};
use super::row_set::RowSet;
use super::violations::Violations;
use crate::beside_the_log::usage::LastVerifications;

/// The ids of a page, with the cursor and the total.
pub(super) struct Found {
    pub(super) ids: Vec<KeyId>,
    pub(super) next_cursor: Option<String>,
    pub(super) total: u64,
    pub(super) total_capped: bool,
}

/// Searches `chunks`, which must include every chunk that may hold matches.
pub(super) fn search(
    query: &KeyQuery,
    chunks: &mut [Arc<Chunk>],
    last_verified: Option<&LastVerifications<'_>>,
    violations: Option<&Violations<'_>>,
) -> Result<Found, QueryError> {
    let after = match &query.cursor {
        None => None,
        Some(cursor) => Some(cursor::decode(query, cursor).ok_or(QueryError::BadCursor)?),
    };
    let after = after.as_ref().map(|(id, value)| (*id, value.as_slice()));
    let Some(filter) = Filter::of(query, last_verified, violations) else {
        return Ok(Found { ids: Vec::new(), next_cursor: None, total: 0, total_capped: false });
    };
    let search = Search { query, filter, after };
    match query.sort {
        KeySort::CreatedAsc => {
            chunks.sort_by_key(|chunk| chunk.created_range.0);
            search.page(
                chunks,
                created_at,
                |entry| entry,
                |chunk| {
                    let (earliest, latest) = chunk.created_range;
                    Some(((earliest, LEAST_ID), (latest, GREATEST_ID)))
                },
            )
        }
        KeySort::CreatedDesc => {
            chunks.sort_by_key(|chunk| Reverse(chunk.created_range.1));
            search.page(chunks, created_at, Reverse, |chunk| {
                let (earliest, latest) = chunk.created_range;
                Some((Reverse((latest, GREATEST_ID)), Reverse((earliest, LEAST_ID))))
            })
        }
        KeySort::NameAsc => search.page(chunks, name, |entry| entry, |_| None),
        KeySort::NameDesc => search.page(chunks, name, Reverse, |_| None),
        KeySort::ExpiresAsc => search.page(chunks, expires_at, |entry| entry, |_| None),
        KeySort::ExpiresDesc => search.page(chunks, expires_at, Reverse, |_| None),
    }
}

const LEAST_ID: KeyId = KeyId::from_u128(0);
const GREATEST_ID: KeyId = KeyId::from_u128(u128::MAX);

fn created_at(chunk: &Chunk, row: usize) -> i64 {
    chunk.created_at.get(row).copied().unwrap_or_default()
}

fn expires_at(chunk: &Chunk, row: usize) -> i64 {
    chunk.expires_at.get(row).copied().unwrap_or(NEVER)
}

fn name(chunk: &Chunk, row: usize) -> NamePrefix<'_> {
    NamePrefix::of(chunk.folded_name(row))
}

/// A key's place in a sort order; the first key is the least.
trait Place<V>: Ord + Copy {
    fn entry(self) -> (V, KeyId);
}

impl<V: Ord + Copy> Place<V> for (V, KeyId) {
    fn entry(self) -> (V, KeyId) {
        self
    }
}

impl<V: Ord + Copy> Place<V> for Reverse<(V, KeyId)> {
    fn entry(self) -> (V, KeyId) {
        self.0
    }
}

struct Search<'a> {
    query: &'a KeyQuery,
    filter: Filter<'a>,
    after: Option<(KeyId, &'a [u8])>,
}

impl<'a> Search<'a> {
    /// `value` returns a row's sort value, `place` turns value and id into a place, and `span` returns bounds
    /// of the places in a chunk, if known. Chunks must be sorted by the lower bound.
    fn page<V: SortValue<'a>, P: Place<V>>(
        &self,
        chunks: &'a [Arc<Chunk>],
        value: impl Fn(&'a Chunk, usize) -> V,
        place: impl Fn((V, KeyId)) -> P,
        span: impl Fn(&Chunk) -> Option<(P, P)>,
    ) -> Result<Found, QueryError> {
        let after = match self.after {
            None => None,
            Some((id, bytes)) => Some(place((V::decode(bytes).ok_or(QueryError::BadCursor)?, id))),
        };
        let limit = self.query.limit.max(1);
        let mut total = 0;
        // The first `limit + 1` places found so far, the last of them on top.
        let mut first = BinaryHeap::with_capacity(limit + 2);
        for chunk in chunks {
            if total > TOTAL_MAX
                && let Some((from, to)) = span(chunk)
            {
                if after.is_some_and(|after| to <= after) {
                    continue;
                }
                if first.len() > limit && first.peek().is_some_and(|last| *last < from) {
                    break;
                }
            }
            for row in self.filter.rows(chunk).iter() {
                total += 1;
                let Some(id) = chunk.ids.get(row) else { continue };
                let found = place((value(chunk, row), *id));
                if after.is_some_and(|after| found <= after) {
                    continue;
                }
                if first.len() <= limit {
                    first.push(found);
                } else if let Some(mut last) = first.peek_mut()
                    && found < *last
                {
                    *last = found;
                }
            }
        }
        let mut places = first.into_sorted_vec();
        let more = places.len() > limit;
        places.truncate(limit);
        let next_cursor = places.last().filter(|_| more).map(|last| {
            let (value, id) = last.entry();
            cursor::encode(self.query, &value, id)
        });
        Ok(Found {
            ids: places.into_iter().map(|place| place.entry().1).collect(),
            next_cursor,
            total: total.min(TOTAL_MAX),
            total_capped: total > TOTAL_MAX,
        })
    }
}

/// The conditions of a query.
pub(super) struct Filter<'a> {
    text: Option<Finder<'a>>,
    tokens: Vec<Finder<'a>>,
    statuses: [bool; 4],
    owners: Vec<OwnerKind>,
    environment: Option<Environment>,
    created_after: i64,
    created_before: i64,
    expires_before: Option<i64>,
    unused_since: Option<i64>,
    last_verified: Option<&'a LastVerifications<'a>>,
    violations: Option<&'a Violations<'a>>,
    now: i64,
}

impl<'a> Filter<'a> {
    /// Builds the filter of a query; `None` when nothing can match.
    pub(super) fn of(
        query: &KeyQuery,
        last_verified: Option<&'a LastVerifications<'a>>,
        violations: Option<&'a Violations<'a>>,
    ) -> Option<Self> {
        let mut text = None;
        if let Some(needle) = query.text.as_deref().filter(|needle| !needle.is_empty()) {
            // No text of a key contains such a character, and one of them is the separator.
            if needle.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                return None;
            }
            let mut folded = Vec::new();
            fold_into(needle, &mut folded);
            text = Some(Finder::new(&folded).into_owned());
        }
        let mut tokens = Vec::new();
        let mut look_for = |push: &dyn Fn(&mut Vec<u8>)| {
            let mut token = Vec::new();
            push(&mut token);
            tokens.push(Finder::new(&token).into_owned());
        };
        if let Some(user_id) = &query.user_id {
            look_for(&|token| push_user_token(user_id, token));
        }
        if let Some(client_id) = &query.client_id {
            look_for(&|token| push_client_token(client_id, token));
        }
        if let Some(api_id) = query.api_id {
            look_for(&|token| push_api_token(api_id, token));
        }
        if let Some(scope) = &query.scope {
            if !is_scope(scope) {
                return None;
            }
            look_for(&|token| push_scope_token(scope, token));
        }
        let wanted = |status| {
            if query.status.is_empty() {
                status != KeyStatus::Deleted
            } else {
                query.status.contains(&status)
            }
        };
        Some(Self {
            text,
            tokens,
            statuses: [KeyStatus::Active, KeyStatus::Revoked, KeyStatus::Expired, KeyStatus::Deleted]
                .map(wanted),
            owners: query.owner.clone(),
            environment: query.environment,
            created_after: query.created_after.map_or(i64::MIN, |time| time.millis()),
            created_before: [query.created_before, query.unused_since]
                .into_iter()
                .flatten()
                .map(|time| time.millis())
                .fold(i64::MAX, i64::min),
            expires_before: query.expires_before.map(|time| time.millis()),
            unused_since: query.unused_since.map(|time| time.millis()),
            last_verified,
            violations,
            now: query.now.millis(),
        })
    }

    /// Returns the matching rows of a chunk.
    pub(super) fn rows(&self, chunk: &Chunk) -> RowSet {
        let (earliest, latest) = chunk.created_range;
        if latest <= self.created_after && self.created_after != i64::MIN || earliest >= self.created_before {
            return RowSet::EMPTY;
        }
        let mut candidates = self.text.as_ref().map(|finder| chunk.folded.find(finder));
        for finder in &self.tokens {
            let found = chunk.tokens.find(finder);
            candidates = Some(candidates.map_or(found, |candidates| candidates.and(&found)));
        }
        match candidates {
            Some(candidates) => candidates.retain(|row| self.keeps(chunk, row)),
            None => RowSet::filled(chunk.len(), |row| self.keeps(chunk, row)),
        }
    }

    fn keeps(&self, chunk: &Chunk, row: usize) -> bool {
        let created_at = created_at(chunk, row);
        let status = chunk.status(row, self.now);
        let status_wanted = match status {
            KeyStatus::Active => self.statuses[0],
            KeyStatus::Revoked => self.statuses[1],
            KeyStatus::Expired => self.statuses[2],
            KeyStatus::Deleted => self.statuses[3],
        };
        status_wanted
            && (self.created_after == i64::MIN || created_at > self.created_after)
            && created_at < self.created_before
            && (self.owners.is_empty() || self.owners.contains(&chunk.owner(row)))
            && self.environment.is_none_or(|environment| chunk.environment(row) == environment)
            && self.expires_before.is_none_or(|before| expires_at(chunk, row) < before)
            && self.unused_since.is_none_or(|since| !self.is_verified_since(chunk, row, since))
            && self.violations.is_none_or(|violations| violations.has(chunk, row))
    }

    fn is_verified_since(&self, chunk: &Chunk, row: usize, since: i64) -> bool {
        let last = chunk.ids.get(row).and_then(|id| self.last_verified?.of(*id));
        last.is_some_and(|last| last.millis() >= since)
    }
}
