//! Revokes or deletes several keys: a preview of the affected keys, then one request per key.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde_json::{Value, json};

use crate::answer::problem::Problem;

use super::actions::Actions;
use super::change::call_path;
use crate::console::frame::form_page::confirmed;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::key::Key;
use crate::console::parts::query_string::QueryString;
use crate::console::parts::query_string::safe_path;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

/// The largest page of the key list.
const KEYS_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Revoke,
    Delete,
}

impl Action {
    fn of(form: &Form) -> Self {
        if form.text("action") == "delete" { Self::Delete } else { Self::Revoke }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Delete => "delete",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Revoke => "Revoke keys",
            Self::Delete => "Delete keys",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Revoke => "revoked",
            Self::Delete => "deleted",
        }
    }

    const fn applies(self, actions: Actions) -> bool {
        match self {
            Self::Revoke => actions.revoke,
            Self::Delete => actions.delete,
        }
    }
}

#[derive(Template)]
#[template(path = "keys/selection.html")]
struct SelectionPage {
    frame: Frame,
    now: Timestamp,
    action: Action,
    /// The keys that the action applies to.
    hit: Vec<Key>,
    /// The keys whose status does not allow the action.
    left: Vec<Key>,
    back: String,
    errors: FieldErrors,
}

page!(SelectionPage);

impl SelectionPage {
    async fn answer_for(visitor: &Visitor, form: &Form, errors: FieldErrors) -> Result<Response, Problem> {
        let action = Action::of(form);
        let actions = Actions::of(visitor);
        let (mut hit, mut left) = (Vec::new(), Vec::new());
        for id in form.texts("key").take(KEYS_MAX) {
            let key: Key = visitor.read(&call_path(id, "")).await?;
            if action.applies(actions.on(&key)) { hit.push(key) } else { left.push(key) }
        }
        let back = safe_path(form.text("to")).unwrap_or("/console/keys").to_owned();
        let organization = QueryString::of(&back).get("organization_id").map(ToOwned::to_owned);
        let status = if errors.any() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let frame = Frame::of(visitor, action.title(), Some(Section::Keys), organization.as_deref()).await;
        Ok(Self { frame, now: visitor.now, action, hit, left, back, errors }.answer(status))
    }

    /// The text to type to delete several keys.
    fn confirmation(&self) -> String {
        confirmation(self.hit.len())
    }
}

fn confirmation(count: usize) -> String {
    format!("delete {count}")
}

/// Shows the affected keys.
pub(crate) async fn preview(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    SelectionPage::answer_for(&visitor, &form, FieldErrors::default()).await
}

/// Applies the action key by key. A key that fails does not stop the others.
pub(crate) async fn apply(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let action = Action::of(&form);
    let ids: Vec<&str> = form.texts("key").take(KEYS_MAX).collect();
    if action == Action::Delete
        && let Err(errors) = confirmed(&form, &confirmation(ids.len()))
    {
        return SelectionPage::answer_for(&visitor, &form, errors).await;
    }
    let (mut done, mut refused, mut position) = (0, None, None);
    for id in &ids {
        let call = match action {
            Action::Revoke => visitor
                .call(Method::POST, call_path(id, "/revoke"))
                .json(&json!({ "reason": form.json("reason"), "note": form.json("note") })),
            Action::Delete => visitor.call(Method::DELETE, call_path(id, "")),
        };
        match call.send::<Value>().await {
            Ok(answer) => {
                done += 1;
                position = position.max(answer.position);
            }
            Err(problem) => refused = Some(problem),
        }
    }
    let keys = if done == 1 { "key" } else { "keys" };
    let mut text = format!("{done} {keys} {}.", action.done());
    if let Some(problem) = refused {
        if done == 0 {
            return Err(problem);
        }
        text = format!("{text} {} failed: {}", ids.len() - done, problem.code.title().to_lowercase());
    }
    let back = safe_path(form.text("to")).unwrap_or("/console/keys");
    // Changing the keys can empty their page of the list, so return to its first page.
    let query = QueryString::of(back).with("cursor", None);
    Ok(visitor.go_to(&query.after("/console/keys"), &Notice::of(position, text)))
}
