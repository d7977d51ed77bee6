//! The page of a key: its details now or at a version, its usage and its history.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::actions::Actions;
use super::change::call_path;
use super::usage_chart::{Chart, Usage};
use crate::console::audit::event::Event;
use crate::console::audit::history::{self, Entry};
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::icon::Icon;
use crate::console::parts::key::Key;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::tags::Tags;
use crate::console::tenants::api_choice::Apis;
use crate::console::visit::visitor::Visitor;

/// The number of events that the page shows. The audit log has all of them.
const EVENTS_MAX: usize = 200;

#[derive(Deserialize)]
struct Events {
    data: Vec<Event>,
    total: u64,
}

/// The past version that a key is shown at.
struct AsOf {
    version: u32,
    at: Moment,
}

#[derive(Template)]
#[template(path = "keys/page.html")]
struct KeyPage {
    frame: Frame,
    now: Timestamp,
    /// The current key.
    key: Key,
    /// The key as shown: the current one, or a past version.
    shown: Key,
    as_of: Option<AsOf>,
    api_name: Option<String>,
    /// The creator's name, or their id if the name is unknown.
    created_by: String,
    actions: Actions,
    old_token: Option<Moment>,
    /// `None` if the visitor may not read events.
    history: Option<Vec<Entry>>,
    older_events: u64,
    /// Whether the visitor may download proofs.
    proves: bool,
    usage: Option<Usage>,
    chart: Option<Chart>,
    by_day: bool,
    back: String,
    /// The path of the other usage chart.
    other_usage: String,
}

page!(KeyPage);

impl KeyPage {
    fn proof(&self, position: &u64) -> String {
        format!("/v1/events/{position}/proof")
    }

    fn metadata(&self) -> Option<String> {
        self.shown.metadata.as_ref().and_then(|metadata| serde_json::to_string_pretty(metadata).ok())
    }

    fn chosen_version(&self) -> u32 {
        self.as_of.as_ref().map_or(self.key.version, |as_of| as_of.version)
    }
}

pub(crate) async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    let query = QueryString::of(&visitor.address);
    let found = visitor.read::<Key>(&call_path(&id, "")).await;
    let events = match visitor.may(&Method::GET, "/v1/keys/{id}/events") {
        true => Some(read_events(&visitor, &id).await?),
        false => None,
    };
    let key = match (found, &events) {
        (Ok(key), _) => key,
        // A visitor who may read events sees a deleted key in its last state.
        (Err(problem), Some(events)) if problem.code == Code::KeyDeleted => match events.data.last() {
            Some(last) => key_at(&visitor, &id, last.position).await?,
            None => return Err(problem),
        },
        (Err(problem), _) => return Err(problem),
    };
    let asked = query.get("version").and_then(|version| version.parse::<u32>().ok());
    let asked = asked.filter(|version| *version < key.version);
    let event = events.iter().flat_map(|events| &events.data).find(|event| Some(event.version) == asked);
    let (shown, as_of) = match event {
        Some(event) => {
            let as_of = AsOf { version: event.version, at: Moment::new(event.time, visitor.now) };
            (key_at(&visitor, &id, event.position).await?, Some(as_of))
        }
        None => (key.clone(), None),
    };
    let by_day = query.get("usage") == Some("day");
    let granularity = if by_day { "day" } else { "hour" };
    // A deleted key has no usage.
    let usage: Option<Usage> =
        visitor.read(&call_path(&id, &format!("/usage?granularity={granularity}"))).await.ok();
    let api_name = match &shown.api_id {
        Some(api) => Some(Apis::read(&visitor).await?.name(api).to_owned()),
        None => None,
    };
    let other_usage = query.with("usage", (!by_day).then_some("day")).after(&key.path(""));
    let kept = visitor.principal.organization_id.is_none().then_some(key.organization_id.as_str());
    let entries = match &events {
        Some(events) => Some(history::entries(&visitor, &events.data).await),
        None => None,
    };
    let older_events =
        events.as_ref().map_or(0, |events| events.total.saturating_sub(events.data.len() as u64));
    let first = entries.as_ref().and_then(|entries| entries.last()).filter(|_| older_events == 0);
    let page = KeyPage {
        created_by: first.map_or_else(|| key.created_by.clone(), |first| first.actor.clone()),
        frame: Frame::of(&visitor, key.title(), Some(Section::Keys), Some(&key.organization_id)).await,
        now: visitor.now,
        as_of,
        api_name,
        actions: Actions::of(&visitor).on(&key),
        old_token: events.as_ref().and_then(|events| history::old_token_until(&events.data, visitor.now)),
        older_events,
        history: entries,
        proves: visitor.may(&Method::GET, "/v1/events/{position}/proof"),
        chart: usage.as_ref().map(|usage| Chart::of(usage, by_day, visitor.now)),
        usage,
        by_day,
        back: QueryString::default().with("organization_id", kept).after("/console/keys"),
        other_usage,
        shown,
        key,
    };
    Ok(page.answer(StatusCode::OK))
}

/// Reads the latest events of a key, oldest first.
async fn read_events(visitor: &Visitor, id: &str) -> Result<Events, Problem> {
    let path = call_path(id, &format!("/events?sort=-position&limit={EVENTS_MAX}"));
    let mut events: Events = visitor.read(&path).await?;
    events.data.reverse();
    Ok(events)
}

async fn key_at(visitor: &Visitor, id: &str, position: u64) -> Result<Key, Problem> {
    visitor.read(&format!("/v1/keys/{}?at={position}", encoded(id))).await
}
