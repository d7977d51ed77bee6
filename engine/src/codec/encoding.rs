//! The encoding of a record. docs/format.md describes it; this is the only code that implements it.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _, Serialize};

use super::{ENTRY_LEN_MAX, upcast};
use crate::domain::aggregate::BareId;
use crate::domain::event::{EventDraft, EventParts, EventType, PersonalPart};
use crate::domain::record::{Personal, Record};
use crate::domain::stream::StreamId;
use crate::value::actor::{Actor, ActorKind, ActorOrigin};
use crate::value::id::{EventId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;
use crate::vault::{self, OpenError, SealError, SubjectKey, Vault};

/// The first byte of every entry.
const FORMAT: u8 = 1;
/// The MessagePack byte of an array with 15 fields.
const ARRAY_OF_15: u8 = 0x9f;
/// The first bytes of MessagePack byte strings with their length in one byte or in two.
const BIN_8: u8 = 0xC4;
const BIN_16: u8 = 0xC5;
/// No record nests deeper. Deeper bytes are refused before they can exhaust the stack.
const DEPTH_MAX: usize = 32;
/// The characters of the longest IP address: an IPv6 address that ends as an IPv4 one.
const IP_LEN_MAX: usize = 45;
/// The scheme of a personal part in clear.
const SCHEME_CLEAR: u8 = 0;
/// The scheme of a personal part that is sealed with the key of its subject.
const SCHEME_SEALED: u8 = 1;

/// Bytes that are not a record, or a record that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Written by a newer version, or not a record.
    #[error("entry format {0} is not known to this version; use the version that wrote it, or a newer one")]
    UnknownFormat(u8),
    /// A personal part written by a newer version.
    #[error(
        "personal part of scheme {0} is not known to this version; \
         use the version that wrote it, or a newer one"
    )]
    UnknownScheme(u8),
    /// A schema number without an upcaster.
    #[error(
        "{event_type} of schema {schema} is not known to this version; \
         use the version that wrote it, or a newer one"
    )]
    UnknownSchema {
        /// The type of the event.
        event_type: EventType,
        /// The stored schema number.
        schema: u16,
    },
    /// Not the bytes of a record.
    #[error("not a record: {0}")]
    Malformed(String),
    /// A personal part could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Longer than [`ENTRY_LEN_MAX`] bytes.
    #[error("a record of {0} bytes; at most {ENTRY_LEN_MAX} fit an entry")]
    TooLong(usize),
}

/// Encodes a record as an entry whose personal part is in clear.
///
/// # Errors
/// [`Error::TooLong`]; other errors only if a type cannot be encoded at all.
pub fn encode(record: &Record) -> Result<Vec<u8>, Error> {
    encode_with(record, None)
}

/// Encodes a record as the entry that the log stores and the Merkle tree covers. The personal part is sealed
/// with the key and bound to everything before it in the entry. An empty personal part stays in clear.
///
/// # Errors
/// As [`encode`]; [`Error::Seal`].
pub fn encode_with(record: &Record, key: Option<&SubjectKey>) -> Result<Vec<u8>, Error> {
    let mut encoder = Encoder { entry: Vec::with_capacity(384), origin: origin_of(&record.actor), key };
    encoder.entry.extend([FORMAT, ARRAY_OF_15]);
    encoder.field(&record.position)?;
    encoder.field(&record.id)?;
    encoder.field(&record.time)?;
    encoder.field(&record.stream.kind())?;
    encoder.field(&BareId(&record.stream))?;
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

fn origin_of(actor: &Actor) -> ActorOrigin<'_> {
    let ip = actor.ip.map(|ip| {
        // One allocation: the address is formatted in many pieces.
        let mut text = String::with_capacity(IP_LEN_MAX);
        let _ = write!(text, "{ip}");
        text
    });
    ActorOrigin { ip, user_agent: actor.user_agent.as_deref() }
}

struct Encoder<'a> {
    entry: Vec<u8>,
    origin: ActorOrigin<'a>,
    key: Option<&'a SubjectKey>,
}

impl Encoder<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        rmp_serde::encode::write(&mut self.entry, value).map_err(|error| Error::Malformed(error.to_string()))
    }
}

impl EventParts for Encoder<'_> {
    type Error = Error;

    fn facts<T: Serialize>(&mut self, facts: &T) -> Result<(), Error> {
        self.field(facts)
    }

    fn personal<T: Serialize>(&mut self, personal: &T) -> Result<(), Error> {
        let mut part = vec![SCHEME_CLEAR];
        rmp_serde::encode::write(&mut part, &(&self.origin, personal))
            .map_err(|error| Error::Malformed(error.to_string()))?;
        let key = self.key.filter(|_| !is_blank(&part));
        if let (Some(key), Some((_, text))) = (key, part.split_first()) {
            let mut sealed = vec![SCHEME_SEALED];
            key.seal(&self.entry, text, &mut sealed)?;
            part = sealed;
        }
        self.field(&Bytes(&part))
    }
}

/// Whether a personal part in clear contains only `nil` in arrays.
fn is_blank(part: &[u8]) -> bool {
    part.iter().skip(1).all(|byte| matches!(byte, 0x90..=0x9F | 0xC0))
}

/// Serializes as a byte string; a slice would serialize as an array of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct BorrowedBytes<'a>(&'a [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for BorrowedBytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(BorrowedBytes)
    }
}

/// Decodes an entry without a vault: sealed personal parts read as erased. Events of older schemas are
/// converted to the current one.
///
/// # Errors
/// When the bytes are not a record, or are a record of a newer version.
pub fn decode(entry: &[u8]) -> Result<Record, Error> {
    decode_with(entry, None)
}

