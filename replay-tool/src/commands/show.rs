//! `show`: prints a key and its history.

use std::fmt::Write as _;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{Key, OwnerKind};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::log::LogReader;
use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::value::id::{ClientLinkId, KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::Scope;
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use keyledger_projections::audit_trail::{At, event_json, key_at};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::arguments::Options;
use crate::key_encryption;
use crate::output::report::{Failure, Report};
use crate::output::timeline;
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

/// The key as the HTTP interface shows it.
#[derive(Serialize)]
struct KeyView<'a> {
    id: String,
    organization_id: &'a str,
    owner: &'static str,
    client_organization_id: Option<&'a str>,
    user_id: Option<&'a str>,
    name: Option<&'a str>,
    description: Option<&'a str>,
    environment: &'static str,
    api_id: Option<String>,
    scopes: Vec<&'a str>,
    metadata: Option<Box<RawValue>>,
    status: &'static str,
    start: &'a str,
    last_four: &'a str,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    version: u32,
    created_by: &'a str,
}

impl<'a> KeyView<'a> {
    fn of(key: &'a Key, moment: Timestamp) -> Self {
        Self {
            id: key.id.to_string(),
            organization_id: key.organization_id.as_str(),
            owner: key.owner.kind.as_str(),
            client_organization_id: key.owner.client_id.as_ref().map(|id| id.as_str()),
            user_id: key.user_id.as_ref().map(|user_id| user_id.as_str()),
            name: key.name.as_ref().map(|name| name.as_str()),
            description: key.description.as_ref().map(|description| description.as_str()),
            environment: key.environment.as_str(),
            api_id: key.api_id.map(|api_id| api_id.to_string()),
            scopes: key.scopes.iter().map(Scope::as_str).collect(),
            metadata: key.metadata.as_ref().and_then(|it| RawValue::from_string(it.as_json().into()).ok()),
            status: key.status(moment).as_str(),
            start: &key.hint.start,
            last_four: &key.hint.last_four,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            version: key.version.get(),
            created_by: &key.created_by,
        }
    }
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    command: &'static str,
    ok: bool,
    /// The time at which the status was computed.
    at: Timestamp,
    key: KeyView<'a>,
    /// When the key's organization was deleted. The key is refused since then.
    organization_deleted_at: Option<Timestamp>,
    /// When the key's client was deleted or left the portfolio. The key is refused since then.
    client_left_at: Option<Timestamp>,
    events: Vec<Value>,
}

pub(crate) fn run(options: &Options, key: &str, at: Option<&str>) -> Result<Report, Failure> {
    // The argument may be a token mistaken for an id, so the message does not repeat it.
    let key_id: KeyId = key.parse().map_err(|error| {
        Failure::could_not_run(format!("KEY: {error}; to look up a token, use POST /v1/keys/find"))
    })?;
    let reader = stopped_log::open(
        &DataDirectory::existing(&options.data)?,
        key_encryption::fetch(&options.kek)?.as_deref(),
    )?;
    let (at, moment) = moment(&reader, at)?;
    let Some((key, records)) = key_at(&*reader, key_id, at)? else {
        return Err(Failure::wrong(unknown(&reader, key_id)?));
    };
    let organization_deleted_at = deleted_at(&reader, &key.organization_id, at)?;
    let client_left_at = client_left_at(&reader, &key, at)?;
    let json = Shown {
        command: "show",
        ok: true,
        at: moment,
        key: KeyView::of(&key, moment),
        organization_deleted_at,
        client_left_at,
        events: records.iter().map(event_json).collect(),
    };
    let text = text(&json, &records);
    Report::new(text, &json, None)
}

/// The events that count, and the time at which the status is computed.
fn moment(reader: &RedbReader, at: Option<&str>) -> Result<(At, Timestamp), Failure> {
    let Some(at) = at else {
        return Ok((At::Position(reader.head()?), SystemClock.now()));
    };
    if let Ok(time) = at.parse::<Timestamp>() {
        return Ok((At::Time(time), time));
    }
    let position: Position = at.parse().map_err(|_| {
        Failure::could_not_run(format!(
            "--at {at:?}: must be an RFC 3339 time, such as 2026-11-21T09:30:00Z, or a position in the log"
        ))
    })?;
    let head = reader.head()?;
    if position > head {
        return Err(Failure::could_not_run(format!(
            "--at {position}: past the end of the log; name a position up to {head}, or a time"
        )));
    }
    let Some(before) = position.entry_index() else {
        return Ok((At::Position(position), Timestamp::default()));
    };
    let records = reader.read(Position::new(before), 1)?;
    Ok((At::Position(position), records.first().map_or_else(Timestamp::default, |record| record.time)))
}

