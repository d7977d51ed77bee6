//! The list of keys: filters, search, order, pages.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::key::{KeyStatus, OwnerKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, OrganizationId};
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::key_list::{KeyPage, KeyQuery, KeySort, QueryError};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::view::KeyView;
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::openapi::parameters::MinPosition;
use crate::request::context::RequestContext;
use crate::request::precondition::reach_min_position_in;
use crate::request::query::{FromQuery, Query, QueryParameters};
use crate::service::Service;

/// The longest text to search for, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Returns the endpoint that lists keys.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The keys that a request asks for, and their order.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only keys of this organization.
    #[param(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
    /// `organization`, `user`, `partner` or `client`, or several of them separated by commas. Default: any
    /// owner.
    #[param(value_type = Option<String>)]
    owner: Vec<OwnerKind>,
    /// Only keys that a partner created for this client organization.
    #[param(value_type = Option<String>)]
    client_organization_id: Option<OrganizationId>,
    /// Only keys of this user.
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// Only keys for this API.
    #[param(value_type = Option<String>)]
    api_id: Option<ApiId>,
    /// `preview` or `production`.
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
    /// `active`, `revoked`, `expired` or `deleted`, or several of them separated by commas. Default: all but
    /// deleted.
    #[param(value_type = Option<String>)]
    status: Vec<KeyStatus>,
    /// Only keys that carry this scope.
    scope: Option<String>,
    /// Only keys whose name, description, id, start, last four or user id contains this text, in any case.
    q: Option<String>,
    /// Only keys created later than this RFC 3339 time.
    #[param(value_type = Option<String>)]
    created_after: Option<Timestamp>,
    /// Only keys created earlier than this RFC 3339 time.
    #[param(value_type = Option<String>)]
    created_before: Option<Timestamp>,
    /// Only keys that expire earlier than this RFC 3339 time.
    #[param(value_type = Option<String>)]
    expires_before: Option<Timestamp>,
    /// Only keys created earlier than this RFC 3339 time and not verified since, with any verdict.
    #[param(value_type = Option<String>)]
    unused_since: Option<Timestamp>,
    /// `created_at`, `name` or `expires_at`, with the prefix `-` for descending order. Default `-created_at`.
    #[param(value_type = Option<String>)]
    sort: KeySort,
    /// The number of keys: 1 to 200. Default 50.
    #[param(value_type = Option<u32>)]
    limit: usize,
    /// The `next_cursor` of the previous page. All other parameters must be the same.
    cursor: Option<String>,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        Self {
            organization_id: parameters.parsed("organization_id"),
            owner: parameters.words("owner"),
            client_organization_id: parameters.parsed("client_organization_id"),
            user_id: parameters.read("user_id", UserId::new),
            api_id: parameters.parsed("api_id"),
            environment: parameters.parsed("environment"),
            status: parameters.words("status"),
            scope: parameters.text("scope"),
            q: parameters.search("q", TEXT_CHARS_MAX),
            created_after: parameters.parsed("created_after"),
            created_before: parameters.parsed("created_before"),
            expires_before: parameters.parsed("expires_before"),
            unused_since: parameters.parsed("unused_since"),
            sort: parameters.parsed("sort").unwrap_or_default(),
            limit: parameters.limit(),
            cursor: parameters.text_or_empty("cursor"),
        }
    }
}

impl ListQuery {
    /// Returns the query of the key list at `now`.
    fn at(self, now: Timestamp) -> KeyQuery {
        KeyQuery {
            organization_id: self.organization_id,
            owner: self.owner,
            client_id: self.client_organization_id,
            user_id: self.user_id,
            api_id: self.api_id,
            environment: self.environment,
            status: self.status,
            scope: self.scope,
            text: self.q,
            created_after: self.created_after,
            created_before: self.created_before,
            expires_before: self.expires_before,
            unused_since: self.unused_since,
            sort: self.sort,
            limit: self.limit,
            cursor: self.cursor,
            ..KeyQuery::new(now)
        }
    }
}

/// Lists keys. Pages stay stable while keys are created and changed.
#[utoipa::path(get, path = "/v1/keys", operation_id = "listKeys", tag = "Keys",
    params(ListQuery, MinPosition),
    responses(
        (status = 200, body = Page<KeyView>, description = "a page of keys"),
        (status = 422, body = ProblemBody,
            description = "`invalid_request`, also for the cursor of another list"),
        (status = 503, body = ProblemBody, description = "`position_not_reached`, `projection_not_ready`"),
    ))]
async fn list(request: RequestContext, Query(query): Query<ListQuery>) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    let now = service.now();
    let mut query = query.at(now);
    narrow(&caller, &mut query)?;
    reach_min_position_in(&headers, &service.key_list_handle).await?;
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

/// Narrows a query to the keys that the caller may see.
///
/// # Errors
/// `organization_not_found` or `key_not_found` if it asks for other keys.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::query::assert_documented_is_read;

    #[test]
    fn the_documented_query_is_read() {
        assert_documented_is_read::<ListQuery>();
    }
}
