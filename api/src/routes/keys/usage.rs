//! Usage: how often keys were verified, with which verdict, and the time and address of the last
//! verification.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::usage::{Counts, DAYS_KEPT, Granularity, HOURS_KEPT, Report};
use keyledger_projections::key_list::{KeyQuery, QueryError};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::key::load_existing;
use super::list::narrow;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::openapi::parameters::{MinPosition, ObjectId};
use crate::request::context::RequestContext;
use crate::request::precondition::reach_min_position;
use crate::request::query::{FromQuery, PathId, QueryParameters};
use crate::service::Service;

/// The most keys of an organization or a user whose usage is added up. For more keys, clients ask for each
/// key's usage.
const KEYS_MAX: usize = 1_000;
/// The most hours that one answer may span: a month.
const HOURS_MAX: i64 = 31 * 24;

/// Returns the endpoints about usage.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(of_key)).routes(routes!(of_all))
}

/// The time span that a request asks for, and its parts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// The start, RFC 3339. Default: a day before `to`, or 30 days with `granularity=day`. The whole hour or
    /// day that contains it counts.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// The end, RFC 3339. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// `hour`, for at most 31 of the last 90 days, or `day`, for the last two years, both in UTC. Default
    /// `hour`.
    #[param(value_type = Option<String>)]
    granularity: Granularity,
}

impl FromQuery for UsageQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        let granularity = parameters.read("granularity", |text| match text {
            "hour" => Ok(Granularity::Hour),
            "day" => Ok(Granularity::Day),
            _ => Err("must be one of hour, day"),
        });
        let (to, from) = (parameters.parsed("to"), parameters.parsed("from"));
        Self { from, to, granularity: granularity.unwrap_or(Granularity::Hour) }
    }
}

/// The keys whose usage a request asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct WhoseUsage {
    /// Only keys of this organization.
    #[param(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
}

impl FromQuery for WhoseUsage {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        Self { organization_id: parameters.parsed("organization_id") }
    }
}

/// How often one key, or several keys together, were verified.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
struct UsageView {
    /// The key. `null` for several keys together.
    #[schema(value_type = Option<String>)]
    key_id: Option<KeyId>,
    /// The organization whose keys are added up. `null` for one key, and for all verifications.
    #[schema(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
    /// When it was last verified, with any verdict.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_verified_at: Option<Timestamp>,
    /// The address from which the last verification was requested, if known.
    #[schema(value_type = Option<String>)]
    last_verified_ip: Option<IpAddr>,
    /// The number of verifications since the beginning.
    total: u64,
    /// The same number by verdict. Verdicts that never occurred are absent.
    outcomes: BTreeMap<&'static str, u64>,
    /// `hour` or `day`.
    granularity: &'static str,
    /// The requested hours or days with at least one verification, oldest first.
    data: Vec<UsagePart>,
}

/// Verifications of an hour or a day.
#[derive(Serialize, ToSchema)]
struct UsagePart {
    /// When it starts.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// The number of verifications.
    total: u64,
    /// The same number by verdict.
    outcomes: BTreeMap<&'static str, u64>,
}

/// Returns how often a key was verified, including every verification answered before this request. After a
/// crash, the last second before it may be missing.
#[utoipa::path(get, path = "/v1/keys/{id}/usage", operation_id = "getKeyUsage", tag = "Keys",
    params(ObjectId, UsageQuery),
    responses(
        (status = 200, body = UsageView, description = "the key's usage"),
        (status = 404, body = ProblemBody, description = "`key_not_found`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`: the usage is deleted with the key"),
    ))]
async fn of_key(
    request: RequestContext,
    id: PathId,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let query = UsageQuery::from_query(&mut parameters);
    let span = Span::of(&query, parameters, request.service.now())?;
    let key = load_existing(&request, &id).await?;
    answer(&request.service, Whose::Key(key.id), span).await
}

/// Returns how often all keys were verified, and how many tokens without a key were rejected. With
/// `organization_id`, and for callers that see one organization or only their own keys, it returns how often
/// those keys were verified. They must be at most 1,000 keys, not counting deleted ones.
#[utoipa::path(get, path = "/v1/usage", operation_id = "getUsage", tag = "Keys",
    params(WhoseUsage, UsageQuery, MinPosition),
    responses(
        (status = 200, body = UsageView,
            description = "the usage of the keys together; of all keys, also with `MALFORMED` and \
                `NOT_FOUND`"),
        (status = 404, body = ProblemBody,
            description = "`organization_not_found`: the caller is bound to another organization"),
        (status = 422, body = ProblemBody,
            description = "`invalid_request`, also if there are too many keys to add up"),
        (status = 503, body = ProblemBody, description = "`projection_not_ready`"),
    ))]
