//! The page of webhooks, the page of one, and what is done to it: register, change, disable, enable, rotate its secret, test
//! it, deliver again, delete.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::{Method, StatusCode, header};
use keyledger_engine::domain::webhook::MessageType;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use crate::console::Console;
use crate::console::frame::icon::Icon;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::frame::toast::{Notice, shortened};
use crate::console::parts::badge::Badge;
use crate::console::parts::field::{Choice, Field};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form_page::{FormPage, confirmed, field_errors};
use crate::console::parts::list_page::{Listing, Things};
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::secret_page::{Secret, SecretPage, Words};
use crate::console::parts::table::{Cell, MenuItem, Row, Table};
use crate::console::tenants::organization_choice;
use crate::console::visit::submission::{Form, Submission};
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/webhooks";
/// How long the secret before the new one signs beside it: seconds, and what people choose.
const OVERLAPS: [(&str, &str); 4] =
    [("0", "Not at all"), ("3600", "One hour"), ("86400", "One day"), ("604800", "One week")];

/// A webhook as the calls answer it.
#[derive(Deserialize)]
struct Webhook {
    id: String,
    organization_id: Option<String>,
    url: String,
    event_types: Vec<String>,
    status: String,
    disabled_reason: Option<String>,
    position: Option<u64>,
    pending: usize,
    dead_letters: usize,
    failing_since: Option<Timestamp>,
    previous_secret_valid_until: Option<Timestamp>,
    created_at: Timestamp,
    version: u32,
}

