//! Events: who did what to which key, and when; and the key behind a leaked token.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::{AuditQuery, event_json};
use keyledger_projections::export::cloud_event;
use keyledger_projections::stored::store;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::format::Format;
use super::stream::{self, Wanted};
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::{POSITION, Reply, position_value};
use crate::auth::caller::StandingCaller;
use crate::auth::origin::conceal;
use crate::evidence::security_log::Action;
use crate::openapi::parameters::{LastEventId, MinPosition, ObjectId};
use crate::request::body::{Checks, Field, JsonBody, text};
use crate::request::context::RequestContext;
use crate::request::precondition::reach_min_position_in;
use crate::request::query::{FromQuery, LIMIT_DEFAULT, PathId, QueryParameters};
use crate::routes::keys::key::load_any;
use crate::routes::keys::view::KeyView;
use crate::service::Service;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Totals are exact up to this number.
const TOTAL_MAX: usize = 10_000;

/// Returns the endpoints about events.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(list_of_key)).routes(routes!(find))
}

/// Where a list begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct After {
    /// Only events after this position. Default 0.
    #[param(value_type = Option<u64>)]
    after: Option<Position>,
}

/// The objects whose events a request asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Subject {
    /// Only events of this organization.
    #[param(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
    /// Only events of this key.
    #[param(value_type = Option<String>)]
    key_id: Option<KeyId>,
}

/// The events that a request asks for, and their form.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Selection {
    /// Only events of this actor.
    actor_id: Option<String>,
    /// Only events of this type, such as `KeyRevoked`.
    #[param(value_type = Option<String>)]
    r#type: Option<EventType>,
    /// Only events of the request with this `X-Request-Id`.
    request_id: Option<String>,
    /// Only events at or after this RFC 3339 time.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Only events before this RFC 3339 time.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// The number of events: 1 to 200. Default: 50 on a page; all events in a file; no limit in a stream.
    #[param(value_type = Option<u32>)]
    limit: Option<usize>,
    /// `position` for the oldest events first, `-position` for the newest first. Default `position`.
    #[param(value_type = Option<String>)]
    sort: Sort,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<Position>,
    /// The form of the answer, which overrides `Accept`: `json` or `cloudevents-batch` for a page, `sse` for
    /// a stream that continues, `ndjson`, `csv`, `cloudevents` or `ocsf` for a file.
    #[param(value_type = Option<String>)]
    format: Option<Format>,
}

/// The order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    OldestFirst,
    NewestFirst,
}

/// The query of both lists of events.
struct EventsQuery {
    after: After,
    selection: Selection,
}

impl FromQuery for EventsQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        let format = parameters.read("format", |name| {
            Format::from_name(name)
                .ok_or("must be json, cloudevents-batch, sse, ndjson, csv, cloudevents or ocsf")
        });
        let after = After { after: parameters.parsed("after") };
        let cursor = parameters.text_or_empty("cursor").map(|text| text.parse::<Position>());
        if let Some(Err(_)) = cursor {
            parameters.fail("cursor", "is not a cursor of this list; start again without it");
        }
        let limit = parameters.limit_if_given();
        let sort = parameters.read("sort", |text| match text {
            "position" => Ok(Sort::OldestFirst),
            "-position" => Ok(Sort::NewestFirst),
            _ => Err("must be position or -position"),
        });
        let selection = Selection {
            actor_id: parameters.text("actor_id"),
            r#type: parameters.read("type", |name| {
                EventType::from_name(name).ok_or("is not a type of event, such as KeyRevoked")
            }),
            request_id: parameters.text("request_id"),
            from: parameters.parsed("from"),
            to: parameters.parsed("to"),
            limit,
            sort: sort.unwrap_or(Sort::OldestFirst),
            cursor: cursor.and_then(Result::ok),
            format,
        };
        Self { after, selection }
    }
}

