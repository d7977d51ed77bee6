//! What can be asked of the audit trail, and how it is found.

use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::{self, LogReader};
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use super::postings::{block_of, find, position_at};
use super::term;
use crate::stored::store::{self, Snapshot};

/// How many events that may be of a request are read at a time.
const CANDIDATES_LEN: usize = 256;

/// Which events, in which order, from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// After this position.
    pub after: Position,
    /// Before this position.
    pub before: Option<Position>,
    /// How many events at most; at least one.
    pub limit: usize,
    /// Latest first.
    pub descending: bool,
    /// Concerning this organization.
    pub organization_id: Option<OrganizationId>,
    /// Of this key.
    pub key_id: Option<KeyId>,
    /// Issued by the actor with this id.
    pub actor_id: Option<String>,
    /// Of this kind.
    pub event_type: Option<EventType>,
    /// Of the request with this id.
    pub request_id: Option<String>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Earlier than this time.
    pub to: Option<Timestamp>,
}

impl Default for AuditQuery {
    /// The first 50 events.
    fn default() -> Self {
        Self {
            after: Position::START,
            before: None,
            limit: 50,
            descending: false,
            organization_id: None,
            key_id: None,
            actor_id: None,
            event_type: None,
            request_id: None,
            from: None,
            to: None,
        }
    }
}

impl AuditQuery {
    fn matches(&self, record: &Record) -> bool {
        record.position > self.after
            && self.before.is_none_or(|before| record.position < before)
            && self.organization_id.as_ref().is_none_or(|id| record.organization_id.as_ref() == Some(id))
            && self.key_id.is_none_or(|id| record.stream.key_id() == Some(id))
            && self.actor_id.as_deref().is_none_or(|id| *record.actor.id == *id)
            && self.event_type.is_none_or(|event_type| record.event.event_type() == event_type)
            && self.request_id.as_deref().is_none_or(|id| record.request_id.as_deref() == Some(id))
            && self.from.is_none_or(|from| record.time >= from)
            && self.to.is_none_or(|to| record.time < to)
    }

    fn terms(&self) -> Vec<Vec<u8>> {
        let mut terms = Vec::new();
        let mut term = Vec::new();
        if let Some(id) = &self.actor_id {
            term::actor(id, &mut term);
            terms.push(term.clone());
        }
        if let Some(id) = &self.organization_id {
            term::organization(id, &mut term);
            terms.push(term.clone());
        }
        if let Some(event_type) = self.event_type {
            term::event_type(event_type, &mut term);
            terms.push(term.clone());
        }
        if let Some(id) = &self.request_id {
            term::request(id, &mut term);
            terms.push(term);
        }
        terms
    }
}

/// Some of the events that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The events.
    pub records: Vec<Record>,
    /// When more match: the position of the last event of this page. It is the next page's `after`, or its `before` when
    /// the latest come first.
    pub next: Option<Position>,
    /// The position of the log that the answer is from: no event up to here that matches is missing.
    pub position: Position,
}

/// Positions from the first to the last, both included; empty when the first is greater.
#[derive(Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
}

pub(super) fn run(
    query: &AuditQuery,
    rows: &Snapshot,
    reader: &dyn LogReader,
) -> Result<AuditPage, store::Error> {
    let limit = query.limit.max(1);
    let terms = query.terms();
    if let Some(key_id) = query.key_id {
        return Ok(of_key(query, key_id, limit, reader)?);
    }
    let (mut positions, position) = find_positions(query, &terms, rows, reader, limit + 1)?;
    let more = positions.len() > limit;
    positions.truncate(limit);
    let next = positions.last().copied().filter(|_| more);
    let mut records = read(reader, positions)?;
    // The rows only say where to look; what an answer holds is decided by the events themselves.
    records.retain(|record| query.matches(record));
    Ok(AuditPage { records, next, position })
}

/// How many events match on all pages, counted up to `max`.
pub(super) fn count(
    query: &AuditQuery,
    rows: &Snapshot,
    reader: &dyn LogReader,
    max: usize,
) -> Result<usize, store::Error> {
    let whole = AuditQuery { after: Position::START, before: None, descending: false, ..query.clone() };
    if let Some(key_id) = whole.key_id {
        return Ok(of_key(&whole, key_id, max, reader)?.records.len());
    }
    Ok(find_positions(&whole, &whole.terms(), rows, reader, max)?.0.len())
}

