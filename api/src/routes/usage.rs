//! Usage: how often keys were verified, with which outcome, and when and from where last.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use keyledger_engine::id::KeyId;
use keyledger_engine::time::Timestamp;
use keyledger_projections::usage::{Counts, DAYS_KEPT, Granularity, HOURS_KEPT, Report};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::problem::{Code, Problem, ProblemBody};
use crate::query::{PathId, QueryParameters};
use crate::reply::Reply;
use crate::routes::keys::load_any;
use crate::service::Service;

/// The most hours that one answer may span: those of a month.
const HOURS_MAX: i64 = 31 * 24;

/// The calls about usage.
pub fn router() -> OpenApiRouter<Arc<Service>> {
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

/// How often a key was verified, or all keys were.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
struct UsageView {
    /// The key; `null` for all verifications together.
    #[schema(value_type = Option<String>)]
    key_id: Option<KeyId>,
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
    answer(&service, Some(key.id), asked).await
}

/// How often any key was verified, and how many tokens were refused that are no key's.
#[utoipa::path(get, path = "/v1/usage", operation_id = "getUsage", tag = "Keys", params(UsageQuery),
    responses(
        (status = 200, body = UsageView, description = "the usage of all keys together, with `MALFORMED` and `NOT_FOUND`"),
        (status = 403, body = ProblemBody, description = "`forbidden`, also for callers who see one organization only"),
        (status = 422, body = ProblemBody, description = "`invalid_request`"),
    ))]
async fn of_all(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let asked = Asked::read(parameters, service.now())?;
    answer(&service, None, asked).await
}

async fn answer(service: &Arc<Service>, key_id: Option<KeyId>, asked: Asked) -> Result<Response, Problem> {
    let usage = Arc::clone(&service.usage);
    let now = service.now();
    let report =
        service.blocking(move || usage.report(key_id, asked.from, asked.to, asked.granularity, now)).await?;
    let report = report.map_err(|error| Problem::internal(&error))?;
    Reply::at(service.index.position()).json(&UsageView::of(key_id, &report, asked.granularity))
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
    fn of(key_id: Option<KeyId>, report: &Report, granularity: Granularity) -> Self {
        let part = |(start, counts): &(Timestamp, Counts)| UsagePart {
            start: *start,
            total: counts.total(),
            outcomes: outcomes(counts),
        };
        Self {
            key_id,
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
