//! Events: who did what to which key, when; and the key behind a leaked token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::{AuditQuery, event_json};
use keyledger_projections::export::cloud_event;
use keyledger_projections::stored::store;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::event_stream::{self, Format};
use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{KeyView, Page};
use crate::auth::caller::{Caller, StandingCaller};
use crate::request::body::{Checks, Field, Json, text};
use crate::request::paging::LIMIT_DEFAULT;
use crate::request::precondition::{POSITION, position_value, reach_min_position, reach_min_position_in};
use crate::request::query::{PathId, QueryParameters};
use crate::routes::keys::key::load_any;
use crate::service::Service;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Totals are exact up to here.
const TOTAL_MAX: usize = 10_000;

/// The calls about events.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(list_of_key)).routes(routes!(find))
}

/// Which events. It describes the parameters; [`QueryParameters`] reads them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct EventsQuery {
    /// After this position; 0 if left out.
    after: Option<u64>,
    /// Of this organization.
    organization_id: Option<String>,
    /// Of this key.
    key_id: Option<String>,
    /// By this actor.
    actor_id: Option<String>,
    /// Of this type, such as `KeyRevoked`.
    r#type: Option<String>,
    /// Of the request with this `X-Request-Id`.
    request_id: Option<String>,
    /// Not earlier than this RFC 3339 time.
    from: Option<String>,
    /// Earlier than this RFC 3339 time.
    to: Option<String>,
    /// How many events: 1 to 200; 50 if left out. If it is left out, files give all events and a stream goes on.
    limit: Option<u32>,
    /// `position` for the first events first, `-position` for the latest first; `position` if left out.
    sort: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How to answer, whatever `Accept` says: `json` or `cloudevents-batch` for a page, `sse` for a stream that goes on,
    /// `ndjson`, `csv`, `cloudevents` or `ocsf` for a file.
    format: Option<String>,
}

/// Which events of a key. It describes the parameters; [`QueryParameters`] reads them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct KeyEventsQuery {
    /// After this position; 0 if left out.
    after: Option<u64>,
    /// By this actor.
    actor_id: Option<String>,
    /// Of this type, such as `KeyRevoked`.
    r#type: Option<String>,
    /// Of the request with this `X-Request-Id`.
    request_id: Option<String>,
    /// Not earlier than this RFC 3339 time.
    from: Option<String>,
    /// Earlier than this RFC 3339 time.
    to: Option<String>,
    /// How many events: 1 to 200; 50 if left out. If it is left out, files give all events and a stream goes on.
    limit: Option<u32>,
    /// `position` for the first events first, `-position` for the latest first; `position` if left out.
    sort: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How to answer, whatever `Accept` says: `json` or `cloudevents-batch` for a page, `sse` for a stream that goes on,
    /// `ndjson`, `csv`, `cloudevents` or `ocsf` for a file.
    format: Option<String>,
}

/// An event as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
#[allow(dead_code)]
struct EventBody {
    /// Its place in the log, from 1 without gaps.
    position: u64,
    /// `evt_<ULID>`.
    id: String,
    /// When it was appended.
    #[schema(format = DateTime)]
    time: String,
    /// What happened.
    #[schema(example = "KeyRevoked")]
    r#type: String,
    /// The schema number it was written with.
    schema: u16,
    /// The object it happened to.
    #[schema(value_type = Object)]
    stream: Value,
    /// Its place among the events of that object, from 1.
    version: u32,
    /// The key it happened to, if a key.
    key_id: Option<String>,
    /// The organization concerned.
    organization_id: Option<String>,
    /// Who did it: kind, id, address and user agent.
    #[schema(value_type = Object)]
    actor: Value,
    /// The request that carried the command.
    request_id: Option<String>,
    /// The event that led to it.
    causation_id: Option<String>,
    /// What there is to say of it.
    #[schema(value_type = Object)]
    data: Value,
}

/// An event as a CloudEvent 1.0.
#[derive(Serialize, ToSchema)]
#[schema(as = CloudEvent)]
#[allow(dead_code)]
struct CloudEventBody {
    /// `1.0`.
    #[schema(example = "1.0")]
    specversion: String,
    /// The event's id.
    id: String,
    /// The log: `urn:keyledger:log:<its id>`.
    source: String,
    /// What happened.
    #[schema(example = "keyledger.KeyRevoked")]
    r#type: String,
    /// The id of the object it happened to.
    subject: String,
    /// When it was appended.
    #[schema(format = DateTime)]
    time: String,
    /// Its position, in twenty digits.
    sequence: String,
    /// `application/json`.
    datacontenttype: String,
    /// The event.
    data: EventBody,
}

