//! Answers in Kinde's form: its codes, and its two forms of errors.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};

/// The first members of every answer.
#[derive(Serialize)]
pub(super) struct Status {
    code: &'static str,
    message: &'static str,
}

impl Status {
    /// For endpoints without a code of their own.
    pub(super) const OK: Self = Self { code: "OK", message: "Success" };
    pub(super) const CREATED: Self = Self { code: "API_KEY_CREATED", message: "API key created" };
    pub(super) const ROTATED: Self =
        Self { code: "API_KEY_ROTATED", message: "API key rotated successfully" };
    pub(super) const VERIFIED: Self = Self { code: "API_KEY_VERIFIED", message: "API key verified" };
    pub(super) const INVALID: Self = Self { code: "API_KEY_INVALID", message: "API key is not valid" };
}

/// Turns problems into Kinde's errors, with the statuses that its clients expect.
pub(super) async fn in_kinde_form(request: Request, next: Next) -> Response {
    let is_verification = request.uri().path() == "/api/v1/api_keys/verify";
    let mut response = next.run(request).await;
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => Problem::of(Code::MethodNotAllowed),
        None => return response,
    };
    let status = match problem.code.status() {
        // Kinde answers 401 only for verification.
        StatusCode::UNAUTHORIZED if !is_verification => StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::METHOD_NOT_ALLOWED => StatusCode::NOT_FOUND,
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) => status,
        status if status.is_client_error() => StatusCode::BAD_REQUEST,
        status => status,
    };
    let errors = if status == StatusCode::NOT_FOUND { error_of(&problem) } else { errors_of(problem) };
    let mut answer = (status, Json(json!({ "errors": errors }))).into_response();
    for (name, value) in response.headers() {
        if !answer.headers().contains_key(name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    *answer.extensions_mut() = std::mem::take(response.extensions_mut());
    answer
}

/// Returns one error as an object, for 404.
fn error_of(problem: &Problem) -> Value {
    match problem.code {
        Code::MethodNotAllowed => {
            json!({ "code": "ROUTE_NOT_FOUND", "message": "The requested API route does not exist" })
        }
        code => json!({ "code": word(code), "message": problem.detail }),
    }
}

/// Returns the errors as an array, for every other status.
fn errors_of(problem: Problem) -> Value {
    let code = match problem.code {
        Code::Unauthenticated => "INVALID_CREDENTIALS".into(),
        code => word(code),
    };
    if problem.errors.is_empty() {
        return json!([{ "code": code, "message": problem.detail }]);
    }
    let field = |FieldError { pointer, detail }| {
        let name = pointer.trim_start_matches(['/', '?']);
        json!({ "code": code, "message": format!("{} {detail}", spelled(name)) })
    };
    problem.errors.into_iter().map(field).collect()
}

fn word(code: Code) -> String {
    code.as_str().to_ascii_uppercase()
}

/// Returns a field's name in Kinde's API.
fn spelled(name: &str) -> String {
    match name.split_once('/') {
        Some(("scopes", index)) => format!("scope_ids/{index}"),
        _ if name == "organization_id" => "org_code".into(),
        _ if name == "scopes" => "scope_ids".into(),
        _ => name.into(),
    }
}
