//! The forms that edit, rotate, revoke and delete a key, which scripts show as dialogs; and its reactivation,
//! which needs no form.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

use super::creation::{end_of_day, metadata};
use super::token_page;
use crate::console::frame::form_page;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::frame::secret_page::Secret;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::key::Key;
use crate::console::parts::query_string::encoded;
use crate::console::parts::query_string::safe_path;
use crate::console::tenants::api_choice::{Api, Apis};
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const EDIT_FIELDS: [&str; 5] = ["name", "description", "scopes", "metadata", "expires_at"];
/// The reasons for a revocation: the API's word, name and meaning.
pub(crate) const REASONS: [(&str, &str, &str); 5] = [
    ("unspecified", "No reason", ""),
    ("key_compromise", "Leaked", "Its token may be in the wrong hands"),
    ("superseded", "Replaced", "Another key replaces it"),
    ("affiliation_changed", "Owner changed", "Its owner is no longer responsible for it"),
    ("privilege_withdrawn", "Access withdrawn", "Its owner may no longer use the API"),
];
/// How long the old token keeps working after a rotation: seconds, name and meaning.
const OVERLAPS: [(u32, &str, &str); 5] = [
    (0, "Not at all", "It stops working at once"),
    (3_600, "One hour", ""),
    (86_400, "One day", ""),
    (604_800, "One week", ""),
    (2_592_000, "30 days", ""),
];

/// The path of a key's endpoint, followed by `tail`.
pub(crate) fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/keys/{}{tail}", encoded(id))
}

async fn load(visitor: &Visitor, id: &str) -> Result<Key, Problem> {
    visitor.read(&call_path(id, "")).await
}

async fn frame(visitor: &Visitor, title: &str, key: &Key) -> Frame {
    Frame::of(visitor, title, Some(Section::Keys), Some(&key.organization_id)).await
}

/// The page to return to after a change: the one that the form was opened on, or the key's page.
fn back(form: &Form, key: &Key) -> String {
    safe_path(form.text("to")).map_or_else(|| key.path(""), ToOwned::to_owned)
}

fn key_id(key: &Key) -> Option<KeyId> {
    key.id.parse().ok()
}

#[derive(Template)]
#[template(path = "keys/edit.html")]
struct EditPage {
    frame: Frame,
    key: Key,
    api: Option<Api>,
    form: Form,
    errors: FieldErrors,
}

page!(EditPage);

impl EditPage {
    async fn answer_for(
        visitor: &Visitor,
        key: Key,
        form: Form,
        errors: FieldErrors,
        status: StatusCode,
    ) -> Result<Response, Problem> {
        let api = match &key.api_id {
            Some(id) => Apis::read(visitor).await?.find(id).cloned(),
            None => None,
        };
        Ok(Self { frame: frame(visitor, "Edit key", &key).await, api, key, form, errors }.answer(status))
    }

    fn has_scope(&self, scope: &str) -> bool {
        self.form.texts("scope").any(|chosen| chosen == scope)
    }

    /// The scopes to choose from: those of the API, and others that the key already has.
    fn scopes(&self) -> Vec<&str> {
        let of_api = self.api.iter().flat_map(|api| &api.scopes);
        let own = self
            .key
            .scopes
            .iter()
            .filter(|scope| self.api.as_ref().is_none_or(|api| !api.scopes.contains(scope)));
        of_api.chain(own).map(String::as_str).collect()
    }

    fn other_errors(&self) -> Vec<String> {
        self.errors.others(&EDIT_FIELDS)
    }
}

pub(crate) async fn edit_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PATCH, "/v1/keys/{id}")?;
    let key = load(&visitor, &id).await?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let day = key.expires_at.map(|end| end.to_string().chars().take(10).collect::<String>());
    let mut fields = vec![
        ("name".to_owned(), text(&key.name)),
        ("description".to_owned(), text(&key.description)),
        ("scopes".to_owned(), key.scopes.join(" ")),
        ("metadata".to_owned(), metadata_text(&key)),
        ("ends".to_owned(), if day.is_some() { "keep" } else { "never" }.into()),
        ("expires_on".to_owned(), day.unwrap_or_default()),
        ("version".to_owned(), key.version.to_string()),
    ];
    fields.extend(key.scopes.iter().map(|scope| ("scope".to_owned(), scope.clone())));
    let form = Form::of(fields.into_iter());
    EditPage::answer_for(&visitor, key, form, FieldErrors::default(), StatusCode::OK).await
}

/// Applies the changes, unless the key was changed since the form was opened.
pub(crate) async fn edit(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let key = load(&visitor, &id).await?;
    let refused = |visitor, key, form, errors| async move {
        EditPage::answer_for(visitor, key, form, errors, StatusCode::UNPROCESSABLE_ENTITY).await
    };
    let body = match edit_body(&key, &form) {
        Ok(body) => body,
        Err(errors) => return refused(&visitor, key, form, errors).await,
    };
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&body).if_match(&form);
    match call.send::<Key>().await {
        Ok(answer) => {
            let notice = Notice::of_edit(answer.position, key.version, answer.body.version);
            Ok(visitor.go_to(&back(&form, &key), &notice))
        }
        Err(problem) => {
            let errors = FieldErrors::of(problem)?;
            refused(&visitor, key, form, errors).await
        }
    }
}

fn edit_body(key: &Key, form: &Form) -> Result<Value, FieldErrors> {
    let mut body = Map::new();
    body.insert("name".into(), form.edited("name", key.name.as_deref()));
    body.insert("description".into(), form.edited("description", key.description.as_deref()));
    let scopes = match &key.api_id {
        Some(_) => form.texts("scope").map(Value::from).collect(),
        None => form.json_lines("scopes"),
    };
    body.insert("scopes".into(), scopes);
    if !form.is_as_shown("metadata", &metadata_text(key)) {
        body.insert("metadata".into(), metadata(form)?);
    }
    match form.text("ends") {
        "never" => drop(body.insert("expires_at".into(), Value::Null)),
        "date" => drop(body.insert("expires_at".into(), json!(end_of_day(form)?.to_string()))),
        _ => {}
    }
    Ok(Value::Object(body))
}

