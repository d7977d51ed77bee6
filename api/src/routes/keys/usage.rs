//! Usage: how often keys were verified, with which outcome, and when and from where last.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::usage::{Counts, DAYS_KEPT, Granularity, HOURS_KEPT, Report};
use keyledger_projections::key_list::{KeyQuery, QueryError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::request::precondition::reach_min_position;
use crate::request::query::{PathId, QueryParameters};
use crate::routes::keys::key::load_any;
use crate::routes::keys::list::narrow;
use crate::service::Service;

/// The keys of an organization, or of a user, whose usage is summed up; of more each is asked for by itself.
const KEYS_MAX: usize = 1_000;
/// The most hours that one answer may span: those of a month.
const HOURS_MAX: i64 = 31 * 24;

/// The calls about usage.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(of_key)).routes(routes!(of_all))
}

/// Which time, in which parts. It describes the parameters; [`QueryParameters`] reads them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct UsageQuery {
    /// RFC 3339; a day before `to` if left out, or 30 days with `granularity=day`. The whole hour or day that it is in counts.
    from: Option<String>,
    /// RFC 3339; now if left out.
    to: Option<String>,
    /// `hour`, for at most 31 days of the last 90, or `day`, for the last two years; in UTC. `hour` if left out.
    granularity: Option<String>,
}

/// Whose usage. It describes the parameter; [`QueryParameters`] reads it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct WhoseUsage {
    /// Of the keys of this organization.
    organization_id: Option<String>,
}

/// How often a key was verified, or all keys were.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
struct UsageView {
    /// The key; `null` for several together.
    #[schema(value_type = Option<String>)]
    key_id: Option<KeyId>,
    /// The organization whose keys are told of together; `null` for a key, and for all verifications.
    #[schema(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
    /// When it was last verified, with whatever outcome.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_verified_at: Option<Timestamp>,
    /// The address that the last verification was asked for from, if it is known.
    #[schema(value_type = Option<String>)]
    last_verified_ip: Option<IpAddr>,
    /// All verifications there ever were.
    total: u64,
    /// The same by outcome; outcomes that never came are left out.
    outcomes: BTreeMap<&'static str, u64>,
    /// `hour` or `day`.
    granularity: &'static str,
    /// The hours or days asked for in which there was something, oldest first.
    data: Vec<UsagePart>,
}

/// Verifications of an hour or a day.
#[derive(Serialize, ToSchema)]
struct UsagePart {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// How many verifications there were.
    total: u64,
    /// The same by outcome.
    outcomes: BTreeMap<&'static str, u64>,
}

/// How often a key was verified. What was answered before this call is counted; a crash of the service may lose the last
/// second before it.
#[utoipa::path(get, path = "/v1/keys/{id}/usage", operation_id = "getKeyUsage", tag = "Keys",
    params(("id" = String, Path, description = "its id"), UsageQuery),
    responses(
        (status = 200, body = UsageView, description = "its usage"),
        (status = 404, body = ProblemBody, description = "`key_not_found`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`: its usage goes with it"),
        (status = 422, body = ProblemBody, description = "`invalid_request`"),
    ))]
async fn of_key(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(id): PathId,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let asked = Asked::read(parameters, service.now())?;
    let key = load_any(&service, &caller, &id).await?;
    if key.deleted_at.is_some() {
        return Err(Problem::of(Code::KeyDeleted));
    }
    answer(&service, Whose::Key(key.id), asked).await
}

/// How often any key was verified, and how many tokens were refused that are no key's. With `organization_id`, and to callers
/// who see one organization or their own keys only: how often those keys were verified, of those that are not deleted, and
/// that are 1,000 at most.
#[utoipa::path(get, path = "/v1/usage", operation_id = "getUsage", tag = "Keys", 
    params(WhoseUsage, UsageQuery,
        ("Keyledger-Min-Position" = Option<u64>, Header, description = "the position to rest on, at least")),
    responses(
        (status = 200, body = UsageView, description = "the usage of the keys together; of all, with `MALFORMED` and `NOT_FOUND`"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`: the caller is bound to another one"),
        (status = 422, body = ProblemBody, description = "`invalid_request`, also when there are too many keys to sum up"),
        (status = 503, body = ProblemBody, description = "`projection_not_ready`"),
    ))]
async fn of_all(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let mut keys = KeyQuery::new(service.now());
    keys.organization_id = parameters.parsed("organization_id");
    let asked = Asked::read(parameters, service.now())?;
    narrow(&caller, &mut keys)?;
    let whose = match keys.organization_id.clone() {
        Some(organization_id) => {
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
                let detail =
                    "has more than 1,000 keys, whose usage is not summed up; ask for that of each key";
                return Err(Problem::field("?organization_id", detail));
            };
            Whose::Keys(organization_id, found.keys.iter().map(|key| key.id).collect())
        }
        None => Whose::Everybody,
    };
    answer(&service, whose, asked).await
}

/// Whose usage is told.
enum Whose {
    /// A key's.
    Key(KeyId),
    /// That of an organization's keys, or of some of them.
    Keys(OrganizationId, Vec<KeyId>),
    /// That of all keys, and of tokens that are no key's.
    Everybody,
}

async fn answer(service: &Arc<Service>, whose: Whose, asked: Asked) -> Result<Response, Problem> {
    let usage = Arc::clone(&service.usage);
    let now = service.now();
    let Asked { from, to, granularity } = asked;
    let read = move || {
        let report = match &whose {
            Whose::Key(id) => usage.report(Some(*id), from, to, granularity, now),
            Whose::Keys(_, ids) => usage.report_of(ids, from, to, granularity, now),
            Whose::Everybody => usage.report(None, from, to, granularity, now),
        };
        report.map(|report| (whose, report))
    };
    let (whose, report) = service.blocking(read).await?.map_err(|error| Problem::internal(&error))?;
    Reply::at(service.index.position()).json(&UsageView::of(whose, &report, granularity))
}

#[derive(Clone, Copy)]
struct Asked {
    from: Timestamp,
    to: Timestamp,
    granularity: Granularity,
}

impl Asked {
    fn read(mut parameters: QueryParameters, now: Timestamp) -> Result<Self, Problem> {
        let granularity = match parameters.text("granularity").as_deref() {
            None | Some("hour") => Granularity::Hour,
            Some("day") => Granularity::Day,
            Some(_) => {
                parameters.fail("granularity", "must be one of hour, day");
                Granularity::Hour
            }
        };
        let (parts, parts_kept) = match granularity {
            Granularity::Hour => (24, HOURS_KEPT),
            Granularity::Day => (30, DAYS_KEPT - 1),
        };
        let to = parameters.parsed("to").unwrap_or(now);
        let from = parameters.parsed("from");
        let from = from.unwrap_or_else(|| to.saturating_add_millis(-parts * granularity.millis()));
        if from > to {
            parameters.fail("from", "must not be later than ?to");
        }
        let earliest = now.saturating_add_millis(-i64::from(parts_kept) * granularity.millis());
        match granularity {
            Granularity::Hour if from < earliest => {
                parameters
                    .fail("from", "hours are kept for 90 days; ask for later ones, or for granularity=day");
            }
            Granularity::Day if from < earliest => {
                parameters.fail("from", "days are kept for two years; ask for later ones");
            }
            Granularity::Hour
                if to.millis().saturating_sub(from.millis()) > HOURS_MAX * granularity.millis() =>
            {
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
            Whose::Everybody => (None, None),
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