#[derive(Deserialize)]
struct WithSecret {
    webhook: Webhook,
    secret: Option<Secret>,
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
    async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id, "")).await
    }

    fn path(&self, tail: &str) -> String {
        path(&self.id, tail)
    }

    fn label(&self) -> String {
        shortened(&self.url)
    }

    fn is_there(&self) -> bool {
        self.status != "deleted"
    }

    fn is_enabled(&self) -> bool {
        self.status == "enabled"
    }

    /// What stands between it and its messages, in a sentence.
    fn trouble(&self) -> Option<&'static str> {
        match (self.status.as_str(), self.disabled_reason.as_deref()) {
            ("disabled", Some("gone")) => Some(
                "The receiver answered that it is gone, so nothing is sent any more. Enable it to go on.",
            ),
            ("disabled", Some("failing")) => {
                Some("Nothing could be delivered for days, so nothing is sent any more. Enable it to go on.")
            }
            ("disabled", _) => Some("It was disabled. What happens meanwhile is sent when it is enabled."),
            ("deleted", _) => Some("It was deleted, and nothing is sent any more."),
            _ => None,
        }
    }

    /// What it is told of, in words of the list.
    fn told_of(&self) -> Vec<String> {
        const SHOWN_MAX: usize = 3;
        if self.event_types.is_empty() {
            return vec!["Everything".into()];
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

fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/webhooks/{}{tail}", encoded(id))
}

/// The pages.
pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route("/console/webhooks/new", get(create_form))
        .route("/console/webhooks/{id}", get(show))
        .route("/console/webhooks/{id}/edit", get(edit_form).post(edit))
        .route("/console/webhooks/{id}/enabled", post(set_enabled))
        .route("/console/webhooks/{id}/test", post(test))
        .route("/console/webhooks/{id}/rotate", get(rotate_form).post(rotate))
        .route("/console/webhooks/{id}/redeliver", get(redeliver_form).post(redeliver))
        .route("/console/webhooks/{id}/dead-letters/{letter}/redeliver", post(redeliver_letter))
        .route("/console/webhooks/{id}/delete", get(delete_form).post(delete))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let query = QueryString::of(&visitor.address);
    let new = QueryString::default().with("organization_id", query.get("organization_id"));
    let is_bound = visitor.principal.organization_id.is_some();
    let mut columns = vec!["Address", "Told of"];
    if !is_bound {
        columns.push("Organization");
    }
    columns.extend(["Status", "Waiting", "Given up", "Registered"]);
    let listing = Listing {
        section: Section::Webhooks,
        title: "Webhooks",
        lead: "Addresses that are told, signed and in order, of what happens to keys, moments after it happens.",
        path: PATH.into(),
        call: "/v1/webhooks".into(),
        noun: ("webhook", "webhooks"),
        search: None,
        by_organization: true,
        columns,
        create: visitor
            .may(&Method::POST, "/v1/webhooks")
            .then(|| ("Register webhook", new.after("/console/webhooks/new"))),
        of: None,
        above: None,
        empty: "Register the address of a program of yours, and it is sent each event as a Standard Webhooks message: to \
                alert somebody of a revoked key, or to write to people before their key ends.",
    };
    let row = |it: Webhook, _: Option<&str>| {
        let mut cells = vec![
            Cell::Title {
                text: it.url.clone(),
                path: Some(it.path("")),
                under: Some(it.id.clone()),
                searched: None,
            },
            Cell::Tags(it.told_of()),
        ];
        if !is_bound {
            cells.push(Cell::Text(Some(it.organization_id.clone().unwrap_or_else(|| "All".into()))));
        }
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
#[template(path = "webhook.html")]
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

async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    let webhook = Webhook::read(&visitor, &id).await?;
    let may_change = webhook.is_there() && visitor.may(&Method::PATCH, "/v1/webhooks/{id}");
    let cursor = QueryString::of(&visitor.address).get("cursor").map(ToOwned::to_owned);
    let query = QueryString::default().with("cursor", cursor.as_deref());
    let letters: Things<DeadLetter> = visitor.read(&query.after(&call_path(&id, "/dead-letters"))).await?;
    let row = |letter: DeadLetter| Row {
        label: letter.id.clone(),
        menu: if may_change && webhook.is_enabled() {
            let path = webhook.path(&format!("/dead-letters/{}/redeliver", encoded(&letter.id)));
            vec![MenuItem::submit("Deliver again", Icon::ROTATE, path, &visitor.csrf_token)]
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
        letters: Table::new(vec!["Message", "Position", "Attempts", "Given up", "Why"], rows),
        more_letters: letters
            .next_cursor
            .map(|cursor| QueryString::default().with("cursor", Some(&cursor)).after(&webhook.path(""))),
        may_change,
        webhook,
    };
    Ok(page.answer(StatusCode::OK))
}

fn url_field() -> Field {
    Field::code("url", "Address", "https://example.com/keyledger").focused()
}

fn types_field() -> Field {
    let choices = MessageType::names().map(|name| Choice::new(name, name, "")).collect();
    Field::any_of("event_types", "Told of", choices).hint("Everything, if nothing is chosen.")
}

fn chosen_types(form: &Form) -> Value {
    form.texts("event_types").map(Value::from).collect()
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let mut fields = vec![url_field()];
    let organization = organization_choice::field(visitor, "organization_id", "Only organization").await;
    fields.extend(organization.map(|field| {
        field
            .optional()
            .hint("The id of the organization whose events it is told of. All events if this is empty.")
    }));
    fields.push(types_field());
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::Webhooks, chosen, "Register webhook", PATH, PATH).await;
    page.text(
        "It is told of what happens from now on. Its secret, which messages are signed with, is shown once.",
    )
    .once(form)
    .fields(fields, form, errors)
    .show()
}

async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/webhooks")?;
    let query = QueryString::of(&visitor.address);
    let form = Form::default().and("organization_id", query.get("organization_id").unwrap_or_default());
    Ok(create_page(&visitor, &form, &FieldErrors::default()).await)
}

async fn create(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let body = json!({
        "url": form.json("url"),
        "event_types": chosen_types(&form),
        "organization_id": organization_choice::id(&visitor, &form),
    });
    match visitor.call(Method::POST, "/v1/webhooks").json(&body).named(&form).send::<WithSecret>().await {
        Ok(answer) => {
            Ok(show_secret(&visitor, answer.body, answer.position, "Webhook registered", None).await)
        }
        Err(problem) => {
            let organization = "organization_id";
            let known =
                [(Code::OrganizationNotFound, organization), (Code::OrganizationDeleted, organization)];
            Ok(create_page(&visitor, &form, &field_errors(problem, &known)?).await)
        }
    }
}

