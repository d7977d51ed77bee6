//! The list of keys with search, filters, order and pager. The address holds all of them, so that a view can
//! be bookmarked and shared.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::problem::Problem;

use super::actions::Actions;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::icon::Icon;
use crate::console::parts::key::{Key, Status};
use crate::console::parts::number::grouped;
use crate::console::parts::query_string::QueryString;
use crate::console::tenants::api_choice::Apis;
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/keys";
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// The days that the "expiring" and "unused" filters mean.
const DAYS: i64 = 30;
/// Parameters passed from the page's address to `GET /v1/keys` as they are.
const PASSED_ON: [&str; 12] = [
    "organization_id",
    "q",
    "status",
    "environment",
    "api_id",
    "owner",
    "user_id",
    "client_organization_id",
    "scope",
    "sort",
    "cursor",
    "limit",
];
/// Parameters that filter the list. The organization is not one, because the switcher sets it.
const FILTERS: [&str; 10] = [
    "q",
    "status",
    "environment",
    "api_id",
    "owner",
    "user_id",
    "client_organization_id",
    "scope",
    "expiring",
    "unused",
];

#[derive(Deserialize)]
struct KeyPage {
    data: Vec<Key>,
    next_cursor: Option<String>,
    total: u64,
    total_capped: bool,
}

/// A filter with its chosen value and its options.
struct Chip {
    label: &'static str,
    chosen: Option<String>,
    cleared: String,
    options: Vec<ChipOption>,
}

struct ChipOption {
    name: String,
    path: String,
    is_chosen: bool,
}

/// A filter that is on or off.
struct Toggle {
    label: &'static str,
    path: String,
    is_on: bool,
}

/// The head of a sortable column.
struct Column {
    label: &'static str,
    path: String,
    /// The value of `aria-sort`, if the list is sorted by this column.
    order: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "keys/list.html")]
struct KeyListPage {
    frame: Frame,
    now: Timestamp,
    keys: Vec<Key>,
    total: String,
    query: QueryString,
    searched: Option<String>,
    chips: Vec<Chip>,
    toggles: Vec<Toggle>,
    columns: [Column; 3],
    actions: Actions,
    /// Whether the list has keys of several organizations.
    of_all: bool,
    own_only: bool,
    create: Option<String>,
    is_filtered: bool,
    cleared: String,
    next: Option<String>,
    first: Option<String>,
    /// The request that counts keys created since the page was rendered.
    news: String,
    /// The event stream that reports new keys, for visitors who may read events.
    stream: Option<String>,
    /// The path of the list with the newest keys first.
    latest: String,
    public_url: String,
    example_organization: String,
}

page!(KeyListPage);

impl KeyListPage {
    /// The parameters that the search form keeps in hidden fields.
    fn kept(&self) -> impl Iterator<Item = &(String, String)> {
        self.query.pairs().iter().filter(|(name, _)| !matches!(name.as_str(), "q" | "cursor"))
    }
}

pub(crate) async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let query = QueryString::of(&visitor.address);
    let apis = Apis::read(&visitor).await?;
    let asked = call(&query, visitor.now);
    let answer = visitor.call(Method::GET, asked.after("/v1/keys")).send::<KeyPage>().await?;
    let (page, position) = (answer.body, answer.position.unwrap_or_default());
    let organization = query.get("organization_id").map(ToOwned::to_owned);
    let bound = visitor.principal.organization_id.as_ref().map(ToString::to_string);
    let kept = QueryString::default().with("organization_id", organization.as_deref());
    let total = grouped(page.total);
    let shown = KeyListPage {
        frame: Frame::of(&visitor, "Keys", Some(Section::Keys), organization.as_deref()).await,
        now: visitor.now,
        total: if page.total_capped { format!("more than {total}") } else { total },
        searched: query.get("q").map(ToOwned::to_owned),
        chips: chips(&query, &apis, visitor.principal.user_id.is_some()),
        toggles: [("Expires within 30 days", "expiring"), ("Unused for 30 days", "unused")]
            .map(|it| toggle(&query, it))
            .into(),
        columns: [("Created", "created_at", true), ("Expires", "expires_at", false), ("Name", "name", false)]
            .map(|it| column(&query, it)),
        actions: Actions::of(&visitor),
        of_all: bound.is_none() && organization.is_none(),
        own_only: visitor.principal.user_id.is_some(),
        create: visitor.may(&Method::POST, "/v1/keys").then(|| kept.after("/console/keys/new")),
        is_filtered: FILTERS.iter().any(|name| query.get(name).is_some()),
        cleared: kept.after(PATH),
        next: page.next_cursor.map(|cursor| query.with("cursor", Some(&cursor)).after(PATH)),
        news: news(&asked, visitor.now),
        stream: visitor.may(&Method::GET, "/v1/events").then(|| {
            let stream = kept.with("format", Some("sse")).with("type", Some("KeyCreated"));
            stream.with("after", Some(&position.to_string())).after("/v1/events")
        }),
        latest: query.with("cursor", None).with("sort", None).after(PATH),
        first: query.get("cursor").map(|_| query.with("cursor", None).after(PATH)),
        public_url: visitor.public_url().into(),
        example_organization: organization.or(bound).unwrap_or_else(|| "acme".into()),
        keys: page.data,
        query,
    };
    Ok(shown.answer(StatusCode::OK))
}

