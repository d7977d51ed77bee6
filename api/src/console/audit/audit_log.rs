//! The audit log: events as sentences and as stored JSON, filters in the address, and proof that nothing was
//! changed.

use std::collections::HashMap;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use keyledger_engine::domain::event::EventType;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::problem::Problem;

use super::actor_name::ActorNames;
use super::checkpoint::Checkpoint;
use super::event::Event;
use super::event_sentence::{Known, Object, Sentence};
use super::log_check::{CheckState, LogCheck};
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::icon::Icon;
use crate::console::parts::key::Key;
use crate::console::parts::moment::Moment;
use crate::console::parts::number::grouped;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/audit";
const HOUR_MILLIS: i64 = 60 * 60 * 1_000;
/// Parameters passed from the page's address to `GET /v1/events` as they are.
const PASSED_ON: [&str; 6] = ["organization_id", "key_id", "actor_id", "type", "request_id", "cursor"];
/// Parameters that filter the list. The organization is not one, because the switcher sets it.
const FILTERS: [&str; 7] = ["key_id", "actor_id", "type", "request_id", "within", "from", "to"];
/// The offered periods: word in the address, name and hours.
const SPANS: [(&str, &str, i64); 4] = [
    ("1h", "Last hour", 1),
    ("24h", "Last 24 hours", 24),
    ("7d", "Last 7 days", 7 * 24),
    ("30d", "Last 30 days", 30 * 24),
];
/// The export formats: the API's word, name and file extension.
const EXPORTS: [(&str, &str, &str); 4] = [
    ("ndjson", "NDJSON", "ndjson"),
    ("csv", "CSV", "csv"),
    ("cloudevents", "CloudEvents 1.0", "cloudevents.ndjson"),
    ("ocsf", "OCSF 1.8", "ocsf.ndjson"),
];

#[derive(Deserialize)]
struct EventPage {
    data: Vec<Value>,
    next_cursor: Option<String>,
    total: u64,
    total_capped: bool,
}

struct Entry {
    position: u64,
    event_type: String,
    tone: &'static str,
    actor: String,
    sentence: Sentence,
    change: Option<(Option<String>, String)>,
    note: Option<String>,
    /// Whether personal text in the event was erased.
    is_erased: bool,
    at: Moment,
    ip: Option<String>,
    user_agent: Option<String>,
    organization_id: Option<String>,
    /// The path of the key's page.
    key: Option<String>,
    /// Links to similar events: label and path.
    alike: Vec<(&'static str, String)>,
    raw: String,
}

impl Entry {
    fn proof(&self) -> String {
        format!("/v1/events/{}/proof", self.position)
    }
}

/// An option of a filter.
struct Choice {
    name: &'static str,
    path: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "audit/audit-log.html")]