/// The reason why there is no key to show.
fn unknown(reader: &RedbReader, key_id: KeyId) -> Result<String, Failure> {
    let stream = reader.read_stream(&StreamId::Key(key_id))?;
    Ok(match stream.records.first() {
        None => format!("{key_id}: no such key in {}; check the id and --data", reader.file()),
        Some(first) => format!(
            "{key_id}: did not exist then; it was created at {} (position {}), name a later --at",
            first.time, first.position
        ),
    })
}

fn client_left_at(reader: &RedbReader, key: &Key, at: At) -> Result<Option<Timestamp>, Failure> {
    let Some(client_id) = key.owner.client_id.clone() else { return Ok(None) };
    let deleted_at = deleted_at(reader, &client_id, at)?;
    let link = ClientLinkId { partner_id: key.organization_id.clone(), client_id };
    let unlinked = records_until(reader, &StreamId::ClientLink(link), at)?.into_iter().find(|record| {
        record.position > key.created_position && matches!(record.event, Event::ClientUnlinked(..))
    });
    Ok(deleted_at.into_iter().chain(unlinked.map(|record| record.time)).min())
}

fn records_until(reader: &RedbReader, stream: &StreamId, at: At) -> Result<Vec<Record>, Failure> {
    let mut records = reader.read_stream(stream)?.records;
    records.retain(|record| match at {
        At::Position(position) => record.position <= position,
        At::Time(time) => record.time <= time,
    });
    Ok(records)
}

fn deleted_at(reader: &RedbReader, id: &OrganizationId, at: At) -> Result<Option<Timestamp>, Failure> {
    let records = records_until(reader, &StreamId::Organization(id.clone()), at)?;
    match Aggregate::fold(&records) {
        Ok(Some(Aggregate::Organization(organization))) => Ok(organization.deleted_at),
        Ok(_) => Ok(None),
        Err(position) => Err(Failure::wrong(format!(
            "{}: the event at position {position} does not fit its organization; run `replay-tool verify`",
            reader.file()
        ))),
    }
}

fn text(shown: &Shown<'_>, records: &[Record]) -> String {
    let key = &shown.key;
    let none = || "-".to_owned();
    // After an erasure, an absent text and an erased one look the same.
    let is_erased = records.iter().any(|record| record.personal == Personal::Erased);
    let no_text = || if is_erased { timeline::ERASED.to_owned() } else { none() };
    let quoted = |text: Option<&str>| text.map_or_else(no_text, timeline::quoted);
    let time = |time: Option<Timestamp>| time.map_or_else(none, |time| time.to_string());
    let scopes = if key.scopes.is_empty() { none() } else { key.scopes.join(" ") };
    let status = match shown.organization_deleted_at {
        _ if key.status == "deleted" => key.status.to_owned(),
        Some(deleted) => format!("{}, refused since its organization was deleted at {deleted}", key.status),
        None => match shown.client_left_at {
            Some(left) => format!("{}, refused since its client left the portfolio at {left}", key.status),
            None => key.status.to_owned(),
        },
    };
    let fields = [
        ("status", status),
        ("organization_id", key.organization_id.to_owned()),
        ("owner", key.owner.to_owned()),
        ("client", key.client_organization_id.map_or_else(none, str::to_owned)),
        ("user_id", if key.owner == OwnerKind::User.as_str() { quoted(key.user_id) } else { none() }),
        ("name", quoted(key.name)),
        ("description", quoted(key.description)),
        ("environment", key.environment.to_owned()),
        ("api_id", key.api_id.clone().unwrap_or_else(none)),
        ("scopes", scopes),
        ("metadata", key.metadata.as_ref().map_or_else(no_text, |json| timeline::plain(json.get()))),
        ("token", format!("{}...{}", key.start, key.last_four)),
        ("created_at", key.created_at.to_string()),
        ("created_by", timeline::plain(key.created_by)),
        ("expires_at", time(key.expires_at)),
        ("revoked_at", time(key.revoked_at)),
        ("version", key.version.to_string()),
    ];
    let mut text = format!("{} at {}\n", key.id, shown.at);
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<16}{value}");
    }
    text.push_str("\nHistory:\n");
    for record in records {
        let _ = writeln!(text, "  {}", timeline::sentence(record));
    }
    text
}