/// Lists events, as JSON pages; with `Accept: text/event-stream` as a stream that goes on (`Last-Event-ID` resumes it),
/// with `application/x-ndjson` or `text/csv` as one file. `format` chooses among these too, and among pages and files of
/// CloudEvents 1.0 and files of OCSF 1.8.0. A file that was cut off is gone on with by `after`, the last position in it;
/// the next page of a CloudEvents batch is in the `Link` header.
#[utoipa::path(get, path = "/v1/events", operation_id = "listEvents", tag = "Events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "the last event received; takes the place of `after`"),
        ("Keyledger-Min-Position" = Option<u64>, Header, description = "the position to rest on, at least")),
    responses(
        (status = 200, description = "the events", content(
            (Page<EventBody> = "application/json"), (Vec<CloudEventBody> = "application/cloudevents-batch+json"),
            (String = "text/event-stream"),
            (String = "application/x-ndjson"), (String = "text/csv"))),
        (status = 406, body = ProblemBody, description = "`not_acceptable`"),
        (status = 422, body = ProblemBody, description = "`invalid_request`"),
    ))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let organization_id = parameters.parsed::<OrganizationId>("organization_id");
    let key_id = parameters.parsed::<KeyId>("key_id");
    let mut asked = read_query(&headers, parameters)?;
    asked.query.organization_id = organization_id;
    asked.query.key_id = key_id;
    if let Some(bound) = caller.bound_to() {
        if asked.query.organization_id.as_ref().is_some_and(|it| it != bound) {
            return Err(Problem::of(Code::OrganizationNotFound));
        }
        asked.query.organization_id = Some(bound.clone());
    }
    answer(&service, &caller, &headers, &uri, asked).await
}

/// Lists the events of one key, also of a deleted one; in the same forms as `/v1/events`. Who sees their own keys only is
/// told of those, and of where an actor called from only if that was themselves in the same session.
#[utoipa::path(get, path = "/v1/keys/{id}/events", operation_id = "listKeyEvents", tag = "Events",
    params(("id" = String, Path, description = "its id"), KeyEventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "the last event received; takes the place of `after`"),
        ("Keyledger-Min-Position" = Option<u64>, Header, description = "the position to rest on, at least")),
    responses(
        (status = 200, description = "the events", content(
            (Page<EventBody> = "application/json"), (Vec<CloudEventBody> = "application/cloudevents-batch+json"),
            (String = "text/event-stream"),
            (String = "application/x-ndjson"), (String = "text/csv"))),
        (status = 404, body = ProblemBody, description = "`key_not_found`"),
    ))]
async fn list_of_key(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    PathId(id): PathId,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let mut asked = read_query(&headers, parameters)?;
    asked.query.key_id = Some(load_any(&service, &caller, &id).await?.id);
    answer(&service, &caller, &headers, &uri, asked).await
}

/// What a request for events asks.
struct Asked {
    query: AuditQuery,
    /// Whether the number of events was said.
    limited: bool,
    format: Format,
}

fn read_query(headers: &HeaderMap, mut parameters: QueryParameters) -> Result<Asked, Problem> {
    let named = parameters.read("format", |name| {
        Format::from_name(name)
            .ok_or("must be json, cloudevents-batch, sse, ndjson, csv, cloudevents or ocsf")
    });
    // A wrong name is refused below, with all else that is wrong.
    let format = named.map_or_else(|| Format::of(headers), Ok)?;
    let after = parameters.parsed::<Position>("after");
    let cursor = parameters.text_or_empty("cursor").map(|text| text.parse::<Position>());
    if let Some(Err(_)) = cursor {
        parameters.fail("cursor", "is not a cursor of this list; start again without it");
    }
    let cursor = cursor.and_then(Result::ok);
    let limit = parameters.limit_if_given();
    let descending = parameters.read("sort", |text| match text {
        "position" => Ok(false),
        "-position" => Ok(true),
        _ => Err("must be position or -position"),
    });
    let descending = descending.unwrap_or(false);
    let mut query = AuditQuery {
        after: cursor.filter(|_| !descending).or(after).unwrap_or_default(),
        before: cursor.filter(|_| descending),
        limit: limit.unwrap_or(LIMIT_DEFAULT),
        descending,
        organization_id: None,
        key_id: None,
        actor_id: parameters.text("actor_id"),
        event_type: parameters.read("type", |name| {
            EventType::from_name(name).ok_or("is not a type of event, such as KeyRevoked")
        }),
        request_id: parameters.text("request_id"),
        from: parameters.parsed("from"),
        to: parameters.parsed("to"),
    };
    if descending && format == Format::ServerSentEvents {
        parameters.fail("sort", "must be position for a stream that goes on");
    }
    parameters.finish()?;
    if let Some(last) = headers.get(LAST_EVENT_ID) {
        query.after = last.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            Problem::new(
                Code::MalformedRequest,
                "Last-Event-ID must be the id of an event of this stream: a position",
            )
        })?;
    }
    Ok(Asked { query, limited: limit.is_some(), format })
}

