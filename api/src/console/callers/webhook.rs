//! The list of webhooks, the page of one, and the buttons that enable, disable and test it and redeliver a
//! message.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::problem::Problem;

use crate::console::frame::list_page::{Listing, Things};
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::badge::Badge;
use crate::console::parts::icon::Icon;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::short_name::shortened;
use crate::console::parts::table::{Cell, MenuItem, Row, Table};
use crate::console::tenants::organization_choice;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

pub(super) const PATH: &str = "/console/webhooks";

/// A webhook as the API returns it.
#[derive(Deserialize)]
pub(super) struct Webhook {
    pub id: String,
    pub organization_id: Option<String>,
    pub url: String,
    pub event_types: Vec<String>,
    status: String,
    disabled_reason: Option<String>,
    position: Option<u64>,
    pending: usize,
    dead_letters: usize,
    failing_since: Option<Timestamp>,
    pub previous_secret_valid_until: Option<Timestamp>,
    created_at: Timestamp,
    pub version: u32,
}

#[derive(Deserialize)]
struct DeadLetter {
    id: String,
    r#type: String,
    position: Option<u64>,
    attempts: u16,
    given_up_at: Timestamp,
    failure: String,
}

impl Webhook {
    pub(super) async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id, "")).await
    }

    pub(super) fn path(&self, tail: &str) -> String {
        path(&self.id, tail)
    }

    pub(super) fn label(&self) -> String {
        shortened(&self.url)
    }

    fn is_there(&self) -> bool {
        self.status != "deleted"
    }

    fn is_enabled(&self) -> bool {
        self.status == "enabled"
    }

    /// Why nothing is delivered, if nothing is.
    fn trouble(&self) -> Option<&'static str> {
        match (self.status.as_str(), self.disabled_reason.as_deref()) {
            ("disabled", Some("gone")) => {
                Some("Disabled because the receiver answered 410 Gone. Enable it to resume deliveries.")
            }
            ("disabled", Some("failing")) => {
                Some("Disabled after days of failed deliveries. Enable it to resume deliveries.")
            }
            ("disabled", _) => Some("Disabled. Events are kept and delivered once you enable it."),
            ("deleted", _) => Some("Deleted. Nothing is delivered."),
            _ => None,
        }
    }

    /// The subscribed event types, shortened for the list.
    fn event_type_words(&self) -> Vec<String> {
        const SHOWN_MAX: usize = 3;
        if self.event_types.is_empty() {
            return vec!["All events".into()];
        }
        let mut shown: Vec<String> = self.event_types.iter().take(SHOWN_MAX).cloned().collect();
        if self.event_types.len() > SHOWN_MAX {
            shown.push(format!("{} more", self.event_types.len() - SHOWN_MAX));
        }
        shown
    }
}

fn path(id: &str, tail: &str) -> String {
    format!("{PATH}/{}{tail}", encoded(id))
}

pub(super) fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/webhooks/{}{tail}", encoded(id))
}

pub(super) async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let columns = organization_choice::columns(
        &visitor,
        &["URL", "Events"],
        &["Status", "Pending", "Failed", "Registered"],
    );
    let listing = Listing {
        section: Section::Webhooks,
        title: "Webhooks",
        lead: "Get a signed HTTP request, in order and within moments, when something happens to keys.",
        path: PATH.into(),
        call: "/v1/webhooks".into(),
        noun: ("webhook", "webhooks"),
        search: None,
        by_organization: true,
        columns,
        create: visitor
            .may(&Method::POST, "/v1/webhooks")
            .then(|| ("Register webhook", organization_choice::kept(&visitor, "/console/webhooks/new"))),
        of: None,
        above: None,
        empty: "Register a URL to receive each event as a Standard Webhooks message, for example to alert \
                on revoked keys or to remind people before their keys expire.",
    };
    let row = |it: Webhook, _: Option<&str>| {
        let mut cells = vec![
            Cell::Title {
                text: it.url.clone(),
                path: Some(it.path("")),
                under: Some(it.id.clone()),
                searched: None,
            },
            Cell::Tags(it.event_type_words()),
        ];
        cells.extend(organization_choice::cell(&visitor, it.organization_id.as_deref()));
        let badge = Badge::of(&it.status);
        let is_failing = it.is_enabled() && it.failing_since.is_some();
        cells.extend([
            Cell::Badge(if is_failing { Badge::of("pending").saying("Failing") } else { badge }),
            Cell::Text(Some(it.pending.to_string())),
            Cell::Text(Some(it.dead_letters.to_string())),
            Cell::Time(Some(Moment::new(it.created_at, visitor.now))),
        ]);
        Row { label: it.label(), cells, menu: Vec::new(), is_over: !it.is_there() }
    };
    listing.answer(&visitor, row).await
}