/// An event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
#[allow(dead_code)]
struct EventBody {
    /// Its position in the log, from 1 without gaps.
    position: u64,
    /// `evt_<ULID>`.
    id: String,
    /// When it was appended.
    #[schema(format = DateTime)]
    time: String,
    /// The type of the event.
    #[schema(example = "KeyRevoked")]
    r#type: String,
    /// The number of the schema with which it was written.
    schema: u16,
    /// The object that it is about.
    #[schema(value_type = Object)]
    stream: Value,
    /// Its number among the events of that object, from 1.
    version: u32,
    /// The key that it is about, if any.
    key_id: Option<String>,
    /// The organization it concerns.
    organization_id: Option<String>,
    /// The actor: kind, id, address and user agent. The address and user agent of an actor from outside the
    /// organization are `null` for callers that are bound to the organization.
    #[schema(value_type = Object)]
    actor: Value,
    /// The id of the request with the command.
    request_id: Option<String>,
    /// The id of the event that caused it.
    causation_id: Option<String>,
    /// The facts of the event.
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
    /// The type of the event.
    #[schema(example = "keyledger.KeyRevoked")]
    r#type: String,
    /// The id of the object that it is about.
    subject: String,
    /// When it was appended.
    #[schema(format = DateTime)]
    time: String,
    /// Its position as twenty digits.
    sequence: String,
    /// `application/json`.
    datacontenttype: String,
    /// The event.
    data: EventBody,
}

/// Lists events as JSON pages; with `Accept: text/event-stream` as a stream that continues (`Last-Event-ID`
/// resumes it); with `application/x-ndjson` or `text/csv` as one file. `format` selects the same forms, and
/// pages and files of CloudEvents 1.0 and files of OCSF 1.8.0. `after`, with the last position in an
/// interrupted file, resumes the file. The `Link` header has the next page of a CloudEvents batch.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "listEvents", tag = "Events",
    params(After, Subject, Selection, LastEventId, MinPosition),
    responses(
        (status = 200, description = "the events", content(
            (Page<EventBody> = "application/json"),
            (Vec<CloudEventBody> = "application/cloudevents-batch+json"),
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        (status = 406, body = ProblemBody, description = "`not_acceptable`"),
    ),
)]
async fn list(
    request: RequestContext,
    uri: Uri,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let subject = Subject {
        organization_id: parameters.parsed("organization_id"),
        key_id: parameters.parsed("key_id"),
    };
    let mut asked = Asked::read(&request.headers, parameters)?;
    asked.query.organization_id = subject.organization_id;
    asked.query.key_id = subject.key_id;
    if let Some(bound) = request.caller.bound_to() {
        if asked.query.organization_id.as_ref().is_some_and(|it| it != bound) {
            return Err(Problem::of(Code::OrganizationNotFound));
        }
        asked.query.organization_id = Some(bound.clone());
    }
    answer(&request, &uri, asked).await
}

/// Lists the events of one key, even of a deleted one, in the same forms as `/v1/events`. A caller that sees
/// only its own keys gets only their events, and sees an actor's address only if the actor is the caller's
/// own session.
#[utoipa::path(
    get, path = "/v1/keys/{id}/events", operation_id = "listKeyEvents", tag = "Events",
    params(ObjectId, After, Selection, LastEventId, MinPosition),
    responses(
        (status = 200, description = "the events", content(
            (Page<EventBody> = "application/json"),
            (Vec<CloudEventBody> = "application/cloudevents-batch+json"),
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        (status = 404, body = ProblemBody, description = "`key_not_found`"),
    ),
)]
async fn list_of_key(
    request: RequestContext,
    uri: Uri,
    id: PathId,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let mut asked = Asked::read(&request.headers, parameters)?;
    asked.query.key_id = Some(load_any(&request.service, &request.caller, &id).await?.id);
    answer(&request, &uri, asked).await
}

/// A valid request for events.
struct Asked {
    query: AuditQuery,
    /// Whether the request limits the number of events.
    limited: bool,
    format: Format,
}

impl Asked {
    /// Reads the query, and ends the checks of its parameters.
    fn read(headers: &HeaderMap, mut parameters: QueryParameters) -> Result<Self, Problem> {
        let EventsQuery { after: After { after }, selection } = EventsQuery::from_query(&mut parameters);
        // An invalid name is reported with the other invalid parameters; JSON takes its place until then.
        let format = selection.format.map_or_else(|| Format::of(headers), Ok)?;
        let descending = selection.sort == Sort::NewestFirst;
        let mut query = AuditQuery {
            after: selection.cursor.filter(|_| !descending).or(after).unwrap_or_default(),
            before: selection.cursor.filter(|_| descending),
            limit: selection.limit.unwrap_or(LIMIT_DEFAULT),
            descending,
            organization_id: None,
            key_id: None,
            actor_id: selection.actor_id,
            event_type: selection.r#type,
            request_id: selection.request_id,
            from: selection.from,
            to: selection.to,
        };
        if descending && format == Format::ServerSentEvents {
            parameters.fail("sort", "must be position for a stream that continues");
        }
        parameters.finish()?;
        if let Some(last) = headers.get(LAST_EVENT_ID) {
            query.after = last.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
                let detail = "Last-Event-ID must be the id of an event of this stream: a position";
                Problem::new(Code::MalformedRequest, detail)
            })?;
        }
        Ok(Self { query, limited: selection.limit.is_some(), format })
    }
}