async fn answer(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    uri: &Uri,
    asked: Asked,
) -> Result<Response, Problem> {
    reach_min_position_in(headers, &service.audit_trail_handle).await?;
    if !service.audit_trail_handle.is_ready() {
        // What has begun to be streamed can no longer say so.
        return Err(Problem::of(Code::ProjectionNotReady));
    }
    let Asked { query, limited, format } = asked;
    match format {
        Format::Json => {
            let (trail, caller) = (service.audit_trail.clone(), Arc::clone(&caller.principal));
            let read = move || -> Result<_, store::Error> {
                let page = event_stream::seen_by(&caller, trail.query(&query)?);
                Ok((page, trail.count(&query, TOTAL_MAX + 1)?))
            };
            let (page, matching) = service.blocking(read).await??;
            let data: Vec<Value> = page.records.iter().map(event_json).collect();
            let next_cursor = page.next.map(|position| position.to_string());
            let total = matching.min(TOTAL_MAX) as u64;
            let shown = Page { data, next_cursor, total, total_capped: matching > TOTAL_MAX };
            Reply::at(page.position).json(&shown)
        }
        Format::CloudEventsBatch => {
            let page = event_stream::read(service, &caller.principal, &query).await?;
            let log_id = service.audit_trail.log_id();
            let batch: Vec<Value> = page.records.iter().map(|record| cloud_event(log_id, record)).collect();
            let mut response = Reply::at(page.position).json(&batch)?;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
            if let Some(link) = page.next.and_then(|position| next_link(uri, position)) {
                headers.insert(header::LINK, link);
            }
            Ok(response)
        }
        Format::File(file) => {
            let caller = StandingCaller::new(caller, headers);
            Ok(streamed(service, format, event_stream::file(service, caller, query, limited, file)))
        }
        Format::ServerSentEvents => {
            let caller = StandingCaller::new(caller, headers);
            Ok(streamed(service, format, event_stream::server_sent(service, caller, query, limited)))
        }
    }
}

fn streamed(service: &Service, format: Format, body: Body) -> Response {
    let position = service.audit_trail_handle.position();
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(POSITION, position_value(position));
    response
}

/// The page after this one (RFC 8288): the same address with another cursor.
fn next_link(uri: &Uri, position: Position) -> Option<HeaderValue> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.extend_pairs(parameters.filter(|(name, _)| name != "cursor"));
    query.append_pair("cursor", &position.to_string());
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())).ok()
}

/// A leaked token.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = FindKey)]
struct FindBody {
    /// The token as it was found.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    token: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// The key behind a token, and its history.
#[derive(Serialize, ToSchema)]
#[schema(as = FoundKey)]
struct Found<'a> {
    /// The key, whatever its state.
    #[schema(value_type = KeyView)]
    key: KeyView<'a>,
    /// Its events.
    #[schema(value_type = Vec<EventBody>)]
    events: Vec<Value>,
}

/// Finds the key that has, or once had, a token, and tells its history: also when it was revoked, rotated or deleted.
#[utoipa::path(post, path = "/v1/keys/find", operation_id = "findKey", tag = "Events", request_body = FindBody,
    responses(
        (status = 200, body = Found, description = "the key and its history"),
        (status = 404, body = ProblemBody, description = "`key_not_found`: no key ever had it"),
        (status = 422, body = ProblemBody, description = "`invalid_request`"),
    ))]
async fn find(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, .. }: Json<FindBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let read = text(|text: &str| Ok::<_, std::convert::Infallible>(text.trim().to_owned()));
    let token = checks.required("token", &body.token, read);
    checks.unknown(&body.unknown);
    checks.finish()?;
    reach_min_position(&headers, &service.index.watch()).await?;
    let not_found = || Problem::of(Code::KeyNotFound);
    let id = token.and_then(|token| service.index.find_token(&token)).ok_or_else(not_found)?;
    let key = load_any(&service, &caller, &id.to_string()).await?;
    let records = service.read_log(move |log| log.read_stream(&StreamId::Key(id))).await?.records;
    let now = service.now();
    let found = Found {
        key: KeyView::of(&key, now).last_verified(service.last_verified(id).await?),
        events: records.iter().map(event_json).collect(),
    };
    Reply::at(service.ledger.head()).secret().json(&found)
}
