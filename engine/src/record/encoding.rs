//! A record as bytes, and back. docs/format.md is the description; this is the one place that follows it.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _, Serialize};

use super::{ENTRY_LEN_MAX, Record, StreamId, StreamKind, upcast};
use crate::actor::{Actor, ActorKind, ActorOrigin};
use crate::event::{EventDraft, EventParts, EventType, PersonalPart};
use crate::id::{EventId, OrganizationId};
use crate::position::{Position, Version};
use crate::time::Timestamp;

/// The first byte of every entry.
const FORMAT: u8 = 1;
/// MessagePack's byte for an array of the 15 fields.
const ARRAY_OF_15: u8 = 0x9f;
/// No record nests deeper; what does is refused before it can exhaust the stack.
const DEPTH_MAX: usize = 32;
/// The personal part follows in clear.
const SCHEME_CLEAR: u8 = 0;

/// Bytes that are no record, or a record that cannot be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Written by a newer version, or no record at all.
    #[error("entry format {0} is not known to this version; use the version that wrote it, or a newer one")]
    UnknownFormat(u8),
    /// A personal part written by a newer version.
    #[error(
        "personal part of scheme {0} is not known to this version; use the version that wrote it, or a newer one"
    )]
    UnknownScheme(u8),
    /// A schema number that no upcaster starts from.
    #[error(
        "{event_type} of schema {schema} is not known to this version; use the version that wrote it, or a newer one"
    )]
    UnknownSchema {
        /// The event's kind.
        event_type: EventType,
        /// The stored schema number.
        schema: u16,
    },
    /// Not the bytes of a record.
    #[error("not a record: {0}")]
    Malformed(String),
    /// Longer than an entry may be.
    #[error("a record of {0} bytes; at most {ENTRY_LEN_MAX} fit an entry")]
    TooLong(usize),
}

/// Encodes a record as the entry that the log stores and the Merkle tree holds.
///
/// # Errors
/// [`Error::TooLong`]; other errors only if a type cannot be encoded at all.
pub fn encode(record: &Record) -> Result<Vec<u8>, Error> {
    let mut encoder = Encoder { entry: Vec::with_capacity(320), origin: origin_of(&record.actor) };
    encoder.entry.extend([FORMAT, ARRAY_OF_15]);
    encoder.field(&record.position)?;
    encoder.field(&record.id)?;
    encoder.field(&record.time)?;
    encoder.field(&record.stream.kind())?;
    match &record.stream {
        StreamId::Key(id) => encoder.field(id)?,
        StreamId::Organization(id) => encoder.field(id)?,
        StreamId::Api(id) => encoder.field(id)?,
        StreamId::RootKey(id) => encoder.field(id)?,
        StreamId::Application(id) => encoder.field(id)?,
        StreamId::ClientLink(id) => encoder.field(id)?,
        StreamId::PortalSession(id) => encoder.field(id)?,
    }
    encoder.field(&record.version)?;
    encoder.field(record.event.event_type().as_str())?;
    encoder.field(&record.event.event_type().schema())?;
    encoder.field(&record.organization_id)?;
    encoder.field(&record.actor.kind)?;
    encoder.field(&record.actor.id)?;
    encoder.field(&record.request_id)?;
    encoder.field(&record.causation)?;
    record.event.encode_parts(&mut encoder)?;
    if encoder.entry.len() > ENTRY_LEN_MAX {
        return Err(Error::TooLong(encoder.entry.len()));
    }
    Ok(encoder.entry)
}

fn origin_of(actor: &Actor) -> ActorOrigin {
    ActorOrigin { ip: actor.ip.map(|ip| ip.to_string().into()), user_agent: actor.user_agent.clone() }
}

struct Encoder {
    entry: Vec<u8>,
    origin: ActorOrigin,
}

impl Encoder {
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        rmp_serde::encode::write(&mut self.entry, value).map_err(|error| Error::Malformed(error.to_string()))
    }
}

impl EventParts for Encoder {
    type Error = Error;

    fn facts<T: Serialize>(&mut self, facts: &T) -> Result<(), Error> {
        self.field(facts)
    }

    fn personal<T: Serialize>(&mut self, personal: &T) -> Result<(), Error> {
        let mut part = vec![SCHEME_CLEAR];
        rmp_serde::encode::write(&mut part, &(&self.origin, personal))
            .map_err(|error| Error::Malformed(error.to_string()))?;
        self.field(&Bytes(&part))
    }
}

/// A byte string, not an array of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A borrowed byte string.
struct BorrowedBytes<'a>(&'a [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for BorrowedBytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(BorrowedBytes)
    }
}

