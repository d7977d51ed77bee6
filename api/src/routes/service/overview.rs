//! The overview of keys: how many there are in each state, and what happened to them on each day.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::event::EventType;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::Frequency;
use keyledger_projections::key_list::{KeyCounts, KeyQuery};
use keyledger_projections::stored::store;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::openapi::parameters::MinPosition;
use crate::request::context::RequestContext;
use crate::request::precondition::reach_min_position_in;
use crate::request::query::{FromQuery, Query, QueryParameters};
use crate::routes::keys::list::narrow;
use crate::service::Service;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// The most days in one answer, and the default.
const DAYS_MAX: u32 = 90;
const DAYS: u32 = 30;

/// Returns the endpoint.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(overview))
}

/// The keys and the days that a request asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct OverviewQuery {
    /// Only keys of this organization.
    #[param(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
    /// The number of days in UTC, including today: 1 to 90. Default 30.
    days: Option<u32>,
}

impl FromQuery for OverviewQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        Self {
            organization_id: parameters.parsed("organization_id"),
            days: parameters.read("days", |text| match text.parse() {
                Ok(days @ 1..=DAYS_MAX) => Ok(days),
                _ => Err("must be a whole number from 1 to 90"),
            }),
        }
    }
}

/// An overview of keys.
#[derive(Serialize, ToSchema)]
#[schema(as = Overview)]
struct OverviewView {
    /// The organization it covers. `null` for all.
    #[schema(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
    /// The number of keys in each state.
    keys: KeysByStatus,
    /// What happened to keys on each day, oldest first, without gaps. `null` for callers without
    /// `events:read`.
    days: Option<Vec<Day>>,
}

/// The number of keys in each state.
#[derive(Serialize, ToSchema)]
struct KeysByStatus {
    /// Active keys.
    active: u64,
    /// Revoked keys, which can be reactivated.
    revoked: u64,
    /// Expired keys.
    expired: u64,
    /// Deleted keys.
    deleted: u64,
}

/// What happened to keys on a day.
#[derive(Serialize, ToSchema)]
struct Day {
    /// When the day starts.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// The number of created keys.
    created: u64,
    /// The number of revocations.
    revoked: u64,
    /// The number of keys that expired.
    expired: u64,
    /// The number of deleted keys.
    deleted: u64,
}

/// Returns the number of keys in each state, and what happened to them on each of the last days. A caller
/// that sees only its own keys gets only their numbers.
#[utoipa::path(get, path = "/v1/overview", operation_id = "getOverview", tag = "Keys",
    params(OverviewQuery, MinPosition),
    responses(
        (status = 200, body = OverviewView, description = "the overview"),
        (status = 404, body = ProblemBody,
            description = "`organization_not_found`: the caller is bound to another organization"),
        (status = 503, body = ProblemBody, description = "`position_not_reached`, `projection_not_ready`"),
    ))]
async fn overview(
    request: RequestContext,
    Query(OverviewQuery { organization_id, days }): Query<OverviewQuery>,
) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    let mut query = KeyQuery::new(service.now());
    query.organization_id = organization_id;
    narrow(&caller, &mut query)?;
    let tells_days = caller.principal.may(Permission::EventsRead) && query.user_id.is_none();
    reach_min_position_in(&headers, &service.key_list_handle).await?;
    if tells_days {
        reach_min_position_in(&headers, &service.audit_trail_handle).await?;
    }
    let bounds = days_until(query.now, days.unwrap_or(DAYS));
    let (list, trail) = (service.key_list.clone(), service.audit_trail.clone());
    let organization_id = query.organization_id.clone();
    let read = move || -> Result<_, store::Error> {
        let counts = list.count(&query)?;
        let of = query.organization_id.as_ref();
        let frequency = tells_days.then(|| trail.frequency(of, &COUNTED, &bounds)).transpose()?;
        Ok((counts, frequency, bounds))
    };
    let (counts, frequency, bounds) = service.blocking(read).await??;
    let position = frequency.as_ref().map_or(counts.position, |it| it.position.min(counts.position));
    let days = frequency.map(|frequency| days_of(&frequency, &bounds));
    Reply::at(position).json(&OverviewView { organization_id, keys: KeysByStatus::of(&counts), days })
}

/// The counted events, in the order of the fields of [`Day`].
const COUNTED: [EventType; 4] =
    [EventType::KeyCreated, EventType::KeyRevoked, EventType::KeyExpired, EventType::KeyDeleted];

/// Returns the starts of the last days, oldest first, and the end of today.
fn days_until(now: Timestamp, days: u32) -> Vec<Timestamp> {
    let today = now.millis() - now.millis().rem_euclid(DAY_MILLIS);
    let start = |ago: i64| Timestamp::from_millis(today - ago * DAY_MILLIS);
    (-1..i64::from(days)).rev().map(start).collect()
}

fn days_of(frequency: &Frequency, bounds: &[Timestamp]) -> Vec<Day> {
    let count = |row: usize, day: usize| {
        frequency.counts.get(row).and_then(|counts| counts.get(day)).copied().unwrap_or_default()
    };
    let starts = bounds.iter().take(bounds.len().saturating_sub(1)).enumerate();
    let day = |(index, start): (usize, &Timestamp)| Day {
        start: *start,
        created: count(0, index),
        revoked: count(1, index),
        expired: count(2, index),
        deleted: count(3, index),
    };
    starts.map(day).collect()
}

impl KeysByStatus {
    const fn of(counts: &KeyCounts) -> Self {
        Self {
            active: counts.active,
            revoked: counts.revoked,
            expired: counts.expired,
            deleted: counts.deleted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::query::assert_documented_is_read;

    #[test]
    fn the_documented_query_is_read() {
        assert_documented_is_read::<OverviewQuery>();
    }

    #[test]
    fn days_end_with_today() {
        let now: Timestamp = "2026-03-01T14:03:07.112Z".parse().unwrap();
        let bounds: Vec<String> = days_until(now, 2).iter().map(ToString::to_string).collect();
        let expected = ["2026-02-28T00:00:00.000Z", "2026-03-01T00:00:00.000Z", "2026-03-02T00:00:00.000Z"];
        assert_eq!(bounds, expected);
    }
}
