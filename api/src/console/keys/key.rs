//! A key as pages show it.

use std::fmt;

use http::Method;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::console::frame::icon::Icon;
use crate::console::frame::toast::shortened;
use crate::console::parts::marked::Marked;
use crate::console::parts::moment::Moment;
use crate::console::visit::visitor::Visitor;

/// A key's end is shown as near within this many days.
const NEAR_DAYS: i64 = 14;

/// A key as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Key {
    /// Its id.
    pub id: String,
    /// The organization it belongs to.
    pub organization_id: String,
    /// Whom it is for.
    pub owner: String,
    /// The client that it is for.
    pub client_organization_id: Option<String>,
    /// The user it belongs to.
    pub user_id: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Where it is valid.
    pub environment: String,
    /// The API it is for.
    pub api_id: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What whoever made it attached.
    pub metadata: Option<Value>,
    /// Where it stands in its life.
    pub status: Status,
    /// What its token begins with.
    pub start: String,
    /// What its token ends with.
    pub last_four: String,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last verified.
    pub last_verified_at: Option<Timestamp>,
    /// How many events it has.
    pub version: u32,
    /// Who issued it.
    pub created_by: String,
}

/// Where a key stands in its life: a word and a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Works.
    Active,
    /// Stopped; can be reactivated.
    Revoked,
    /// Its time came.
    Expired,
    /// Gone.
    Deleted,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, icon, word) = match self {
            Self::Active => ("good", Icon::TICK, "Active"),
            Self::Revoked => ("bad", Icon::STOP, "Revoked"),
            Self::Expired => ("warn", Icon::CLOCK, "Expired"),
            Self::Deleted => ("idle", Icon::CLOSE, "Deleted"),
        };
        write!(f, r#"<span class="badge {class}">{icon}{word}</span>"#)
    }
}

/// Its own words only.
impl askama::filters::HtmlSafe for Status {}

impl Key {
    /// The name, or what stands for it.
    pub(crate) fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("Unnamed key")
    }

    /// The name as it stands in a sentence.
    pub(crate) fn short_title(&self) -> String {
        shortened(self.title())
    }

    /// The name with what was searched for marked.
    pub(crate) fn marked_title<'a>(&'a self, searched: Option<&'a str>) -> Marked<'a> {
        Marked::new(self.title(), searched.filter(|_| self.name.is_some()))
    }

    /// Another of its texts, marked.
    pub(crate) fn marked<'a>(&'a self, text: &'a str, searched: Option<&'a str>) -> Marked<'a> {
        Marked::new(text, searched)
    }

    /// What of its token may be shown.
    pub(crate) fn masked(&self) -> String {
        format!("{}…{}", self.start, self.last_four)
    }

    /// Whom it is for, in words.
    pub(crate) fn owner_words(&self) -> String {
        match (self.owner.as_str(), &self.user_id, &self.client_organization_id) {
            ("user", Some(user_id), _) => user_id.clone(),
            ("client", _, Some(client)) => format!("Client {client}"),
            ("partner", ..) => "All clients".into(),
            _ => "Organization".into(),
        }
    }

    /// The page of the key, with `tail` after it.
    pub(crate) fn path(&self, tail: &str) -> String {
        format!("/console/keys/{}{tail}", self.id)
    }

    /// When it was issued.
    pub(crate) fn created(&self, now: &Timestamp) -> Moment {
        Moment::new(self.created_at, *now)
    }

    /// When it was last verified.
    pub(crate) fn last_used(&self, now: &Timestamp) -> Option<Moment> {
        self.last_verified_at.map(|at| Moment::new(at, *now))
    }

    /// When it ends or ended.
    pub(crate) fn expiry(&self, now: &Timestamp) -> Option<Moment> {
        self.expires_at.map(|at| Moment::new(at, *now))
    }

    /// Whether its end is near.
    pub(crate) fn ends_soon(&self, now: &Timestamp) -> bool {
        self.status == Status::Active && self.expiry(now).is_some_and(|end| end.is_within_days(NEAR_DAYS))
    }
}

/// What somebody may do to a key as it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actions {
    /// Change its texts, scopes and end.
    pub edit: bool,
    /// Give it a new token.
    pub rotate: bool,
    /// Stop it.
    pub revoke: bool,
    /// Let it work again.
    pub reactivate: bool,
    /// Delete it.
    pub delete: bool,
}

impl Actions {
    /// What somebody may do, whatever the key's state.
    pub(crate) fn of(visitor: &Visitor) -> Self {
        let may = |method: Method, tail: &str| visitor.may(&method, &format!("/v1/keys/{{id}}{tail}"));
        Self {
            edit: may(Method::PATCH, ""),
            rotate: may(Method::POST, "/rotate"),
            revoke: may(Method::POST, "/revoke"),
            reactivate: may(Method::POST, "/reactivate"),
            delete: may(Method::DELETE, ""),
        }
    }

    /// What of it makes sense for a key. The rules themselves are the engine's; this keeps pages from offering what they
    /// refuse.
    pub(crate) fn on(&self, key: &Key) -> Self {
        let (is_active, is_there) = (key.status == Status::Active, key.status != Status::Deleted);
        Self {
            edit: self.edit && is_there,
            rotate: self.rotate && is_active,
            revoke: self.revoke && is_active,
            reactivate: self.reactivate && key.status == Status::Revoked,
            delete: self.delete && is_there,
        }
    }

    /// Whether there is anything.
    pub(crate) const fn any(&self) -> bool {
        self.edit || self.rotate || self.revoke || self.reactivate || self.delete
    }
}
