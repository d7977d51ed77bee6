//! Tests of the pages as the router answers them.

use std::sync::LazyLock;

use axum::body::Body;
use http::Request;
use tower::ServiceExt;

use super::*;

static PAGES: LazyLock<Router> = LazyLock::new(|| pages(&crate::routes::endpoints().1).unwrap());

async fn answer_to(request: Request<Body>) -> Response {
    PAGES.clone().oneshot(request).await.unwrap()
}

async fn get_with(path: &str, accept: Option<&str>) -> Response {
    let mut request = Request::get(path);
    if let Some(accept) = accept {
        request = request.header(header::ACCEPT, accept);
    }
    answer_to(request.body(Body::empty()).unwrap()).await
}

async fn get_page(path: &str) -> String {
    let response = get_with(path, None).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], HTML, "{path}");
    text_of(response).await
}

async fn text_of(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the values of every attribute `name` in a page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn every_code_has_a_page() {
    let index = get_page("/problems").await;
    for code in Code::ALL {
        let path = format!("/problems/{}", code.as_str());
        let page = get_page(&path).await;
        assert!(page.contains(&html::escape(code.title())), "{path}");
        assert!(page.contains(&html::prose(code.help())), "{path}");
        assert!(page.contains(code.status().as_str()), "{path}");
        assert!(index.contains(&format!("href=\"{path}\"")), "{path}");
    }
}

#[tokio::test]
async fn a_problem_is_json_on_request() {
    for accept in ["application/json", "text/html;q=0.5, application/json", "application/problem+json, */*"] {
        let response = get_with("/problems/key_revoked", Some(accept)).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], JSON, "{accept}");
        assert_eq!(response.headers()[header::VARY], "Accept");
        let body: Value = serde_json::from_str(&text_of(response).await).unwrap();
        assert_eq!(body, problem_json(Code::KeyRevoked));
    }
    for accept in [
        "*/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/json;q=0",
        "text/html, application/json;q=0.9",
    ] {
        let response = get_with("/problems/key_revoked", Some(accept)).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], HTML, "{accept}");
    }
}

#[tokio::test]
async fn an_unknown_code_is_a_problem_itself() {
    let response = get_with("/problems/no_such_code", None).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.extensions().get::<Problem>().unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn the_page_has_every_endpoint_and_field() {
    let (_, document) = crate::routes::endpoints();
    let value = serde_json::to_value(&document).unwrap();
    let page = get_page("/docs").await;
    for (name, _, endpoints) in typed_document::tags(&value) {
        assert!(page.contains(&html::escape(name)));
        for endpoint in endpoints {
            assert!(
                page.contains(&format!("<code>{}</code>", html::path(endpoint.path))),
                "{}",
                endpoint.path
            );
            assert!(page.contains(&format!("id=\"{}\"", endpoint.anchor())), "{}", endpoint.anchor());
        }
    }
    for path in value["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&html::path(path)), "{path}");
    }
    for (_, schema) in typed_document::schemas(&value) {
        for field in typed_document::fields(&value, schema) {
            assert!(page.contains(&format!("<code>{}</code>", html::escape(field.name))), "{}", field.name);
        }
    }
}

#[tokio::test]
async fn pages_load_nothing_external_and_have_no_broken_link() {
    let docs = get_page("/docs").await;
    let problems = get_page("/problems").await;
    for page in [&docs, &problems, &get_page("/problems/internal").await] {
        assert!(
            !page.contains("<script")
                && !page.contains("<link rel=\"stylesheet\"")
                && !page.contains("@import")
        );
        assert!(attributes(page, "src").is_empty() && attributes(page, "style").is_empty());
        for link in attributes(page, "href") {
            let same_page = link.strip_prefix('#');
            let known = ["/docs", "/problems", "/openapi.json"].contains(&link)
                || link.starts_with("data:image/svg+xml,");
            let problem = link
                .strip_prefix("/problems/")
                .is_some_and(|code| Code::ALL.iter().any(|it| it.as_str() == code));
            let group =
                link.strip_prefix("/problems#").is_some_and(|id| problems.contains(&format!("id=\"{id}\"")));
            let here = same_page.is_some_and(|id| page.contains(&format!("id=\"{id}\"")));
            assert!(known || problem || group || here, "{link}");
        }
        let mut ids = attributes(page, "id");
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "two operations share an id");
    }
}

#[tokio::test]
async fn pages_forbid_the_browser_to_load_anything() {
    for path in ["/docs", "/problems", "/problems/internal"] {
        let response = get_with(path, None).await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        for part in [
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "sha256-",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
    }
}

#[tokio::test]
async fn the_served_document_has_its_tag() {
    let (_, document) = crate::routes::endpoints();
    let response = get_with("/openapi.json", None).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], JSON);
    let etag = response.headers()[header::ETAG].clone();
    let text = text_of(response).await;
    assert_eq!(text, document_text(&document).unwrap());
    assert!(text.ends_with("}\n") && text.contains("\"openapi\": \"3.1"));

    let request =
        Request::get("/openapi.json").header(header::IF_NONE_MATCH, etag).body(Body::empty()).unwrap();
    let response = answer_to(request).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(text_of(response).await, "");
}

#[tokio::test]
async fn head_is_answered() {
    for path in ["/docs", "/openapi.json", "/problems", "/problems/internal"] {
        let request = Request::head(path).body(Body::empty()).unwrap();
        let response = answer_to(request).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(text_of(response).await, "", "{path}");
    }
}

#[test]
fn texts_of_the_document_cannot_become_markup() {
    let hostile = serde_json::json!({
        "info": { "title": "<script>1</script>", "description": "<img src=x>" },
        "tags": [{ "name": "<b>\"'", "description": "</section><script>" }],
        "paths": { "/<i>": { "get": {
            "tags": ["<b>\"'"], "summary": "</h3><script>",
            "parameters": [{
                "name": "<u>", "in": "\"><u>", "description": "`<u>`", "schema": { "type": "<u>" },
            }],
            "responses": { "2<u>": {
                "description": "<u>", "headers": { "<u>": {} }, "content": { "<u>": {} },
            } },
        } } },
        "components": { "schemas": { "<u>": {
            "description": "<u>", "properties": { "<u>": { "enum": ["<u>", ["<u>"]] } },
        } } },
    });
    let page = page::render(&hostile);
    for forbidden in ["<script", "<img", "<i>", "<u>", "\"><u", "<b>\""] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}