async fn show_secret(
    visitor: &Visitor,
    WithSecret { webhook, secret }: WithSecret,
    position: Option<u64>,
    title: &'static str,
    note: Option<String>,
) -> Response {
    let words = Words {
        title,
        subject: webhook.label(),
        under: None,
        noun: "secret",
        advice: "Give it to the receiver, which checks with it that a message comes from here.",
        note,
        loss: "without it the receiver cannot tell messages from forgeries.",
        remedy: "rotate the secret to get another.",
    };
    let organization = webhook.organization_id.as_deref();
    let frame = Frame::of(visitor, title, Some(Section::Webhooks), organization).await;
    SecretPage::new(frame, words, secret, webhook.path("")).show(position)
}

async fn form_page(visitor: &Visitor, it: &Webhook, title: &'static str, tail: &str) -> FormPage {
    let organization = it.organization_id.as_deref();
    let page =
        FormPage::new(visitor, Section::Webhooks, organization, title, it.path(tail), it.path("")).await;
    page.about(it.label())
}

async fn edit_page(visitor: &Visitor, it: &Webhook, form: &Form, errors: &FieldErrors) -> Response {
    let fields = vec![url_field().hint("Messages that wait go to the new address too."), types_field()];
    let page = form_page(visitor, it, "Edit webhook", "/edit").await.submit("Save changes");
    page.hidden("version", form.text("version")).fields(fields, form, errors).show()
}

async fn edit_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PATCH, "/v1/webhooks/{id}")?;
    let it = Webhook::read(&visitor, &id).await?;
    let form = Form::default().and("url", it.url.clone()).and("version", it.version.to_string());
    let form = it.event_types.iter().fold(form, |form, name| form.and("event_types", name));
    Ok(edit_page(&visitor, &it, &form, &FieldErrors::default()).await)
}

async fn edit(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let it = Webhook::read(&visitor, &id).await?;
    if form.filled("url").is_none() {
        return Ok(edit_page(&visitor, &it, &form, &FieldErrors::one("url", "is required")).await);
    }
    let body = json!({ "url": form.json("url"), "event_types": chosen_types(&form) });
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&body);
    let call = call.header(header::IF_MATCH, &format!("\"{}\"", form.text("version").trim()));
    match call.send::<Webhook>().await {
        Ok(answer) => {
            let is_same = answer.body.version == it.version;
            let text = if is_same { "Nothing was changed." } else { "Changes saved." };
            Ok(visitor.go_to(&it.path(""), &Notice::of(answer.position, text)))
        }
        Err(problem) => Ok(edit_page(&visitor, &it, &form, &field_errors(problem, &[])?).await),
    }
}

async fn set_enabled(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let enabled = form.text("enabled") == "true";
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&json!({ "enabled": enabled }));
    let answer = call.send::<Webhook>().await?;
    let text = if enabled {
        "It is enabled, and is told of what happened meanwhile."
    } else {
        "It is disabled. What happens meanwhile is kept for it."
    };
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, text)))
}

#[derive(Deserialize)]
struct Tested {
    delivered: bool,
    failure: Option<String>,
}

async fn test(Path(id): Path<String>, Submission { visitor, .. }: Submission) -> Result<Response, Problem> {
    let call = visitor.call(Method::POST, call_path(&id, "/test")).json(&json!({}));
    let answer = call.send::<Tested>().await?;
    let text = match (answer.body.delivered, answer.body.failure) {
        (true, _) => "The test message arrived.".to_owned(),
        (false, Some(failure)) => format!("The test message did not arrive: {failure}."),
        (false, None) => "The test message did not arrive.".into(),
    };
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, text)))
}

