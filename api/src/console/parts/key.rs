//! A key as the API returns it and pages show it.

use std::fmt;

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::badge::Badge;
use super::marked::Marked;
use super::moment::Moment;
use super::short_name::shortened;

/// Within this many days, an expiry is highlighted.
const NEAR_DAYS: i64 = 14;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Key {
    pub id: String,
    pub organization_id: String,
    /// `organization`, `user`, `partner` or `client`.
    pub owner: String,
    pub client_organization_id: Option<String>,
    pub user_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub environment: String,
    pub api_id: Option<String>,
    pub scopes: Vec<String>,
    pub metadata: Option<Value>,
    pub status: Status,
    /// The token's prefix, environment and first four digits.
    pub start: String,
    pub last_four: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_verified_at: Option<Timestamp>,
    /// The number of events in the key's stream.
    pub version: u32,
    pub created_by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Active,
    Revoked,
    Expired,
    Deleted,
}

impl Status {
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
    /// The name, or a placeholder.
    pub(crate) fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("Unnamed key")
    }

    /// The title for use in a sentence.
    pub(crate) fn short_title(&self) -> String {
        shortened(self.title())
    }

    /// The title with the search term marked. The placeholder is never marked.
    pub(crate) fn marked_title<'a>(&'a self, searched: Option<&'a str>) -> Marked<'a> {
        Marked::new(self.title(), searched.filter(|_| self.name.is_some()))
    }

    /// A text with the search term marked.
    pub(crate) fn marked<'a>(&'a self, text: &'a str, searched: Option<&'a str>) -> Marked<'a> {
        Marked::new(text, searched)
    }

    /// The part of the token that may be shown: `kl_live_ab12…wxyz`.
    pub(crate) fn masked(&self) -> String {
        format!("{}…{}", self.start, self.last_four)
    }

    /// The owner, in words.
    pub(crate) fn owner_words(&self) -> String {
        match (self.owner.as_str(), &self.user_id, &self.client_organization_id) {
            ("user", Some(user_id), _) => user_id.clone(),
            ("client", _, Some(client)) => format!("Client {client}"),
            ("partner", ..) => "All clients".into(),
            _ => "Organization".into(),
        }
    }

    /// The path of the key's page, followed by `tail`.
    pub(crate) fn path(&self, tail: &str) -> String {
        format!("/console/keys/{}{tail}", self.id)
    }

    pub(crate) fn created(&self, now: &Timestamp) -> Moment {
        Moment::new(self.created_at, *now)
    }

    pub(crate) fn last_used(&self, now: &Timestamp) -> Option<Moment> {
        self.last_verified_at.map(|at| Moment::new(at, *now))
    }

    pub(crate) fn expiry(&self, now: &Timestamp) -> Option<Moment> {
        self.expires_at.map(|at| Moment::new(at, *now))
    }

    /// Whether the key is active and expires within [`NEAR_DAYS`].
    pub(crate) fn ends_soon(&self, now: &Timestamp) -> bool {
        self.status == Status::Active && self.expiry(now).is_some_and(|end| end.is_within_days(NEAR_DAYS))
    }
}
