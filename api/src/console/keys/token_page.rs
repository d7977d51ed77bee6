//! The page that shows a key's token once, after creation and after rotation.

use axum::response::Response;

use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::Frame;
use crate::console::frame::secret_page::{Example, Secret, SecretPage, Words};
use crate::console::parts::key::Key;
use crate::console::parts::query_string::QueryString;
use crate::console::visit::visitor::Visitor;

/// Shows the token of a new key.
pub(crate) async fn show_created(
    visitor: &Visitor,
    key: &Key,
    token: Option<Secret>,
    position: Option<u64>,
) -> Response {
    let organization = visitor.principal.organization_id.is_none().then_some(key.organization_id.as_str());
    let done = QueryString::default().with("organization_id", organization).after("/console/keys");
    show(visitor, key, token, position, "Key created", None, done).await
}

/// Shows the new token of a rotated key.
pub(crate) async fn show_rotated(
    visitor: &Visitor,
    key: &Key,
    token: Option<Secret>,
    position: Option<u64>,
    note: String,
) -> Response {
    show(visitor, key, token, position, "Key rotated", Some(note), key.path("")).await
}

async fn show(
    visitor: &Visitor,
    key: &Key,
    token: Option<Secret>,
    position: Option<u64>,
    title: &'static str,
    note: Option<String>,
    done: String,
) -> Response {
    let words = Words {
        title,
        subject: key.title().into(),
        under: Some(key.environment.clone()),
        noun: "token",
        advice: "Store it where the caller reads its secrets.",
        note,
        loss: "without it the key can't be used.",
        remedy: "rotate the key to get a new one.",
    };
    let example = Example {
        lead: "Try it from a terminal. The response shows whose key it is:",
        before: format!("curl -i {}/v1/forward-auth \\\n  -H \"Authorization: Bearer ", visitor.public_url()),
        after: "\"",
    };
    let frame = Frame::of(visitor, title, Some(Section::Keys), Some(&key.organization_id)).await;
    SecretPage::new(frame, words, token, done).example(example).show(position)
}
