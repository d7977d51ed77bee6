//! Terms by which events are found.

use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::id::OrganizationId;

const ORGANIZATION: u8 = b'o';
const ACTOR: u8 = b'a';
const EVENT_TYPE: u8 = b't';
const REQUEST: u8 = b'r';
/// Nearly every event has its own request, and a term for each would be a row for each. With this many hash
/// terms, each has about sixty events per block.
const REQUEST_TERMS: u32 = 1 << 10;

/// Sets `term` to the organization with this id.
pub(super) fn organization(id: &OrganizationId, term: &mut Vec<u8>) {
    make(ORGANIZATION, id.as_str(), term);
}

/// Sets `term` to the actor with this id, of whatever kind.
pub(super) fn actor(id: &str, term: &mut Vec<u8>) {
    make(ACTOR, id, term);
}

/// Sets `term` to the event type. By name, which is stored elsewhere too and never changes.
pub(super) fn event_type(event_type: EventType, term: &mut Vec<u8>) {
    make(EVENT_TYPE, event_type.as_str(), term);
}

/// Sets `term` to the hash of a request's id, which other requests share.
pub(super) fn request(id: &str, term: &mut Vec<u8>) {
    let hash = crc32fast::hash(id.as_bytes()) % REQUEST_TERMS;
    term.clear();
    term.push(REQUEST);
    term.extend_from_slice(&(hash as u16).to_be_bytes());
}

/// Calls `add` for every term of a record.
pub(super) fn each(record: &Record, buffer: &mut Vec<u8>, mut add: impl FnMut(&[u8])) {
    if let Some(id) = &record.organization_id {
        organization(id, buffer);
        add(buffer);
    }
    actor(&record.actor.id, buffer);
    add(buffer);
    event_type(record.event.event_type(), buffer);
    add(buffer);
    if let Some(id) = &record.request_id {
        request(id, buffer);
        add(buffer);
    }
}

fn make(kind: u8, text: &str, term: &mut Vec<u8>) {
    term.clear();
    term.push(kind);
    term.extend_from_slice(text.as_bytes());
}

/// Returns how a person refers to a term.
pub(super) fn name(term: &[u8]) -> String {
    let (kind, text) = term.split_first().unwrap_or((&0, &[]));
    if let (REQUEST, [high, low]) = (*kind, text) {
        return format!("requests with hash {}", u16::from_be_bytes([*high, *low]));
    }
    let kind = match *kind {
        ORGANIZATION => "organization",
        ACTOR => "actor",
        EVENT_TYPE => "type",
        _ => "unknown term",
    };
    format!("{kind} {}", String::from_utf8_lossy(text))
}