/// Decodes an entry. Events of older schemas are brought to the present one.
///
/// # Errors
/// When the bytes are no record, or one of a newer version.
pub fn decode(entry: &[u8]) -> Result<Record, Error> {
    let (&format, body) = entry.split_first().ok_or_else(|| Error::Malformed("empty entry".into()))?;
    if format != FORMAT {
        return Err(Error::UnknownFormat(format));
    }
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    deserializer.set_max_depth(DEPTH_MAX);
    let envelope =
        deserializer.deserialize_seq(EnvelopeVisitor).map_err(|error| Error::Malformed(error.to_string()))?;
    let rest = IgnoredAny::deserialize(&mut deserializer);
    if !matches!(rest, Err(rmp_serde::decode::Error::InvalidMarkerRead(_))) {
        return Err(Error::Malformed("bytes after the record's end".into()));
    }
    let Envelope { mut record_parts, draft, personal } = envelope;
    let mut origin = ActorOrigin::default();
    let mut reader = PersonalReader { part: personal, older: None, origin: &mut origin };
    let draft = match draft {
        Draft::Present(draft) => draft,
        Draft::Older { event_type, schema, facts } => {
            reader.older = Some((event_type, schema));
            let facts = upcast::facts_to_present(event_type, schema, facts)?;
            EventDraft::from_upcast(event_type, &facts)
                .map_err(|error| Error::Malformed(error.to_string()))?
        }
    };
    let event = draft.complete(reader)?;
    record_parts.actor.ip = match origin.ip.as_deref().map(str::parse) {
        None => None,
        Some(Ok(ip)) => Some(ip),
        Some(Err(_)) => return Err(Error::Malformed("the actor's address is no IP address".into())),
    };
    record_parts.actor.user_agent = origin.user_agent;
    let RecordParts { position, id, time, stream, version, organization_id, actor, request_id, causation } =
        record_parts;
    Ok(Record { position, id, time, stream, version, organization_id, actor, request_id, causation, event })
}

struct RecordParts {
    position: Position,
    id: EventId,
    time: Timestamp,
    stream: StreamId,
    version: Version,
    organization_id: Option<OrganizationId>,
    actor: Actor,
    request_id: Option<Box<str>>,
    causation: Option<EventId>,
}

enum Draft {
    Present(EventDraft),
    Older { event_type: EventType, schema: u16, facts: rmpv::Value },
}

struct Envelope<'a> {
    record_parts: RecordParts,
    draft: Draft,
    personal: &'a [u8],
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of the 15 fields of a record")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Envelope<'de>, A::Error> {
        fn field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
            seq.next_element()?.ok_or_else(|| A::Error::custom("fewer than 15 fields"))
        }
        let position = field(&mut seq)?;
        let id = field(&mut seq)?;
        let time = field(&mut seq)?;
        let stream = match field(&mut seq)? {
            StreamKind::Key => StreamId::Key(field(&mut seq)?),
            StreamKind::Organization => StreamId::Organization(field(&mut seq)?),
            StreamKind::Api => StreamId::Api(field(&mut seq)?),
            StreamKind::RootKey => StreamId::RootKey(field(&mut seq)?),
            StreamKind::Application => StreamId::Application(field(&mut seq)?),
            StreamKind::ClientLink => StreamId::ClientLink(field(&mut seq)?),
            StreamKind::PortalSession => StreamId::PortalSession(field(&mut seq)?),
        };
        let version = field(&mut seq)?;
        let event_type: EventType = field(&mut seq)?;
        let schema: u16 = field(&mut seq)?;
        let organization_id = field(&mut seq)?;
        let kind: ActorKind = field(&mut seq)?;
        let actor = Actor { kind, id: field(&mut seq)?, ip: None, user_agent: None };
        let request_id = field(&mut seq)?;
        let causation = field(&mut seq)?;
        let draft = if schema == event_type.schema() {
            let draft = EventDraft::read_facts(event_type, &mut seq)?;
            Draft::Present(draft.ok_or_else(|| A::Error::custom("fewer than 15 fields"))?)
        } else {
            Draft::Older { event_type, schema, facts: field(&mut seq)? }
        };
        let BorrowedBytes(personal) = field(&mut seq)?;
        let record_parts = RecordParts {
            position,
            id,
            time,
            stream,
            version,
            organization_id,
            actor,
            request_id,
            causation,
        };
        Ok(Envelope { record_parts, draft, personal })
    }
}

struct PersonalReader<'a> {
    part: &'a [u8],
    /// The kind and schema of the event, when the schema is not the present one.
    older: Option<(EventType, u16)>,
    origin: &'a mut ActorOrigin,
}

impl PersonalPart for PersonalReader<'_> {
    type Error = Error;

    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (&scheme, payload) =
            self.part.split_first().ok_or_else(|| Error::Malformed("empty personal part".into()))?;
        if scheme != SCHEME_CLEAR {
            return Err(Error::UnknownScheme(scheme));
        }
        let malformed = |error: rmp_serde::decode::Error| Error::Malformed(error.to_string());
        let personal = if let Some((event_type, schema)) = self.older {
            let (origin, personal) = rmp_serde::from_slice(payload).map_err(malformed)?;
            *self.origin = origin;
            let personal = upcast::personal_to_present(event_type, schema, personal)?;
            rmp_serde::from_slice(&personal).map_err(malformed)?
        } else {
            let (origin, personal) = rmp_serde::from_slice(payload).map_err(malformed)?;
            *self.origin = origin;
            personal
        };
        Ok(personal)
    }
}
