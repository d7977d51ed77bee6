//! The list of keys: filters, search, order, pages.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::UserId;
use keyledger_projections::key_list::{KeyPage, KeyQuery, QueryError};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{KeyView, Page};
use crate::auth::caller::Caller;
use crate::request::precondition::reach_min_position_in;
use crate::request::query::QueryParameters;
use crate::service::Service;

/// A search may have this many characters.
const TEXT_CHARS_MAX: usize = 200;

/// The call that lists keys.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which keys, in which order. It describes the parameters; [`QueryParameters`] reads them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct ListQuery {
    /// Of this organization.
    organization_id: Option<String>,
    /// `organization`, `user`, `partner` or `client`, several with commas between them; of any owner if left out.
    owner: Option<String>,
    /// Made by a partner for this client organization.
    client_organization_id: Option<String>,
    /// Of this user.
    user_id: Option<String>,
    /// For this API.
    api_id: Option<String>,
    /// `preview` or `production`.
    environment: Option<String>,
    /// `active`, `revoked`, `expired` or `deleted`, several with commas between them; all but deleted if left out.
    status: Option<String>,
    /// Carrying this scope.
    scope: Option<String>,
    /// Whose name, description, id, start, last four or user id holds this text, in whatever case.
    q: Option<String>,
    /// Created later than this RFC 3339 time.
    created_after: Option<String>,
    /// Created earlier than this RFC 3339 time.
    created_before: Option<String>,
    /// Ending earlier than this RFC 3339 time.
    expires_before: Option<String>,
    /// Created earlier than this RFC 3339 time and not verified since, with whatever outcome.
    unused_since: Option<String>,
    /// `created_at`, `name` or `expires_at`, with `-` before it for the other way round; `-created_at` if left out.
    sort: Option<String>,
    /// How many keys: 1 to 200; 50 if left out.
    limit: Option<u32>,
    /// The `next_cursor` of the page before; all other parameters must be the same.
    cursor: Option<String>,
}

/// Lists keys. Pages stay stable while keys come and change.
#[utoipa::path(get, path = "/v1/keys", operation_id = "listKeys", tag = "Keys",
    params(ListQuery, ("Keyledger-Min-Position" = Option<u64>, Header, description = "the position to rest on, at least")),
    responses(
        (status = 200, body = Page<KeyView>, description = "a page of keys"),
        (status = 422, body = ProblemBody, description = "`invalid_request`, also for a cursor of another list"),
        (status = 503, body = ProblemBody, description = "`position_not_reached`, `projection_not_ready`"),
    ))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let query = key_query(&service, &caller, parameters)?;
    reach_min_position_in(&headers, &service.key_list_handle).await?;
    let now = query.now;
    let list = service.key_list.clone();
    let usage = Arc::clone(&service.usage);
    let read = move || -> Result<_, QueryError> {
        let page = list.query(&query)?;
        let last_verified = usage.last_verifications(now);
        let times: Vec<_> = page.keys.iter().map(|key| last_verified.of(key.id)).collect();
        Ok((page, times))
    };
    let (page, times) = service.blocking(read).await??;
    let KeyPage { keys, next_cursor, total, total_capped, position, .. } = page;
    let data = keys.iter().zip(times).map(|(key, time)| KeyView::of(key, now).last_verified(time)).collect();
    Reply::at(position).json(&Page { data, next_cursor, total, total_capped })
}

fn key_query(
    service: &Service,
    caller: &Caller,
    mut parameters: QueryParameters,
) -> Result<KeyQuery, Problem> {
    let mut query = KeyQuery::new(service.now());
    query.organization_id = parameters.parsed::<OrganizationId>("organization_id");
    query.owner = words(&mut parameters, "owner");
    query.client_id = parameters.parsed("client_organization_id");
    query.user_id = parameters.read("user_id", UserId::new);
    query.api_id = parameters.parsed("api_id");
    query.environment = parameters.parsed("environment");
    query.status = words(&mut parameters, "status");
    query.scope = parameters.text("scope");
    query.text = parameters.text_or_empty("q");
    if query.text.as_ref().is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX) {
        parameters.fail("q", "must have at most 200 characters");
    }
    query.created_after = parameters.parsed("created_after");
    query.created_before = parameters.parsed("created_before");
    query.expires_before = parameters.parsed("expires_before");
    query.unused_since = parameters.parsed("unused_since");
    query.sort = parameters.parsed("sort").unwrap_or_default();
    query.limit = parameters.limit();
    query.cursor = parameters.text_or_empty("cursor");
    parameters.finish()?;
    narrow(caller, &mut query)?;
    Ok(query)
}

/// Narrows a query to the keys that the caller may see.
///
/// # Errors
/// `organization_not_found` or `key_not_found` when it asks for others.
pub(crate) fn narrow(caller: &Caller, query: &mut KeyQuery) -> Result<(), Problem> {
    if let Some(bound) = caller.bound_to() {
        if query.organization_id.as_ref().is_some_and(|asked| asked != bound) {
            return Err(Problem::of(Code::OrganizationNotFound));
        }
        query.organization_id = Some(bound.clone());
    }
    if let Some(own) = caller.own_keys_of() {
        if query.user_id.as_ref().is_some_and(|asked| asked != own) {
            return Err(Problem::of(Code::KeyNotFound));
        }
        query.user_id = Some(own.clone());
    }
    Ok(())
}

/// Words of a closed set with commas between them.
fn words<T: FromStr<Err: Display>>(parameters: &mut QueryParameters, name: &str) -> Vec<T> {
    let mut words = Vec::new();
    let text = parameters.text(name).unwrap_or_default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word.parse::<T>() {
            Ok(word) => words.push(word),
            Err(error) => parameters.fail(name, error.to_string()),
        }
    }
    words
}