/// A key's metadata as the form shows it.
fn metadata_text(key: &Key) -> String {
    key.metadata.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "keys/rotate.html")]
struct RotatePage {
    frame: Frame,
    key: Key,
    now: Timestamp,
    request: String,
}

page!(RotatePage);

#[derive(Deserialize)]
struct Rotated {
    key: Key,
    token: Option<Secret>,
}

/// Asks how long the old token should keep working.
pub(crate) async fn rotate_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/keys/{id}/rotate")?;
    let key = load(&visitor, &id).await?;
    let request = RequestId::draw().as_str().into();
    let page =
        RotatePage { frame: frame(&visitor, "Rotate key", &key).await, now: visitor.now, key, request };
    Ok(page.answer(StatusCode::OK))
}

/// Rotates the token and shows the new one.
pub(crate) async fn rotate(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let seconds = form.text("overlap_seconds").parse::<u32>().unwrap_or(0);
    let call =
        visitor.call(Method::POST, call_path(&id, "/rotate")).json(&json!({ "overlap_seconds": seconds }));
    let answer = call.named(&form).send::<Rotated>().await?;
    let overlap =
        OVERLAPS.iter().find(|(known, ..)| *known == seconds).map_or("a while", |(_, name, _)| *name);
    let note = match seconds {
        0 => "The previous token is refused from now on.".into(),
        _ => format!(
            "The previous token keeps working for {}, but not past the key's own expiry.",
            overlap.to_lowercase()
        ),
    };
    let Rotated { key, token } = answer.body;
    Ok(token_page::show_rotated(&visitor, &key, token, answer.position, note).await)
}

#[derive(Template)]
#[template(path = "keys/revoke.html")]
struct RevokePage {
    frame: Frame,
    key: Key,
    now: Timestamp,
}

page!(RevokePage);

/// Asks for the reason.
pub(crate) async fn revoke_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/keys/{id}/revoke")?;
    let key = load(&visitor, &id).await?;
    let page = RevokePage { frame: frame(&visitor, "Revoke key", &key).await, now: visitor.now, key };
    Ok(page.answer(StatusCode::OK))
}

/// Revokes the key. The next page offers to undo it.
pub(crate) async fn revoke(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let body = json!({ "reason": form.json("reason"), "note": form.json("note") });
    let answer = visitor.call(Method::POST, call_path(&id, "/revoke")).json(&body).send::<Key>().await?;
    let key = answer.body;
    let text = format!("“{}” was revoked. Requests with it are refused from now on.", key.short_title());
    let notice = Notice::of(answer.position, text).undo(key_id(&key));
    Ok(visitor.go_to(&back(&form, &key), &notice))
}

pub(crate) async fn reactivate(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let answer =
        visitor.call(Method::POST, call_path(&id, "/reactivate")).json(&json!({})).send::<Key>().await?;
    let key = answer.body;
    let text = format!("“{}” was reactivated. Its token works again.", key.short_title());
    Ok(visitor.go_to(&back(&form, &key), &Notice::of(answer.position, text)))
}

#[derive(Template)]
#[template(path = "keys/delete.html")]
struct DeletePage {
    frame: Frame,
    key: Key,
    errors: FieldErrors,
}

page!(DeletePage);

/// The text to type to delete a key: its name, or the last four characters of its token.
fn confirmation(key: &Key) -> String {
    form_page::confirmation(key.name.as_deref(), &key.last_four)
}

impl DeletePage {
    fn confirmation(&self) -> String {
        confirmation(&self.key)
    }
}

/// Asks for a typed confirmation.
pub(crate) async fn delete_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/keys/{id}")?;
    let key = load(&visitor, &id).await?;
    let page =
        DeletePage { frame: frame(&visitor, "Delete key", &key).await, key, errors: FieldErrors::default() };
    Ok(page.answer(StatusCode::OK))
}

pub(crate) async fn delete(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let key = load(&visitor, &id).await?;
    if let Err(errors) = form_page::confirmed(&form, &confirmation(&key)) {
        let page = DeletePage { frame: frame(&visitor, "Delete key", &key).await, key, errors };
        return Ok(page.answer(StatusCode::UNPROCESSABLE_ENTITY));
    }
    let answer = visitor.call(Method::DELETE, call_path(&id, "")).send::<()>().await?;
    let to = safe_path(form.text("to")).filter(|to| !to.starts_with(&key.path("")));
    let notice =
        Notice::of(answer.position, format!("“{}” was deleted. Its history is kept.", key.short_title()));
    Ok(visitor.go_to(to.unwrap_or("/console/keys"), &notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confirmation_can_be_typed() {
        let named = |name: Option<&str>| {
            let key = json!({ "id": "key_x", "organization_id": "o", "owner": "organization", "name": name,
                "environment": "preview", "scopes": [], "status": "active",
                "start": "kl_live_ab12", "last_four": "wxyz",
                "created_at": "2026-11-12T00:00:00.000Z", "version": 1, "created_by": "rk_x" });
            confirmation(&serde_json::from_value(key).unwrap())
        };
        assert_eq!(named(Some("Billing (EU)")), "Billing (EU)");
        assert_eq!(named(Some("a\u{202e}b")), "wxyz");
        assert_eq!(named(Some(&"x".repeat(1_000))), "wxyz");
        assert_eq!(named(None), "wxyz");
    }
}
