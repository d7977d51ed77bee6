//! Queries of the audit trail, and how they are answered.

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

/// Candidates read from the log at a time when searching for a request.
const CANDIDATES_LEN: usize = 256;

/// A query: which events, in which order, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only events after this position.
    pub after: Position,
    /// Only events before this position.
    pub before: Option<Position>,
    /// Maximum number of events on the page. 0 counts as 1.
    pub limit: usize,
    /// Whether the latest event comes first.
    pub descending: bool,
    /// Only events of this organization.
    pub organization_id: Option<OrganizationId>,
    /// Only events of this key.
    pub key_id: Option<KeyId>,
    /// Only events issued by the actor with this id.
    pub actor_id: Option<String>,
    /// Only events of this type.
    pub event_type: Option<EventType>,
    /// Only events of the request with this id.
    pub request_id: Option<String>,
    /// Only events at this time or later.
    pub from: Option<Timestamp>,
    /// Only events earlier than this time.
    pub to: Option<Timestamp>,
}

impl Default for AuditQuery {
    /// Queries the first 50 events of the log.
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

/// One page of the matching events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Events of the page, in order.
    pub records: Vec<Record>,
    /// Position of the page's last event, if more events match. It is the next page's `after`, or its
    /// `before` in descending order.
    pub next: Option<Position>,
    /// Position of the log that the page reflects. No matching event up to here is missing.
    pub position: Position,
}

/// Inclusive range of positions; empty when `first` is greater than `last`.
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
    // The rows only locate candidates. The events themselves decide what matches.
    records.retain(|record| query.matches(record));
    Ok(AuditPage { records, next, position })
}

/// Counts the events that match on all pages, up to `max`.
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

/// Returns at most `limit` positions of matching events, and the position of the log that the result
/// reflects.
fn find_positions(
    query: &AuditQuery,
    terms: &[Vec<u8>],
    rows: &Snapshot,
    reader: &dyn LogReader,
    limit: usize,
) -> Result<(Vec<Position>, Position), store::Error> {
    // Without terms the log itself answers, up to its head.
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

/// The rows only know short hashes of request ids, so candidates are checked in the log.
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

/// A key's few events are read from its stream.
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

/// Reads records that may be far apart. Adjacent ones are read together.
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

/// Returns the first position up to `head` whose record is not earlier than `time`, or the position after
/// `head` when all are earlier. Bisects the log, because times never decrease.
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