struct AuditLogPage {
    frame: Frame,
    entries: Vec<Entry>,
    total: String,
    query: QueryString,
    types: Vec<Choice>,
    spans: Vec<Choice>,
    any_type: String,
    any_time: String,
    /// The active filters: label, value, and the path without the filter.
    filters: Vec<(&'static str, String, String)>,
    is_filtered: bool,
    cleared: String,
    errors: FieldErrors,
    exports: Vec<(&'static str, String, String)>,
    next: Option<String>,
    first: Option<String>,
    /// The event stream of new events. `None` on pages where new events do not belong.
    follow: Option<String>,
    of_all: bool,
    checkpoint: Option<Checkpoint>,
    checkpoint_problem: Option<String>,
    check: LogCheck,
    public_url: String,
}

page!(AuditLogPage);

impl AuditLogPage {
    fn filter(&self, name: &str) -> &str {
        self.query.get(name).unwrap_or_default()
    }

    /// The errors of filters that are not fields of the form.
    fn other_errors(&self) -> Vec<String> {
        self.errors.others(&["key_id", "actor_id", "request_id", "from", "to"])
    }

    /// The names of all event types.
    fn all_types(&self) -> String {
        EventType::ALL.iter().map(|event_type| event_type.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The parameters that the filter form keeps in hidden fields.
    fn kept(&self) -> impl Iterator<Item = &(String, String)> {
        let own = |name: &str| {
            matches!(name, "key_id" | "actor_id" | "request_id" | "from" | "to" | "cursor" | "within")
        };
        self.query.pairs().iter().filter(move |(name, _)| !own(name))
    }
}

pub(crate) async fn show(visitor: Visitor) -> Result<Response, Problem> {
    let query = QueryString::of(&visitor.address);
    let asked = call(&query, visitor.now);
    let newest = asked.with("sort", Some("-position"));
    let (page, errors) = match visitor.read::<EventPage>(&newest.after("/v1/events")).await {
        Ok(page) => (page, FieldErrors::default()),
        Err(problem) => {
            let none = EventPage { data: Vec::new(), next_cursor: None, total: 0, total_capped: false };
            (none, FieldErrors::of(problem)?)
        }
    };
    let organization = query.get("organization_id").map(ToOwned::to_owned);
    let bound = visitor.principal.organization_id.is_some();
    let kept = QueryString::default().with("organization_id", organization.as_deref());
    let narrower = query.with("cursor", None);
    let latest = page.data.first().and_then(|event| event["position"].as_u64());
    let checkpoint = Checkpoint::read(&visitor).await;
    let total = grouped(page.total);
    let shown = AuditLogPage {
        frame: Frame::of(&visitor, "Audit log", Some(Section::Audit), organization.as_deref()).await,
        entries: entries(&visitor, &page.data, &narrower).await?,
        total: if page.total_capped { format!("more than {total}") } else { total },
        types: types(&narrower),
        spans: spans(&narrower),
        any_type: narrower.with("type", None).after(PATH),
        any_time: narrower.with("within", None).after(PATH),
        filters: filters(&narrower),
        is_filtered: FILTERS.iter().any(|name| query.get(name).is_some()),
        cleared: kept.after(PATH),
        exports: EXPORTS
            .iter()
            .map(|(format, name, end)| {
                let path = asked.with("cursor", None).with("format", Some(format)).after("/v1/events");
                (*name, path, format!("events.{end}"))
            })
            .collect(),
        next: page.next_cursor.map(|cursor| query.with("cursor", Some(&cursor)).after(PATH)),
        first: query.get("cursor").map(|_| narrower.after(PATH)),
        follow: (query.get("cursor").is_none() && query.get("to").is_none() && !errors.any()).then(|| {
            let after = latest.unwrap_or_default().to_string();
            asked.with("format", Some("sse")).with("after", Some(&after)).after("/v1/events")
        }),
        of_all: !bound && organization.is_none(),
        checkpoint_problem: checkpoint.as_ref().err().map(|problem| problem.detail.clone()),
        checkpoint: checkpoint.ok(),
        check: LogCheck::read(&visitor).await?,
        public_url: visitor.public_url().into(),
        errors,
        query,
    };
    let status = if shown.errors.any() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(shown.answer(status))
}

/// Translates the page's address into the query of `GET /v1/events`.
fn call(query: &QueryString, now: Timestamp) -> QueryString {
    let mut call = QueryString::default();
    for name in PASSED_ON {
        call = call.with(name, query.get(name).map(str::trim));
    }
    for name in ["from", "to"] {
        call = call.with(name, query.get(name).map(instant).as_deref());
    }
    let span = query.get("within").and_then(|word| SPANS.iter().find(|span| span.0 == word));
    if let Some((.., hours)) = span {
        call = call.with("from", Some(&now.saturating_add_millis(-hours * HOUR_MILLIS).to_string()));
    }
    call
}

/// Converts the value of a `datetime-local` field, which has no zone, to RFC 3339 in UTC. Other texts stay as
/// they are.
fn instant(text: &str) -> String {
    let text = text.trim();
    let local = |digits: &str| text.len() == digits.len() && text.get(10..11) == Some("T");
    if local("2026-11-12T14:03") {
        format!("{text}:00Z")
    } else if local("2026-11-12T14:03:07") {
        format!("{text}Z")
    } else {
        text.into()
    }
}

fn types(query: &QueryString) -> Vec<Choice> {
    let chosen = query.get("type");
    let choice = |event_type: &EventType| Choice {
        name: event_type.as_str(),
        path: query.with("type", Some(event_type.as_str())).after(PATH),
        is_chosen: chosen == Some(event_type.as_str()),
    };
    EventType::ALL.iter().map(choice).collect()
}

fn spans(query: &QueryString) -> Vec<Choice> {
    let chosen = query.get("within");
    let query = query.with("from", None).with("to", None);
    let choice = |(word, name, _): &(&str, &'static str, i64)| Choice {
        name,
        path: query.with("within", Some(word)).after(PATH),
        is_chosen: chosen == Some(word),
    };
    SPANS.iter().map(choice).collect()
}

fn filters(query: &QueryString) -> Vec<(&'static str, String, String)> {
    let named =
        [("Key", "key_id"), ("Actor", "actor_id"), ("Request", "request_id"), ("From", "from"), ("To", "to")];
    let set = |(label, name): (&'static str, &str)| {
        let value = query.get(name)?;
        Some((label, value.to_owned(), query.with(name, None).after(PATH)))
    };
    named.into_iter().filter_map(set).collect()
}

/// Describes events, which are latest first.
async fn entries(visitor: &Visitor, raw: &[Value], query: &QueryString) -> Result<Vec<Entry>, Problem> {
    let events: Vec<Event> = raw
        .iter()
        .map(|event| Event::deserialize(event).map_err(|error| Problem::internal(&error)))
        .collect::<Result<_, _>>()?;
    let actors = ActorNames::of(visitor, events.iter().map(|event| &event.actor)).await;
    let mut objects = Objects::new(visitor);
    let mut entries = Vec::with_capacity(events.len());
    // Oldest first, so that the state after an event is known at the key's next event.
    for (event, raw) in events.iter().zip(raw).rev() {
        let (kind, name) = objects.name(event).await;
        let text = objects.known(event).describe(event, Object::Named(kind, &name));
        entries.push(Entry {
            position: event.position,
            event_type: event.event_type.clone(),
            tone: text.tone,
            actor: actors.get(&event.actor).into(),
            sentence: text.sentence,
            change: text.change,
            note: event.data.get("note").and_then(Value::as_str).map(Into::into),
            is_erased: event.data.get("erased").is_some(),
            at: Moment::new(event.time, visitor.now),
            ip: event.actor.ip.clone(),
            user_agent: event.actor.user_agent.clone(),
            organization_id: event.organization_id.clone(),
            key: (event.stream.kind == "key").then(|| format!("/console/keys/{}", encoded(&event.stream.id))),
            alike: alike(event, query),
            raw: serde_json::to_string_pretty(raw).unwrap_or_default(),
        });
    }
    entries.reverse();
    Ok(entries)
}

fn alike(event: &Event, query: &QueryString) -> Vec<(&'static str, String)> {
    let key = (event.stream.kind == "key").then_some(event.stream.id.as_str());
    let shared = [
        ("this key", "key_id", key),
        ("this actor", "actor_id", Some(event.actor.id.as_str())),
        ("this type", "type", Some(event.event_type.as_str())),
        ("this request", "request_id", event.request_id.as_deref()),
    ];
    let link = |(label, name, value): (&'static str, &str, Option<&str>)| {
        let value = value.filter(|value| query.get(name) != Some(value))?;
        Some((label, query.with(name, Some(value)).after(PATH)))
    };
    shared.into_iter().filter_map(link).collect()
}

/// The objects of the events: their names, and what is known of keys.
struct Objects<'a> {
    visitor: &'a Visitor,
    names: HashMap<String, String>,
    keys: HashMap<String, (Known, String)>,
    nothing: Known,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

impl<'a> Objects<'a> {
    fn new(visitor: &'a Visitor) -> Self {
        Self { visitor, names: HashMap::new(), keys: HashMap::new(), nothing: Known::default() }
    }

    /// What is known of an event's key. Nothing is known of other objects.
    fn known(&mut self, event: &Event) -> &mut Known {
        match self.keys.get_mut(&event.stream.id) {
            Some((known, _)) if event.stream.kind == "key" => known,
            _ => {
                self.nothing = Known::default();
                &mut self.nothing
            }
        }
    }

    /// The object's kind in words, and its name as far as the visitor may read it.
    async fn name(&mut self, event: &Event) -> (&'static str, String) {
        let id = &event.stream.id;
        let own = || event.data.get("name").and_then(Value::as_str).map(ToOwned::to_owned);
        let named = |name: Option<String>| name.unwrap_or_else(|| id.clone());
        match event.stream.kind.as_str() {
            "key" => ("key", self.key_name(event).await),
            "organization" => ("organization", self.read_name("/v1/organizations", event).await),
            "api" => ("API", self.read_name("/v1/apis", event).await),
            "root_key" => ("root key", self.read_name("/v1/root-keys", event).await),
            "application" => ("application", self.read_name("/v1/applications", event).await),
            "client_link" => ("partner", event.organization_id.clone().unwrap_or_default()),
            "portal_session" => match event.event_type.as_str() {
                "PortalSessionCreated" => {
                    let user = event.data.get("user_id").and_then(Value::as_str);
                    user.map_or(("a portal link", String::new()), |user| {
                        ("a portal link for", user.to_owned())
                    })
                }
                "PortalSessionStarted" => ("portal link", id.clone()),
                _ => ("portal session", id.clone()),
            },
            "webhook" => ("webhook", id.clone()),
            "erasure" => ("personal data", String::new()),
            _ => ("", named(own())),
        }
    }

    async fn read_name(&mut self, path: &str, event: &Event) -> String {
        let id = &event.stream.id;
        if let Some(name) = self.names.get(id) {
            return name.clone();
        }
        let found = self.visitor.read::<Named>(&format!("{path}/{}", encoded(id))).await.ok();
        let name = found.and_then(|found| found.name).unwrap_or_else(|| id.clone());
        self.names.insert(id.clone(), name.clone());
        name
    }

    /// The name that a key had before an event, or got from its first one. It is remembered from the previous
    /// event, or read from the key's past state.
    async fn key_name(&mut self, event: &Event) -> String {
        let id = &event.stream.id;
        let unnamed = || "without a name".to_owned();
        if event.version == 1 {
            let name = event.data.get("name").and_then(Value::as_str).map_or_else(unnamed, ToOwned::to_owned);
            self.keys.insert(id.clone(), (Known::default(), name.clone()));
            return name;
        }
        let is_next = |known: &Known| known.version + 1 == event.version;
        if !self.keys.get(id).is_some_and(|(known, _)| is_next(known)) {
            let path = format!("/v1/keys/{}?at={}", encoded(id), event.position - 1);
            let key = self.visitor.read::<Key>(&path).await.ok();
            let name =
                key.as_ref().map_or_else(|| id.clone(), |key| key.name.clone().unwrap_or_else(unnamed));
            let known = key.as_ref().map(Known::of).unwrap_or_default();
            self.keys.insert(id.clone(), (known, name));
        }
        let Some((_, name)) = self.keys.get_mut(id) else { return id.clone() };
        let before = name.clone();
        if event.event_type == "KeyRenamed" {
            *name = event.data.get("name").and_then(Value::as_str).map_or_else(unnamed, ToOwned::to_owned);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_becomes_the_query() {
        let now: Timestamp = "2026-11-12T12:00:00Z".parse().unwrap();
        let asked = |address| call(&QueryString::of(address), now);
        let day = asked("/console/audit?within=24h&type=KeyRevoked&x=y");
        assert_eq!(day.get("from"), Some("2026-11-11T12:00:00.000Z"));
        assert_eq!((day.get("type"), day.get("x"), day.get("within")), (Some("KeyRevoked"), None, None));
        let exact = asked("/?from=2026-11-12T14:03&to=2026-11-12T14:03:07");
        assert_eq!(exact.get("from"), Some("2026-11-12T14:03:00Z"));
        assert_eq!(exact.get("to"), Some("2026-11-12T14:03:07Z"));
        assert_eq!(asked("/?from=2026-11-12T14:03:07.112Z").get("from"), Some("2026-11-12T14:03:07.112Z"));
        // The API refuses a text that is not a time.
        assert_eq!(asked("/?to=äöüäöüäöüäöü").get("to"), Some("äöüäöüäöüäöü"));
        assert_eq!(asked("/?within=1y").get("from"), None);
    }
}
