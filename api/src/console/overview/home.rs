//! The overview: keys by status, daily changes, verifications by outcome, keys that expire soon, and the
//! health of the service.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::daily_chart::{BAR, DailyChart, Day};
use super::health::Health;
use crate::console::audit::checkpoint::Checkpoint;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::icon::Icon;
use crate::console::parts::key::Key;
use crate::console::parts::number::grouped;
use crate::console::parts::outcome::in_words;
use crate::console::parts::query_string::QueryString;
use crate::console::visit::visitor::Visitor;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// The days that "soon" and "unused" mean, as in the list of keys.
const DAYS: i64 = 30;
/// The number of expiring keys shown here. The list of keys has the others.
const ENDING_LEN: usize = 5;

#[derive(Deserialize)]
struct Overview {
    keys: KeysByStatus,
    days: Option<Vec<Day>>,
}

#[derive(Deserialize)]
struct KeysByStatus {
    active: u64,
    revoked: u64,
    expired: u64,
    deleted: u64,
}

#[derive(Deserialize)]
struct KeyPage {
    data: Vec<Key>,
    total: u64,
    total_capped: bool,
}

impl KeyPage {
    fn total(&self) -> String {
        if self.total_capped { format!("{}+", grouped(self.total)) } else { grouped(self.total) }
    }
}

#[derive(Deserialize)]
struct Usage {
    data: Vec<UsagePart>,
}

#[derive(Deserialize)]
struct UsagePart {
    outcomes: BTreeMap<String, u64>,
}

/// A count with a link to the keys that it counts.
struct Figure {
    number: String,
    label: &'static str,
    path: String,
}

/// The count of a verification code.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: String,
    words: &'static str,
    count: String,
    /// Percent of all verifications, rounded up.
    share: u64,
    is_valid: bool,
}

#[derive(Template)]
#[template(path = "overview/overview.html")]
struct OverviewPage {
    frame: Frame,
    now: Timestamp,
    figures: [Figure; 6],
    has_keys: bool,
    own_only: bool,
    of_all: bool,
    chart: Option<DailyChart>,
    /// `None` if there are too many keys to sum up.
    outcomes: Option<Vec<Outcome>>,
    verifications: String,
    ending: Vec<Key>,
    all_ending: String,
    health: Health,
    checkpoint: Option<Checkpoint>,
    create: Option<String>,
    organizations: Option<&'static str>,
    public_url: String,
}

page!(OverviewPage);

pub(crate) async fn show(visitor: Visitor) -> Result<Response, Problem> {
    let query = QueryString::of(&visitor.address);
    let organization = query.get("organization_id").map(ToOwned::to_owned);
    let kept = QueryString::default().with("organization_id", organization.as_deref());
    let days = |days: i64| visitor.now.saturating_add_millis(days * DAY_MILLIS).to_string();
    let active = kept.with("status", Some("active"));
    let ending = active.with("expires_before", Some(&days(DAYS))).with("sort", Some("expires_at"));
    let ending = ending.with("limit", Some(&ENDING_LEN.to_string())).after("/v1/keys");
    let unused = active.with("unused_since", Some(&days(-DAYS))).with("limit", Some("1")).after("/v1/keys");
    let overview_path = kept.after("/v1/overview");
    let (overview, ending, unused, usage, health, checkpoint) = tokio::join!(
        visitor.read::<Overview>(&overview_path),
        visitor.read::<KeyPage>(&ending),
        visitor.read::<KeyPage>(&unused),
        usage(&visitor, &kept),
        Health::read(&visitor),
        Checkpoint::read(&visitor),
    );
    let (Overview { keys, days }, ending, unused, usage) = (overview?, ending?, unused?, usage?);
    let list = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .fold(kept.clone(), |query, (name, value)| query.with(name, Some(value)))
            .after("/console/keys")
    };
    let figure = |number, label, path| Figure { number, label, path };
    let all_ending = list(&[("expiring", "30"), ("sort", "expires_at")]);
    let figures = [
        figure(grouped(keys.active), "Active", list(&[("status", "active")])),
        figure(grouped(keys.revoked), "Revoked", list(&[("status", "revoked")])),
        figure(grouped(keys.expired), "Expired", list(&[("status", "expired")])),
        figure(grouped(keys.deleted), "Deleted", list(&[("status", "deleted")])),
        figure(ending.total(), "Expire in 30 days", all_ending.clone()),
        figure(unused.total(), "Unused for 30 days", list(&[("status", "active"), ("unused", "30")])),
    ];
    let is_bound = visitor.principal.organization_id.is_some();
    let shown = OverviewPage {
        frame: Frame::of(&visitor, "Overview", Some(Section::Overview), organization.as_deref()).await,
        now: visitor.now,
        figures,
        has_keys: keys.active + keys.revoked + keys.expired + keys.deleted > 0,
        own_only: visitor.principal.user_id.is_some(),
        of_all: !is_bound && organization.is_none(),
        chart: days.map(DailyChart::of),
        verifications: grouped(usage.iter().flatten().map(|(_, count)| count).sum()),
        outcomes: usage.map(outcomes),
        ending: ending.data,
        all_ending,
        health: health?,
        // Without a checkpoint, the health panel says why.
        checkpoint: checkpoint.ok(),
        create: visitor.may(&Method::POST, "/v1/keys").then(|| kept.after("/console/keys/new")),
        organizations: visitor.may(&Method::POST, "/v1/organizations").then_some("/console/organizations"),
        public_url: visitor.public_url().into(),
    };
    Ok(shown.answer(StatusCode::OK))
}

/// Sums the recent verifications by code. Returns `None` if there are too many keys to sum up.
async fn usage(visitor: &Visitor, of: &QueryString) -> Result<Option<BTreeMap<String, u64>>, Problem> {
    let path = of.with("granularity", Some("day")).after("/v1/usage");
    let usage = match visitor.read::<Usage>(&path).await {
        Ok(usage) => usage,
        Err(problem) if problem.code == Code::InvalidRequest => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let mut sums = BTreeMap::new();
    for (code, count) in usage.data.into_iter().flat_map(|part| part.outcomes) {
        *sums.entry(code).or_insert(0) += count;
    }
    Ok(Some(sums))
}

/// The outcomes, most frequent first.
fn outcomes(sums: BTreeMap<String, u64>) -> Vec<Outcome> {
    let whole = sums.values().sum::<u64>().max(1);
    let mut sums: Vec<(String, u64)> = sums.into_iter().filter(|(_, count)| *count > 0).collect();
    sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let outcome = |(code, count): (String, u64)| Outcome {
        words: in_words(&code),
        count: grouped(count),
        share: (count * 100).div_ceil(whole),
        is_valid: code == "VALID",
        code,
    };
    sums.into_iter().map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_shares_of_all() {
        let sums = [("REVOKED", 1), ("VALID", 998), ("MALFORMED", 0), ("EXPIRED", 1)];
        let outcomes = outcomes(sums.map(|(code, count)| (code.to_owned(), count)).into());
        let shown: Vec<_> = outcomes.iter().map(|it| (it.words, it.share, it.is_valid)).collect();
        assert_eq!(shown, [("Valid", 100, true), ("Expired", 1, false), ("Revoked", 1, false)]);
    }
}
