//! A key as pages show it.

use std::fmt;

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::badge::Badge;
use super::marked::Marked;
use super::moment::Moment;
use super::short_name::shortened;

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

impl Status {
    /// The badge that shows it.
    pub(crate) fn badge(self) -> Badge {
        Badge::of(match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.badge().fmt(f)
    }
}

/// [`Badge`] writes letters and spaces only.
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