async fn of_all(request: RequestContext, mut parameters: QueryParameters) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    let mut keys = KeyQuery::new(service.now());
    keys.organization_id = WhoseUsage::from_query(&mut parameters).organization_id;
    let query = UsageQuery::from_query(&mut parameters);
    let span = Span::of(&query, parameters, service.now())?;
    narrow(&caller, &mut keys)?;
    let Some(organization_id) = keys.organization_id.clone() else {
        return answer(&service, Whose::Everyone, span).await;
    };
    reach_min_position(&headers, &service.key_list_handle.watch()).await?;
    keys.limit = KEYS_MAX;
    let list = service.key_list.clone();
    let read = move || -> Result<_, QueryError> {
        let counts = list.count(&keys)?;
        let is_small = counts.active + counts.revoked + counts.expired <= KEYS_MAX as u64;
        Ok(if is_small { Some(list.query(&keys)?) } else { None })
    };
    let found = service.blocking(read).await??;
    let Some(found) = found.filter(|found| found.next_cursor.is_none()) else {
        let detail = "has more than 1,000 keys, whose usage is not added up; ask for the usage of each key";
        return Err(Problem::field("?organization_id", detail));
    };
    let ids = found.keys.iter().map(|key| key.id).collect();
    answer(&service, Whose::Keys(organization_id, ids), span).await
}

/// The keys whose usage is answered.
enum Whose {
    /// One key.
    Key(KeyId),
    /// An organization's keys, or some of them.
    Keys(OrganizationId, Vec<KeyId>),
    /// All keys, and tokens without a key.
    Everyone,
}

async fn answer(service: &Arc<Service>, whose: Whose, span: Span) -> Result<Response, Problem> {
    let usage = Arc::clone(&service.usage);
    let now = service.now();
    let Span { from, to, granularity } = span;
    let read = move || {
        let report = match &whose {
            Whose::Key(id) => usage.report(Some(*id), from, to, granularity, now),
            Whose::Keys(_, ids) => usage.report_of(ids, from, to, granularity, now),
            Whose::Everyone => usage.report(None, from, to, granularity, now),
        };
        report.map(|report| (whose, report))
    };
    let (whose, report) = service.blocking(read).await?.map_err(|error| Problem::internal(&error))?;
    Reply::at(service.index.position()).json(&UsageView::of(whose, &report, granularity))
}

/// A valid time span and its parts.
#[derive(Clone, Copy)]
struct Span {
    from: Timestamp,
    to: Timestamp,
    granularity: Granularity,
}

impl Span {
    /// Completes and checks the time span of a query, and ends the checks of its parameters.
    fn of(query: &UsageQuery, mut parameters: QueryParameters, now: Timestamp) -> Result<Self, Problem> {
        let UsageQuery { from, to, granularity } = *query;
        let (parts, parts_kept) = match granularity {
            Granularity::Hour => (24, HOURS_KEPT),
            Granularity::Day => (30, DAYS_KEPT - 1),
        };
        let to = to.unwrap_or(now);
        let from = from.unwrap_or_else(|| to.saturating_add_millis(-parts * granularity.millis()));
        if from > to {
            parameters.fail("from", "must not be later than ?to");
        }
        let earliest = now.saturating_add_millis(-i64::from(parts_kept) * granularity.millis());
        let is_long = to.millis().saturating_sub(from.millis()) > HOURS_MAX * granularity.millis();
        match granularity {
            Granularity::Hour if from < earliest => {
                let detail = "hours are kept for 90 days; ask for later ones, or for granularity=day";
                parameters.fail("from", detail);
            }
            Granularity::Day if from < earliest => {
                parameters.fail("from", "days are kept for two years; ask for later ones");
            }
            Granularity::Hour if is_long => {
                parameters.fail("to", "must be at most 31 days after ?from with granularity=hour");
            }
            _ => {}
        }
        parameters.finish()?;
        Ok(Self { from, to, granularity })
    }
}

impl UsageView {
    fn of(whose: Whose, report: &Report, granularity: Granularity) -> Self {
        let (key_id, organization_id) = match whose {
            Whose::Key(id) => (Some(id), None),
            Whose::Keys(organization_id, _) => (None, Some(organization_id)),
            Whose::Everyone => (None, None),
        };
        let part = |(start, counts): &(Timestamp, Counts)| UsagePart {
            start: *start,
            total: counts.total(),
            outcomes: outcomes(counts),
        };
        Self {
            key_id,
            organization_id,
            last_verified_at: report.last_at,
            last_verified_ip: report.last_from.ip(),
            total: report.total.total(),
            outcomes: outcomes(&report.total),
            granularity: match granularity {
                Granularity::Hour => "hour",
                Granularity::Day => "day",
            },
            data: report.parts.iter().map(part).collect(),
        }
    }
}

fn outcomes(counts: &Counts) -> BTreeMap<&'static str, u64> {
    counts.iter().map(|(code, count)| (code.as_str(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::query::assert_documented_is_read;

    #[test]
    fn the_documented_queries_are_read() {
        assert_documented_is_read::<UsageQuery>();
        assert_documented_is_read::<WhoseUsage>();
    }
}
