//! The page to test a key on: what verification says of a token, and why.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::key::{Key, Status};
use crate::console::frame::icon::Icon;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::query_string::QueryString;
use crate::console::parts::tags::Tags;
use crate::console::tenants::api_choice::Apis;
use crate::console::visit::submission::{Form, Submission};
use crate::console::visit::visitor::Visitor;

/// What verification says.
#[derive(Deserialize)]
struct Verdict {
    valid: bool,
    code: String,
    key_id: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    key: Key,
}

/// What is told of a token.
struct Told {
    is_good: bool,
    title: String,
    why: &'static str,
    code: Option<String>,
    /// The key behind it, if there is one that may be seen.
    key: Option<Key>,
}

#[derive(Template)]
#[template(path = "token-test.html")]
struct TokenTestPage {
    frame: Frame,
    form: Form,
    apis: Apis,
    /// Whether the token is verified, or only the key behind it found.
    verifies: bool,
    told: Option<Told>,
    errors: FieldErrors,
}

page!(TokenTestPage);

impl TokenTestPage {
    async fn answer_with(
        visitor: &Visitor,
        form: Form,
        told: Option<Told>,
        errors: FieldErrors,
    ) -> Result<Response, Problem> {
        let query = QueryString::of(&visitor.address);
        let status = if errors.any() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let page = Self {
            frame: Frame::of(visitor, "Test a key", Some(Section::Test), query.get("organization_id")).await,
            apis: Apis::read(visitor).await?,
            verifies: verifies(visitor),
            form,
            told,
            errors,
        };
        Ok(page.answer(status))
    }
}

fn verifies(visitor: &Visitor) -> bool {
    visitor.may(&Method::POST, "/v1/keys/verify")
}

/// Shows the form.
pub(crate) async fn form(visitor: Visitor) -> Result<Response, Problem> {
    TokenTestPage::answer_with(&visitor, Form::of(std::iter::empty()), None, FieldErrors::default()).await
}

/// Tells what verification says. The answer does not repeat the token.
pub(crate) async fn test(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let Some(token) = form.filled("token") else {
        let errors = FieldErrors::one("token", "paste the token that is to be tested");
        return TokenTestPage::answer_with(&visitor, form, None, errors).await;
    };
    let key = found(&visitor, token).await?;
    let told = if verifies(&visitor) { verified(&visitor, &form, token, key).await? } else { looked_up(key) };
    TokenTestPage::answer_with(&visitor, form, Some(told), FieldErrors::default()).await
}

/// The key that has a token, or once had it.
async fn found(visitor: &Visitor, token: &str) -> Result<Option<Key>, Problem> {
    if !visitor.may(&Method::POST, "/v1/keys/find") {
        return Ok(None);
    }
    let call = visitor.call(Method::POST, "/v1/keys/find").json(&json!({ "token": token }));
    match call.send::<Found>().await {
        Ok(found) => Ok(Some(found.body.key)),
        Err(problem) if problem.code == Code::KeyNotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

async fn verified(visitor: &Visitor, form: &Form, token: &str, key: Option<Key>) -> Result<Told, Problem> {
    let mut body = Map::new();
    body.insert("token".into(), token.into());
    for name in ["environment", "api_id"] {
        if let Some(value) = form.filled(name) {
            body.insert(name.into(), value.into());
        }
    }
    if form.filled("scopes").is_some() {
        body.insert("scopes".into(), form.json_lines("scopes"));
    }
    let answer =
        visitor.call(Method::POST, "/v1/keys/verify").json(&Value::Object(body)).send::<Verdict>().await?;
    let verdict = answer.body;
    let key = match (key, verdict.key_id) {
        (None, Some(id)) if visitor.may(&Method::GET, "/v1/keys/{id}") => {
            visitor.read(&super::change::call_path(&id, "")).await.ok()
        }
        (key, _) => key,
    };
    Ok(Told {
        is_good: verdict.valid,
        title: if verdict.valid { "Accepted" } else { "Refused" }.into(),
        why: why(&verdict.code),
        code: Some(verdict.code),
        key,
    })
}

fn looked_up(key: Option<Key>) -> Told {
    let (is_good, title, why) = match key.as_ref().map(|key| key.status) {
        Some(Status::Active) => {
            (true, "The key is active", "It is accepted where it is valid, with its present token.")
        }
        Some(Status::Revoked) => (false, "The key is revoked", why("REVOKED")),
        Some(Status::Expired) => (false, "The key has expired", why("EXPIRED")),
        Some(Status::Deleted) => (false, "The key was deleted", "Its history stays."),
        None => (false, "No such key", "No key that you may see ever had this token."),
    };
    Told { is_good, title: title.into(), why, code: None, key }
}

/// What a verdict means.
fn why(code: &str) -> &'static str {
    match code {
        "VALID" => "The key is active and may do what was asked.",
        "MALFORMED" => {
            "This is not a token: its form or its checksum is wrong. It may have been cut when it was copied."
        }
        "NOT_FOUND" => {
            "No key has this token: it was never issued here, was replaced by rotation, or its key was deleted."
        }
        "ORGANIZATION_INACTIVE" => "The organization that the key belongs to was deleted.",
        "REVOKED" => "The key was revoked. Reactivate it if that was a mistake.",
        "EXPIRED" => "The key's time came. Create another.",
        "WRONG_ENVIRONMENT" => "The key is valid in the other environment only.",
        "WRONG_ORGANIZATION" => "The key is not valid for this organization.",
        "WRONG_API" => "The key is for another API.",
        "INSUFFICIENT_SCOPE" => "The key lacks a scope that was asked for. Edit its scopes.",
        _ => "Verification refused it.",
    }
}
