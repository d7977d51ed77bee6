//! The page that tests a token: what verification returns for it, and why.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::key::{Key, Status};
use crate::console::parts::query_string::QueryString;
use crate::console::parts::tags::Tags;
use crate::console::tenants::api_choice::Apis;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

/// The response of verification.
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

/// What the page says about a token.
struct Finding {
    is_valid: bool,
    title: String,
    why: &'static str,
    code: Option<String>,
    /// The key of the token, if the visitor may see it.
    key: Option<Key>,
}

#[derive(Template)]
#[template(path = "keys/token-test.html")]
struct TokenTestPage {
    frame: Frame,
    form: Form,
    apis: Apis,
    /// Whether the visitor may verify tokens, or only find their keys.
    verifies: bool,
    finding: Option<Finding>,
    errors: FieldErrors,
}

page!(TokenTestPage);

impl TokenTestPage {
    async fn answer_with(
        visitor: &Visitor,
        form: Form,
        finding: Option<Finding>,
        errors: FieldErrors,
    ) -> Result<Response, Problem> {
        let query = QueryString::of(&visitor.address);
        let status = if errors.any() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let page = Self {
            frame: Frame::of(visitor, "Test a key", Some(Section::Test), query.get("organization_id")).await,
            apis: Apis::read(visitor).await?,
            verifies: verifies(visitor),
            form,
            finding,
            errors,
        };
        Ok(page.answer(status))
    }
}

fn verifies(visitor: &Visitor) -> bool {
    visitor.may(&Method::POST, "/v1/keys/verify")
}

pub(crate) async fn form(visitor: Visitor) -> Result<Response, Problem> {
    TokenTestPage::answer_with(&visitor, Form::of(std::iter::empty()), None, FieldErrors::default()).await
}

/// Tests the token. The page does not repeat it.
pub(crate) async fn test(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let Some(token) = form.filled("token") else {
        let errors = FieldErrors::one("token", "Paste a token to test.");
        return TokenTestPage::answer_with(&visitor, form, None, errors).await;
    };
    let key = found(&visitor, token).await?;
    let finding =
        if verifies(&visitor) { verified(&visitor, &form, token, key).await? } else { looked_up(key) };
    TokenTestPage::answer_with(&visitor, form, Some(finding), FieldErrors::default()).await
}

/// Finds the key that has or had a token.
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

async fn verified(visitor: &Visitor, form: &Form, token: &str, key: Option<Key>) -> Result<Finding, Problem> {
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
    Ok(Finding {
        is_valid: verdict.valid,
        title: if verdict.valid { "Accepted" } else { "Refused" }.into(),
        why: why(&verdict.code),
        code: Some(verdict.code),
        key,
    })
}

fn looked_up(key: Option<Key>) -> Finding {
    let (is_valid, title, why) = match key.as_ref().map(|key| key.status) {
        Some(Status::Active) => {
            (true, "The key is active", "Its current token is accepted in its environment and for its API.")
        }
        Some(Status::Revoked) => (false, "The key is revoked", why("REVOKED")),
        Some(Status::Expired) => (false, "The key has expired", why("EXPIRED")),
        Some(Status::Deleted) => (false, "The key was deleted", "Its history is kept."),
        None => (false, "No such key", "No key that you can see has or had this token."),
    };
    Finding { is_valid, title: title.into(), why, code: None, key }
}

/// Explains a verification code.
fn why(code: &str) -> &'static str {
    match code {
        "VALID" => "The key is active and allowed to do what was asked.",
        "MALFORMED" => {
            "This is not a token: its format or checksum is wrong. Check that you copied all of it."
        }
        "NOT_FOUND" => {
            "No key has this token. It was never issued here, was replaced by rotation, or its key was \
             deleted."
        }
        "ORGANIZATION_INACTIVE" => "The key's organization was deleted.",
        "REVOKED" => "The key was revoked. Reactivate it if that was a mistake.",
        "EXPIRED" => "The key has expired. Create a new one.",
        "WRONG_ENVIRONMENT" => "The key works only in the other environment.",
        "WRONG_ORGANIZATION" => "The key doesn't work for this organization.",
        "WRONG_API" => "The key is for another API, or for none.",
        "INSUFFICIENT_SCOPE" => "The key is missing a requested scope. Edit its scopes.",
        _ => "Verification refused the token.",
    }
}