async fn rotate_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/webhooks/{id}/rotate-secret")?;
    let it = Webhook::read(&visitor, &id).await?;
    let form = Form::default().and("overlap_seconds", "86400");
    let choices = OVERLAPS.map(|(seconds, name)| Choice::new(seconds, name, "")).to_vec();
    let field =
        Field::one_of("overlap_seconds", "How long does the old secret sign beside the new one?", choices);
    let page = form_page(&visitor, &it, "Rotate secret", "/rotate").await;
    let page = page.text(
        "The new secret is shown once. Until the overlap is over, messages carry a signature with each.",
    );
    Ok(page.once(&form).fields(vec![field], &form, &FieldErrors::default()).show())
}

async fn rotate(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let seconds = form.text("overlap_seconds").parse::<u32>().unwrap_or(0);
    let call = visitor.call(Method::POST, call_path(&id, "/rotate-secret"));
    let call = call.json(&json!({ "overlap_seconds": seconds })).named(&form);
    let answer = call.send::<WithSecret>().await?;
    let note = answer.body.webhook.previous_secret_valid_until.map(|until| {
        format!("The secret before it signs beside it until {}.", Moment::new(until, visitor.now).exact())
    });
    Ok(show_secret(&visitor, answer.body, answer.position, "Secret rotated", note).await)
}

async fn redeliver_page(visitor: &Visitor, it: &Webhook, form: &Form, errors: &FieldErrors) -> Response {
    let field = Field::number("after", "After position")
        .focused()
        .hint("The position before the first event to be delivered again; 0 for all there ever were.");
    let page = form_page(visitor, it, "Deliver again", "/redeliver").await;
    let page = page.text("All later events that it is told of are delivered once more, in order. Receivers know repetitions by the header webhook-id.");
    page.fields(vec![field], form, errors).show()
}

async fn redeliver_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/webhooks/{id}/redeliver")?;
    let it = Webhook::read(&visitor, &id).await?;
    Ok(redeliver_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

async fn redeliver(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = Webhook::read(&visitor, &id).await?;
    let after = form.text("after").trim().parse::<u64>().map_or_else(|_| form.json("after"), Value::from);
    let call = visitor.call(Method::POST, call_path(&id, "/redeliver")).json(&json!({ "after": after }));
    match call.send::<Value>().await {
        Ok(answer) => {
            let notice = Notice::of(answer.position, "The events are being delivered again.");
            Ok(visitor.go_to(&it.path(""), &notice))
        }
        Err(problem) => Ok(redeliver_page(&visitor, &it, &form, &field_errors(problem, &[])?).await),
    }
}

async fn redeliver_letter(
    Path((id, letter)): Path<(String, String)>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let tail = format!("/dead-letters/{}/redeliver", encoded(&letter));
    let call = visitor.call(Method::POST, call_path(&id, &tail)).json(&json!({}));
    let answer = call.send::<Value>().await?;
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, "The message is being delivered again.")))
}

async fn delete_page(visitor: &Visitor, it: &Webhook, form: &Form, errors: &FieldErrors) -> Response {
    let page = form_page(visitor, it, "Delete webhook", "/delete").await;
    let page = page
        .danger("This cannot be undone. What waits to be delivered, and what was given up, goes with it.");
    page.fields(vec![Field::confirmation(expected(it)).focused()], form, errors).show()
}

/// What has to be typed to delete a webhook: the end of its id, as addresses are long.
fn expected(it: &Webhook) -> String {
    let end = it.id.char_indices().nth_back(5).map_or(0, |(start, _)| start);
    it.id.get(end..).unwrap_or_default().to_owned()
}

async fn delete_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/webhooks/{id}")?;
    let it = Webhook::read(&visitor, &id).await?;
    Ok(delete_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

async fn delete(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = Webhook::read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &expected(&it)) {
        return Ok(delete_page(&visitor, &it, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id, "")).send::<()>().await?;
    Ok(visitor.go_to(PATH, &Notice::of(answer.position, "The webhook is deleted.")))
}
