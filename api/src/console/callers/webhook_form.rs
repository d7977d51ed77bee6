//! The forms of a webhook: register, edit, rotate its secret, redeliver events, delete.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use keyledger_engine::domain::webhook::MessageType;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::webhook::{PATH, Webhook, call_path};
use crate::console::frame::form_page::{FormPage, confirmed, field_errors};
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::Frame;
use crate::console::frame::secret_page::{Secret, SecretPage, Words};
use crate::console::parts::field::{Choice, Field};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::moment::Moment;
use crate::console::tenants::organization_choice;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

/// How long the previous secret keeps signing after a rotation: seconds and name.
const OVERLAPS: [(&str, &str); 4] =
    [("0", "Not at all"), ("3600", "One hour"), ("86400", "One day"), ("604800", "One week")];

#[derive(Deserialize)]
struct WithSecret {
    webhook: Webhook,
    secret: Option<Secret>,
}

fn url_field() -> Field {
    Field::code("url", "URL", "https://example.com/keyledger").focused()
}

fn types_field() -> Field {
    let choices = MessageType::names().map(|name| Choice::new(name, name, "")).collect();
    Field::any_of("event_types", "Events", choices).hint("Select none to receive all events.")
}

fn chosen_types(form: &Form) -> Value {
    form.texts("event_types").map(Value::from).collect()
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let mut fields = vec![url_field()];
    let hint = "The organization whose events it receives. Leave empty for all organizations.";
    fields.extend(organization_choice::limit_field(visitor, hint).await);
    fields.push(types_field());
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::Webhooks, chosen, "Register webhook", PATH, PATH).await;
    page.text("It receives events from now on. Its signing secret is shown once.")
        .once(form)
        .fields(fields, form, errors)
        .show()
}

pub(super) async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/webhooks")?;
    Ok(create_page(&visitor, &organization_choice::form(&visitor), &FieldErrors::default()).await)
}

pub(super) async fn create(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
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
        advice: "Give it to the receiver, which uses it to verify that messages come from Keyledger.",
        note,
        loss: "without it the receiver can't verify messages.",
        remedy: "rotate the secret to get a new one.",
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
    let fields = vec![url_field().hint("Pending messages go to the new URL too."), types_field()];
    let page = form_page(visitor, it, "Edit webhook", "/edit").await.submit("Save changes");
    page.hidden("version", form.text("version")).fields(fields, form, errors).show()
}

pub(super) async fn edit_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PATCH, "/v1/webhooks/{id}")?;
    let it = Webhook::read(&visitor, &id).await?;
    let form = Form::default().and("url", it.url.clone()).and("version", it.version.to_string());
    let form = it.event_types.iter().fold(form, |form, name| form.and("event_types", name));
    Ok(edit_page(&visitor, &it, &form, &FieldErrors::default()).await)
}

pub(super) async fn edit(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = Webhook::read(&visitor, &id).await?;
    if form.filled("url").is_none() {
        return Ok(edit_page(&visitor, &it, &form, &FieldErrors::one("url", "Enter a URL.")).await);
    }
    let body = json!({ "url": form.json("url"), "event_types": chosen_types(&form) });
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&body).if_match(&form);
    match call.send::<Webhook>().await {
        Ok(answer) => {
            let notice = Notice::of_edit(answer.position, it.version, answer.body.version);
            Ok(visitor.go_to(&it.path(""), &notice))
        }
        Err(problem) => Ok(edit_page(&visitor, &it, &form, &field_errors(problem, &[])?).await),
    }
}

pub(super) async fn rotate_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/webhooks/{id}/rotate-secret")?;
    let it = Webhook::read(&visitor, &id).await?;
    let form = Form::default().and("overlap_seconds", "86400");
    let choices = OVERLAPS.map(|(seconds, name)| Choice::new(seconds, name, "")).to_vec();
    let field = Field::one_of("overlap_seconds", "How long should the old secret keep signing?", choices);
    let page = form_page(&visitor, &it, "Rotate secret", "/rotate").await;
    let page = page.text(
        "The new secret is shown once. During the overlap, messages carry a signature from each secret.",
    );
    Ok(page.once(&form).fields(vec![field], &form, &FieldErrors::default()).show())
}

pub(super) async fn rotate(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let seconds = form.text("overlap_seconds").parse::<u32>().unwrap_or(0);
    let call = visitor.call(Method::POST, call_path(&id, "/rotate-secret"));
    let call = call.json(&json!({ "overlap_seconds": seconds })).named(&form);
    let answer = call.send::<WithSecret>().await?;
    let note = answer.body.webhook.previous_secret_valid_until.map(|until| {
        format!("The previous secret keeps signing until {}.", Moment::new(until, visitor.now).exact())
    });
    Ok(show_secret(&visitor, answer.body, answer.position, "Secret rotated", note).await)
}

async fn redeliver_page(visitor: &Visitor, it: &Webhook, form: &Form, errors: &FieldErrors) -> Response {
    let field = Field::number("after", "After position")
        .focused()
        .hint("Events after this position are redelivered. Enter 0 for all events.");
    let page = form_page(visitor, it, "Redeliver", "/redeliver").await;
    let page = page.text(
        "Later events that this webhook receives are delivered again, in order. Receivers \
         recognize repeats by the webhook-id header.",
    );
    page.fields(vec![field], form, errors).show()
}

pub(super) async fn redeliver_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/webhooks/{id}/redeliver")?;
    let it = Webhook::read(&visitor, &id).await?;
    Ok(redeliver_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

pub(super) async fn redeliver(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = Webhook::read(&visitor, &id).await?;
    let after = form.text("after").trim().parse::<u64>().map_or_else(|_| form.json("after"), Value::from);
    let call = visitor.call(Method::POST, call_path(&id, "/redeliver")).json(&json!({ "after": after }));
    match call.send::<Value>().await {
        Ok(answer) => {
            let notice = Notice::of(answer.position, "The events are being redelivered.");
            Ok(visitor.go_to(&it.path(""), &notice))
        }
        Err(problem) => Ok(redeliver_page(&visitor, &it, &form, &field_errors(problem, &[])?).await),
    }
}

async fn delete_page(visitor: &Visitor, it: &Webhook, form: &Form, errors: &FieldErrors) -> Response {
    let page = form_page(visitor, it, "Delete webhook", "/delete").await;
    let page = page.danger("This cannot be undone. Its pending and failed messages are deleted too.");
    page.fields(vec![Field::confirmation(expected(it)).focused()], form, errors).show()
}

/// The text to type to delete a webhook: the end of its id, because URLs are long.
fn expected(it: &Webhook) -> String {
    let end = it.id.char_indices().nth_back(5).map_or(0, |(start, _)| start);
    it.id.get(end..).unwrap_or_default().to_owned()
}

pub(super) async fn delete_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/webhooks/{id}")?;
    let it = Webhook::read(&visitor, &id).await?;
    Ok(delete_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

pub(super) async fn delete(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = Webhook::read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &expected(&it)) {
        return Ok(delete_page(&visitor, &it, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id, "")).send::<()>().await?;
    Ok(visitor.go_to(PATH, &Notice::of(answer.position, "The webhook was deleted.")))
}
