//! Counts events per type and span of time without reading them. Times never decrease in the log, so a span
//! of time is a range of positions, and the rows know how often an event type occurs in a range.

use keyledger_engine::domain::event::EventType;
use keyledger_engine::log::LogReader;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use super::postings::{BLOCK_LEN, block_of, find};
use super::query::first_not_before;
use super::term;
use crate::stored::store::{self, Snapshot};

/// Event counts per type and span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequency {
    /// For each type, the number of events in each span.
    pub counts: Vec<Vec<u64>>,
    /// Position of the log that the counts reflect.
    pub position: Position,
}

pub(super) fn of(
    organization_id: Option<&OrganizationId>,
    types: &[EventType],
    bounds: &[Timestamp],
    rows: &Snapshot,
    reader: &dyn LogReader,
) -> Result<Frequency, store::Error> {
    let position = rows.checkpoint().position;
    let edges = bounds.iter().map(|bound| first_not_before(reader, position, *bound));
    let edges: Vec<u64> = edges.collect::<Result<_, _>>()?;
    let counts = types.iter().map(|event_type| {
        let mut terms = vec![Vec::new()];
        if let Some(term) = terms.first_mut() {
            term::event_type(*event_type, term);
        }
        if let Some(id) = organization_id {
            let mut term = Vec::new();
            term::organization(id, &mut term);
            terms.push(term);
        }
        count(rows, &terms, &edges)
    });
    Ok(Frequency { counts: counts.collect::<Result<_, _>>()?, position })
}

/// Counts, for each span between two adjacent `edges`, the positions at which all `terms` occur. A span
/// includes its lower edge.
fn count(rows: &Snapshot, terms: &[Vec<u8>], edges: &[u64]) -> Result<Vec<u64>, store::Error> {
    let mut counts = vec![0; edges.len().saturating_sub(1)];
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return Ok(counts) };
    if first >= last {
        return Ok(counts);
    }
    for block in block_of(Position::new(*first))..=block_of(Position::new(last - 1)) {
        let Some(offsets) = find(rows, block, terms)? else { continue };
        // Positions start at 1, offsets at 0.
        let before = block * BLOCK_LEN + 1;
        let offset = |edge: u64| edge.saturating_sub(before).min(BLOCK_LEN) as u32;
        for (count, span) in counts.iter_mut().zip(edges.windows(2)) {
            if let [from, to] = span {
                *count += offsets.range_cardinality(offset(*from)..offset(*to));
            }
        }
    }
    Ok(counts)
}