/// Translates the page's address into the query of `GET /v1/keys`.
fn call(query: &QueryString, now: Timestamp) -> QueryString {
    let mut call = QueryString::default();
    for name in PASSED_ON {
        call = call.with(name, query.get(name));
    }
    let days = |name| {
        query.get(name).and_then(|days| days.parse::<i64>().ok()).filter(|days| (1..=3_650).contains(days))
    };
    if let Some(days) = days("expiring") {
        let end = now.saturating_add_millis(days * DAY_MILLIS).to_string();
        call = call
            .with("expires_before", Some(&end))
            .with("status", Some(query.get("status").unwrap_or("active")));
    }
    if let Some(days) = days("unused") {
        call = call.with("unused_since", Some(&now.saturating_add_millis(-days * DAY_MILLIS).to_string()));
    }
    call
}

/// The request that counts the matching keys created after `now`.
fn news(call: &QueryString, now: Timestamp) -> String {
    let call = call.with("cursor", None).with("sort", None).with("limit", Some("1"));
    call.with("created_after", Some(&now.to_string())).after("/v1/keys")
}

fn chips(query: &QueryString, apis: &Apis, own_only: bool) -> Vec<Chip> {
    let words = |words: &[(&str, &str)]| -> Vec<(String, String)> {
        words.iter().map(|(value, name)| ((*value).into(), (*name).into())).collect()
    };
    let mut chips = vec![
        chip(
            query,
            "Status",
            "status",
            words(&[
                ("active", "Active"),
                ("revoked", "Revoked"),
                ("expired", "Expired"),
                ("deleted", "Deleted"),
            ]),
        ),
        chip(
            query,
            "Environment",
            "environment",
            words(&[("production", "Production"), ("preview", "Preview")]),
        ),
    ];
    let apis: Vec<_> = apis.offered().map(|api| (api.id.clone(), api.name.clone())).collect();
    if !apis.is_empty() {
        chips.push(chip(query, "API", "api_id", apis));
    }
    if !own_only {
        let owners = [
            ("organization", "Organization"),
            ("user", "User"),
            ("partner", "All clients"),
            ("client", "Client"),
        ];
        chips.push(chip(query, "Owner", "owner", words(&owners)));
    }
    chips
}

fn chip(query: &QueryString, label: &'static str, name: &str, options: Vec<(String, String)>) -> Chip {
    let query = query.with("cursor", None);
    let set = query.get(name);
    let chosen = set.map(|set| {
        let option = options.iter().find(|(value, _)| value == set);
        option.map_or_else(|| set.to_owned(), |(_, name)| name.clone())
    });
    let option = |(value, label): (String, String)| ChipOption {
        path: query.with(name, Some(&value)).after(PATH),
        is_chosen: set == Some(&value),
        name: label,
    };
    Chip {
        label,
        chosen,
        cleared: query.with(name, None).after(PATH),
        options: options.into_iter().map(option).collect(),
    }
}

fn toggle(query: &QueryString, (label, name): (&'static str, &str)) -> Toggle {
    let is_on = query.get(name).is_some();
    let days = DAYS.to_string();
    let path = query.with("cursor", None).with(name, (!is_on).then_some(&days)).after(PATH);
    Toggle { label, path, is_on }
}

/// A column head sorts by its column, and reverses the order if the list is already sorted by it.
fn column(query: &QueryString, (label, name, latest_first): (&'static str, &str, bool)) -> Column {
    let sort = query.get("sort").unwrap_or("-created_at");
    let order = match sort.strip_prefix('-') {
        Some(descending) if descending == name => Some("descending"),
        None if sort == name => Some("ascending"),
        _ => None,
    };
    let descending = match order {
        Some(order) => order == "ascending",
        None => latest_first,
    };
    let next = if descending { format!("-{name}") } else { name.to_owned() };
    Column { label, path: query.with("cursor", None).with("sort", Some(&next)).after(PATH), order }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_becomes_the_query() {
        let now: Timestamp = "2026-11-12T00:00:00Z".parse().unwrap();
        let asked = |address| call(&QueryString::of(address), now);
        let soon = asked("/console/keys?expiring=30&x=y&q=a");
        assert_eq!(soon.get("expires_before"), Some("2026-12-12T00:00:00.000Z"));
        assert_eq!((soon.get("status"), soon.get("q"), soon.get("x")), (Some("active"), Some("a"), None));
        assert_eq!(asked("/console/keys?expiring=30&status=revoked").get("status"), Some("revoked"));
        assert_eq!(asked("/console/keys?unused=x").get("unused_since"), None);
        assert_eq!(
            news(&asked("/console/keys?status=active&cursor=c&sort=name"), now),
            "/v1/keys?status=active&limit=1&created_after=2026-11-12T00%3A00%3A00.000Z"
        );
    }

    #[test]
    fn a_column_sorts_and_then_reverses() {
        let order = |address| {
            let column = column(&QueryString::of(address), ("Created", "created_at", true));
            (column.order, column.path)
        };
        assert_eq!(order("/"), (Some("descending"), "/console/keys?sort=created_at".into()));
        assert_eq!(order("/?sort=name"), (None, "/console/keys?sort=-created_at".into()));
    }
}