/// Decodes an entry with the keys of a vault. A personal part whose key is not in the vault reads as erased.
///
/// # Errors
/// As [`decode`], and when a personal part does not open with its key.
pub fn decode_with(entry: &[u8], vault: Option<&Vault>) -> Result<Record, Error> {
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
    let mut origin = Origin::default();
    let part = open_personal(entry, personal, vault)?;
    let state = if part.is_some() { Personal::Readable } else { Personal::Erased };
    let mut reader = PersonalReader { part: part.as_deref(), older: None, origin: &mut origin };
    let draft = match draft {
        Draft::Current(draft) => draft,
        Draft::Older { event_type, schema, facts } => {
            reader.older = Some((event_type, schema));
            let facts = upcast::facts_to_current(event_type, schema, facts)?;
            EventDraft::from_upcast(event_type, &facts)
                .map_err(|error| Error::Malformed(error.to_string()))?
        }
    };
    let event = draft.complete(reader)?;
    record_parts.actor.ip = origin.ip;
    record_parts.actor.user_agent = origin.user_agent;
    let RecordParts { position, id, time, stream, version, organization_id, actor, request_id, causation } =
        record_parts;
    Ok(Record {
        position,
        id,
        time,
        stream,
        version,
        organization_id,
        actor,
        request_id,
        causation,
        event,
        personal: state,
    })
}

/// The personal part of an entry in clear; none if its key is not in the vault.
fn open_personal<'a>(
    entry: &[u8],
    part: &'a [u8],
    vault: Option<&Vault>,
) -> Result<Option<Cow<'a, [u8]>>, Error> {
    let (&scheme, rest) = part.split_first().ok_or_else(|| Error::Malformed("empty personal part".into()))?;
    if scheme == SCHEME_CLEAR {
        return Ok(Some(Cow::Borrowed(rest)));
    }
    if scheme != SCHEME_SEALED {
        return Err(Error::UnknownScheme(scheme));
    }
    let malformed = |error: OpenError| Error::Malformed(error.to_string());
    let (id, sealed) = vault::split(rest).ok_or(OpenError).map_err(malformed)?;
    let Some(key) = vault.and_then(|vault| vault.key(id)) else { return Ok(None) };
    // MessagePack gives the length of a byte string in one byte or in two. The key does not cover that
    // header, so its marker is checked: a text has the same bytes after it.
    let (header_len, marker) = if part.len() <= usize::from(u8::MAX) { (2, BIN_8) } else { (3, BIN_16) };
    let context =
        entry.len().checked_sub(part.len() + header_len).and_then(|len| entry.split_at_checked(len));
    let context = context.filter(|(_, rest)| rest.first() == Some(&marker)).map(|(context, _)| context);
    let context = context.ok_or(OpenError).map_err(malformed)?;
    Ok(Some(Cow::Owned(key.open(context, sealed).map_err(malformed)?)))
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
    Current(EventDraft),
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
        fn too_short<E: serde::de::Error>() -> E {
            E::custom("fewer than 15 fields")
        }
        fn field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
            seq.next_element()?.ok_or_else(too_short)
        }
        let position = field(&mut seq)?;
        let id = field(&mut seq)?;
        let time = field(&mut seq)?;
        let kind = field(&mut seq)?;
        let stream = StreamId::read_id(kind, &mut seq)?.ok_or_else(too_short)?;
        let version = field(&mut seq)?;
        let event_type: EventType = field(&mut seq)?;
        let schema: u16 = field(&mut seq)?;
        let organization_id = field(&mut seq)?;
        let kind: ActorKind = field(&mut seq)?;
        // Borrowed from the entry, so that the text is copied only once.
        let actor_id: &str = field(&mut seq)?;
        let actor = Actor { kind, id: actor_id.into(), ip: None, user_agent: None };
        let request_id = field(&mut seq)?;
        let causation = field(&mut seq)?;
        let draft = if schema == event_type.schema() {
            let draft = EventDraft::read_facts(event_type, &mut seq)?;
            Draft::Current(draft.ok_or_else(too_short)?)
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
    /// The personal part in clear; none if it was erased.
    part: Option<&'a [u8]>,
    /// The type and schema of the event, if the schema is not the current one.
    older: Option<(EventType, u16)>,
    origin: &'a mut Origin,
}

/// The deserialized form of [`ActorOrigin`].
#[derive(Default, Deserialize)]
struct Origin {
    #[serde(deserialize_with = "ip_address")]
    ip: Option<IpAddr>,
    #[serde(deserialize_with = "shared_text")]
    user_agent: Option<Arc<str>>,
}

fn shared_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
    Ok(Option::<&str>::deserialize(deserializer)?.map(Into::into))
}

fn ip_address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let parse =
        |text: &str| text.parse().map_err(|_| D::Error::custom("the actor's address is not an IP address"));
    Option::<&str>::deserialize(deserializer)?.map(parse).transpose()
}

impl PersonalPart for PersonalReader<'_> {
    type Error = Error;

    fn read<T: DeserializeOwned + Default>(self) -> Result<T, Error> {
        let Some(payload) = self.part else { return Ok(T::default()) };
        let malformed = |error: rmp_serde::decode::Error| Error::Malformed(error.to_string());
        let personal = if let Some((event_type, schema)) = self.older {
            let (origin, personal) = rmp_serde::from_slice(payload).map_err(malformed)?;
            *self.origin = origin;
            let personal = upcast::personal_to_current(event_type, schema, personal)?;
            rmp_serde::from_slice(&personal).map_err(malformed)?
        } else {
            let (origin, personal) = rmp_serde::from_slice(payload).map_err(malformed)?;
            *self.origin = origin;
            personal
        };
        Ok(personal)
    }
}