#[derive(Template)]
#[template(path = "callers/webhook.html")]
struct WebhookPage {
    frame: Frame,
    webhook: Webhook,
    badge: Badge,
    created: Moment,
    failing: Option<Moment>,
    previous_secret: Option<Moment>,
    letters: Table,
    more_letters: Option<String>,
    may_change: bool,
}

page!(WebhookPage);

pub(super) async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    let webhook = Webhook::read(&visitor, &id).await?;
    let may_change = webhook.is_there() && visitor.may(&Method::PATCH, "/v1/webhooks/{id}");
    let cursor = QueryString::of(&visitor.address).get("cursor").map(ToOwned::to_owned);
    let query = QueryString::default().with("cursor", cursor.as_deref());
    let letters: Things<DeadLetter> = visitor.read(&query.after(&call_path(&id, "/dead-letters"))).await?;
    let row = |letter: DeadLetter| Row {
        label: letter.id.clone(),
        menu: if may_change && webhook.is_enabled() {
            let path = webhook.path(&format!("/dead-letters/{}/redeliver", encoded(&letter.id)));
            vec![MenuItem::submit("Redeliver", Icon::ROTATE, path, &visitor.csrf_token)]
        } else {
            Vec::new()
        },
        cells: vec![
            Cell::Title { text: letter.r#type, path: None, under: Some(letter.id), searched: None },
            Cell::Text(letter.position.map(|position| position.to_string())),
            Cell::Text(Some(letter.attempts.to_string())),
            Cell::Time(Some(Moment::new(letter.given_up_at, visitor.now))),
            Cell::Text(Some(letter.failure)),
        ],
        is_over: false,
    };
    let rows = letters.data.into_iter().map(row).collect();
    let organization = webhook.organization_id.as_deref();
    let page = WebhookPage {
        frame: Frame::of(&visitor, "Webhook", Some(Section::Webhooks), organization).await,
        badge: Badge::of(&webhook.status),
        created: Moment::new(webhook.created_at, visitor.now),
        failing: webhook.failing_since.map(|at| Moment::new(at, visitor.now)),
        previous_secret: webhook.previous_secret_valid_until.map(|at| Moment::new(at, visitor.now)),
        letters: Table::new(vec!["Message", "Position", "Attempts", "Failed", "Reason"], rows),
        more_letters: letters
            .next_cursor
            .map(|cursor| QueryString::default().with("cursor", Some(&cursor)).after(&webhook.path(""))),
        may_change,
        webhook,
    };
    Ok(page.answer(StatusCode::OK))
}

pub(super) async fn set_enabled(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let enabled = form.text("enabled") == "true";
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&json!({ "enabled": enabled }));
    let answer = call.send::<Webhook>().await?;
    let text = if enabled {
        "The webhook is enabled. Events from the meantime are being delivered."
    } else {
        "The webhook is disabled. Events are kept until you enable it."
    };
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, text)))
}

#[derive(Deserialize)]
struct Tested {
    delivered: bool,
    failure: Option<String>,
}

pub(super) async fn test(
    Path(id): Path<String>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let call = visitor.call(Method::POST, call_path(&id, "/test")).json(&json!({}));
    let answer = call.send::<Tested>().await?;
    let text = match (answer.body.delivered, answer.body.failure) {
        (true, _) => "The test message was delivered.".to_owned(),
        (false, Some(failure)) => format!("The test message was not delivered: {failure}."),
        (false, None) => "The test message was not delivered.".into(),
    };
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, text)))
}

pub(super) async fn redeliver_letter(
    Path((id, letter)): Path<(String, String)>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let tail = format!("/dead-letters/{}/redeliver", encoded(&letter));
    let call = visitor.call(Method::POST, call_path(&id, &tail)).json(&json!({}));
    let answer = call.send::<Value>().await?;
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, "The message is being redelivered.")))
}
