//! The reference: the OpenAPI document, the page that shows it to people, and a page for each problem.
//!
//! All pages are rendered once at startup and served from memory.

pub(crate) mod document;
mod example;
mod html;
mod page;
pub(crate) mod parameters;
mod problem_pages;
#[cfg(test)]
mod tests;
mod typed_document;

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyledger_engine::crypto::sha256::sha256;
use serde_json::Value;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::request::entity_tag::Tags;
use crate::service::Service;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns the OpenAPI document as text, as it is served and as in docs/openapi.json.
///
/// # Errors
/// Fails if it cannot be written as JSON.
pub(crate) fn document_text(document: &utoipa::openapi::OpenApi) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    Ok(text)
}

/// Returns the pages about the endpoints in `document`.
///
/// # Errors
/// Fails if the document cannot be written as JSON.
pub(crate) fn router(document: &utoipa::openapi::OpenApi) -> Result<Router<Arc<Service>>, serde_json::Error> {
    pages(document)
}

/// Returns the pages for a router with any state, because they need none.
fn pages<S: Clone + Send + Sync + 'static>(
    document: &utoipa::openapi::OpenApi,
) -> Result<Router<S>, serde_json::Error> {
    let value: Value = serde_json::to_value(document)?;
    let document = Page::new(JSON, document_text(document)?);
    let docs = Page::html(page::render(&value));
    let problems =
        Described { page: Page::html(problem_pages::index()), json: Page::new(JSON, all_problems()) };
    let each: Arc<[(&str, Described)]> =
        Code::ALL.iter().map(|code| (code.as_str(), described(*code))).collect();
    Ok(Router::new()
        .route("/openapi.json", get(move |headers: HeaderMap| async move { document.answer(&headers) }))
        .route("/docs", get(move |headers: HeaderMap| async move { docs.answer(&headers) }))
        .route("/problems", get(move |headers: HeaderMap| async move { problems.answer(&headers) }))
        .route(
            "/problems/{code}",
            get(move |Path(code): Path<String>, headers: HeaderMap| async move {
                match each.iter().find(|(name, _)| *name == code) {
                    Some((_, described)) => described.answer(&headers),
                    None => {
                        let detail = "No problem has this code. /problems lists them all.";
                        Problem::new(Code::NotFound, detail).into_response()
                    }
                }
            }),
        ))
}

/// A text that does not change while the service runs.
#[derive(Clone)]
struct Page {
    media_type: HeaderValue,
    policy: Option<HeaderValue>,
    /// The entity tag without its quotes.
    name: String,
    etag: HeaderValue,
    text: Bytes,
}

impl Page {
    fn new(media_type: HeaderValue, text: String) -> Self {
        let digest = sha256(text.as_bytes());
        let name: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{name}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { media_type, policy: None, name, etag, text: text.into() }
    }

    fn html(text: String) -> Self {
        Self { policy: HeaderValue::try_from(html::content_security_policy()).ok(), ..Self::new(HTML, text) }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let tags = Tags::read(headers, &header::IF_NONE_MATCH).ok().flatten();
        let unchanged = tags.is_some_and(|tags| tags.name(&self.name));
        let mut response = match unchanged {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.text.clone().into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if !unchanged {
            headers.insert(header::CONTENT_TYPE, self.media_type.clone());
        }
        if let Some(policy) = &self.policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        response
    }
}

/// A text that is served as a page or as JSON.
#[derive(Clone)]
struct Described {
    page: Page,
    json: Page,
}

impl Described {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = if asks_for_json(headers) { &self.json } else { &self.page }.answer(headers);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }
}

fn described(code: Code) -> Described {
    let json = format!("{:#}\n", problem_json(code));
    Described { page: Page::html(problem_pages::one(code)), json: Page::new(JSON, json) }
}

fn all_problems() -> String {
    let data: Vec<Value> = Code::ALL.iter().map(|code| problem_json(*code)).collect();
    format!("{:#}\n", serde_json::json!({ "data": data }))
}

fn problem_json(code: Code) -> Value {
    serde_json::json!({
        "code": code.as_str(),
        "title": code.title(),
        "status": code.status().as_u16(),
        "help": code.help(),
    })
}

/// Returns whether `Accept` names JSON and does not prefer HTML. Wildcards get the page.
fn asks_for_json(headers: &HeaderMap) -> bool {
    let (mut json, mut html) = (0.0_f32, 0.0_f32);
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or("").to_ascii_lowercase();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match name.as_str() {
            "application/json" | "application/problem+json" => json = json.max(quality),
            "text/html" | "application/xhtml+xml" => html = html.max(quality),
            _ => {}
        }
    }
    json > 0.0 && json >= html
}