async fn answer(request: &RequestContext, uri: &Uri, asked: Asked) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    reach_min_position_in(headers, &service.audit_trail_handle).await?;
    if !service.audit_trail_handle.is_ready() {
        // A stream that has begun cannot report this any more.
        return Err(Problem::of(Code::ProjectionNotReady));
    }
    let Asked { query, limited, format } = asked;
    let action = match format {
        Format::File(_) => Some(Action::Export),
        Format::ServerSentEvents => Some(Action::Stream),
        Format::Json | Format::CloudEventsBatch => None,
    };
    if let Some(action) = action {
        service.security_log.done(caller, (&Method::GET, uri.path()), action, service.now());
    }
    match format {
        Format::Json => {
            let (trail, index) = (service.audit_trail.clone(), Arc::clone(&service.index));
            let caller = Arc::clone(&caller.principal);
            let read = move || -> Result<_, store::Error> {
                let page = stream::seen_by(&index, &caller, trail.query(&query)?);
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
            let page = stream::read(service, &caller.principal, &query).await?;
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
            let wanted = wanted(request, query, limited)?;
            Ok(streamed(service, format, stream::file(service, wanted, file)))
        }
        Format::ServerSentEvents => {
            let wanted = wanted(request, query, limited)?;
            Ok(streamed(service, format, stream::server_sent(service, wanted)))
        }
    }
}

/// Begins a stream or a file.
///
/// # Errors
/// `rate_limited`, `overloaded`.
fn wanted(request: &RequestContext, query: AuditQuery, limited: bool) -> Result<Wanted, Problem> {
    let RequestContext { service, caller, headers } = request;
    let long_answer = service.long_answers.begin(&caller.principal, &service.metrics.refusals)?;
    Ok(Wanted { caller: StandingCaller::new(caller, headers), query, limited, long_answer })
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

/// Returns the link to the next page (RFC 8288): the same address with another cursor.
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
    /// The token, as it was found.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    token: Field,
}

/// The key behind a token, and its history.
#[derive(Serialize, ToSchema)]
#[schema(as = FoundKey)]
struct Found<'a> {
    /// The key, in any state.
    #[schema(value_type = KeyView)]
    key: KeyView<'a>,
    /// Its events.
    #[schema(value_type = Vec<EventBody>)]
    events: Vec<Value>,
}

/// Finds the key that has, or once had, a token, and returns its history, even if it was revoked, rotated or
/// deleted.
#[utoipa::path(post, path = "/v1/keys/find", operation_id = "findKey", tag = "Events",
    request_body = FindBody,
    responses(
        (status = 200, body = Found, description = "the key and its history"),
        (status = 404, body = ProblemBody, description = "`key_not_found`: no key ever had the token"),
    ))]
async fn find(
    RequestContext { service, caller, .. }: RequestContext,
    body: JsonBody<FindBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let read = text(|text: &str| Ok::<_, Infallible>(text.trim().to_owned()));
    let token = checks.required("token", &body.token, read);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let endpoint = (&Method::POST, "/v1/keys/find");
    service.security_log.done(&caller, endpoint, Action::FindKey, service.now());
    let not_found = || Problem::of(Code::KeyNotFound);
    let id = token.and_then(|token| service.index.find_token(&token)).ok_or_else(not_found)?;
    let key = load_any(&service, &caller, &id.to_string()).await?;
    let mut records = service.read_log(move |log| log.read_stream(&StreamId::Key(id))).await?.records;
    records.iter_mut().for_each(|record| conceal(&service.index, &caller.principal, record));
    let now = service.now();
    let found = Found {
        key: KeyView::of(&key, now).last_verified(service.last_verified(id).await?),
        events: records.iter().map(event_json).collect(),
    };
    Reply::at(service.ledger.head()).secret().json(&found)
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::path::{Parameter, ParameterIn};

    use super::*;
    use crate::request::query::assert_documented_is_read;

    impl IntoParams for EventsQuery {
        fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
            [After::into_params(&place), Selection::into_params(place)].concat()
        }
    }

    #[test]
    fn the_documented_query_is_read() {
        assert_documented_is_read::<EventsQuery>();
    }
}