/// At most `limit` positions of events that match, and the position of the log that the answer is from.
fn find_positions(
    query: &AuditQuery,
    terms: &[Vec<u8>],
    rows: &Snapshot,
    reader: &dyn LogReader,
    limit: usize,
) -> Result<(Vec<Position>, Position), store::Error> {
    // Without terms the log itself has the answer, up to its head.
    let position = if terms.is_empty() { reader.head()? } else { rows.checkpoint().position };
    let range = Range {
        first: match query.from {
            None => query.after.next().get(),
            Some(from) => first_not_before(reader, position, from)?.max(query.after.next().get()),
        },
        last: match query.to {
            None => position.get(),
            Some(to) => first_not_before(reader, position, to)? - 1,
        }
        .min(query.before.map_or(u64::MAX, |before| before.get().saturating_sub(1))),
    };
    let positions = if terms.is_empty() {
        all(range, query.descending, limit)
    } else if query.request_id.is_some() {
        of_request(query, terms, rows, reader, range, limit)?
    } else {
        with_terms(rows, terms, range, query.descending, limit)?
    };
    Ok((positions, position))
}

/// The rows know requests by short hashes only: whether a candidate matches is read in the log.
fn of_request(
    query: &AuditQuery,
    terms: &[Vec<u8>],
    rows: &Snapshot,
    reader: &dyn LogReader,
    mut range: Range,
    limit: usize,
) -> Result<Vec<Position>, store::Error> {
    let mut positions = Vec::new();
    loop {
        let candidates = with_terms(rows, terms, range, query.descending, CANDIDATES_LEN)?;
        let last = candidates.last().copied();
        let more = candidates.len() == CANDIDATES_LEN;
        let matching = read(reader, candidates)?.into_iter().filter(|record| query.matches(record));
        positions.extend(matching.map(|record| record.position).take(limit - positions.len()));
        match last {
            Some(last) if more && positions.len() < limit => {
                if query.descending {
                    range.last = last.get() - 1;
                } else {
                    range.first = last.get() + 1;
                }
            }
            _ => return Ok(positions),
        }
    }
}

/// A key's events stand in its stream; there are few.
fn of_key(
    query: &AuditQuery,
    key_id: KeyId,
    limit: usize,
    reader: &dyn LogReader,
) -> Result<AuditPage, log::Error> {
    let position = reader.head()?;
    let mut records = reader.read_stream(&StreamId::Key(key_id))?.records;
    records.retain(|record| query.matches(record));
    if query.descending {
        records.reverse();
    }
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().map(|record| record.position).filter(|_| more);
    Ok(AuditPage { records, next, position })
}

fn all(range: Range, descending: bool, limit: usize) -> Vec<Position> {
    let positions = range.first..=range.last;
    if descending {
        positions.rev().take(limit).map(Position::new).collect()
    } else {
        positions.take(limit).map(Position::new).collect()
    }
}

fn with_terms(
    rows: &Snapshot,
    terms: &[Vec<u8>],
    range: Range,
    descending: bool,
    limit: usize,
) -> Result<Vec<Position>, store::Error> {
    let mut positions = Vec::new();
    if range.first > range.last {
        return Ok(positions);
    }
    let (first, last) = (block_of(Position::new(range.first)), block_of(Position::new(range.last)));
    let inside = |position: &Position| (range.first..=range.last).contains(&position.get());
    for step in 0..=last - first {
        let block = if descending { last - step } else { first + step };
        let Some(offsets) = find(rows, block, terms)? else { continue };
        let left = limit - positions.len();
        let found = offsets.iter().map(|offset| position_at(block, offset));
        if descending {
            positions.extend(found.rev().filter(inside).take(left));
        } else {
            positions.extend(found.filter(inside).take(left));
        }
        if positions.len() >= limit {
            break;
        }
    }
    Ok(positions)
}

/// Reads records that may be far apart; neighbours are read together.
fn read(reader: &dyn LogReader, positions: Vec<Position>) -> Result<Vec<Record>, log::Error> {
    let mut records = Vec::with_capacity(positions.len());
    for run in positions.chunk_by(|one, other| one.get().abs_diff(other.get()) == 1) {
        let Some(lowest) = run.iter().min() else { continue };
        let before = Position::new(lowest.get() - 1);
        let mut neighbours = reader.read(before, run.len())?;
        if run.first() != Some(lowest) {
            neighbours.reverse();
        }
        records.append(&mut neighbours);
    }
    Ok(records)
}

/// The first position up to `head` whose record is not earlier than `time`, by bisection: times never decrease. The
/// position after the head when all are earlier.
///
/// # Errors
/// When the log cannot be read.
pub fn first_not_before(reader: &dyn LogReader, head: Position, time: Timestamp) -> Result<u64, log::Error> {
    let (mut low, mut high) = (1, head.get() + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let record = reader.read(Position::new(middle - 1), 1)?;
        if record.first().is_some_and(|record| record.time < time) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
