//! Queries of the key list, and their results.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;

use keyledger_engine::domain::key::{Key, KeyStatus, OwnerKind};
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;

use super::cursor;
use crate::stored::store;

/// Matches are counted up to this number.
pub const TOTAL_MAX: u64 = 10_000;

/// A query: which keys, in which order, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    /// Only keys of this organization; keys of all organizations if `None`.
    pub organization_id: Option<OrganizationId>,
    /// Only keys with one of these kinds of owner; all kinds if empty.
    pub owner: Vec<OwnerKind>,
    /// Only keys for this client organization.
    pub client_id: Option<OrganizationId>,
    /// Only keys of this user.
    pub user_id: Option<UserId>,
    /// Only keys for this API.
    pub api_id: Option<ApiId>,
    /// Only keys for this environment.
    pub environment: Option<Environment>,
    /// Only keys in one of these states; all but deleted ones if empty.
    pub status: Vec<KeyStatus>,
    /// Only keys that carry this scope.
    pub scope: Option<String>,
    /// Only keys whose name, description, id, start, last four or user id contains this text, ignoring case.
    pub text: Option<String>,
    /// Only keys created later than this.
    pub created_after: Option<Timestamp>,
    /// Only keys created earlier than this.
    pub created_before: Option<Timestamp>,
    /// Only keys that expire earlier than this.
    pub expires_before: Option<Timestamp>,
    /// Only keys created earlier than this and not verified since, according to the list's usage.
    pub unused_since: Option<Timestamp>,
    /// Only keys that break one of these policies, each for the keys of its environment; ignored if empty.
    pub breaks: Vec<(Environment, Arc<Policy>)>,
    /// Order of the keys.
    pub sort: KeySort,
    /// Maximum number of keys on the page. 0 counts as 1.
    pub limit: usize,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
    /// Instant at which states are evaluated.
    pub now: Timestamp,
}

impl KeyQuery {
    /// Queries the newest 50 keys of all organizations that are not deleted.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            organization_id: None,
            owner: Vec::new(),
            client_id: None,
            user_id: None,
            api_id: None,
            environment: None,
            status: Vec::new(),
            scope: None,
            text: None,
            created_after: None,
            created_before: None,
            expires_before: None,
            unused_since: None,
            breaks: Vec::new(),
            sort: KeySort::CreatedDesc,
            limit: 50,
            cursor: None,
            now,
        }
    }
}

impl KeyQuery {
    /// Starts the page after `key` in order of creation. The key itself need not match the query.
    #[must_use]
    pub fn after(mut self, key: &Key) -> Self {
        self.sort = if self.sort == KeySort::CreatedAsc { self.sort } else { KeySort::CreatedDesc };
        self.cursor = Some(cursor::encode(&self, &key.created_at.millis(), key.id));
        self
    }
}

/// Order of keys. Equal keys are ordered by id. A descending order is the reverse of the ascending one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeySort {
    /// Oldest first.
    CreatedAsc,
    /// Newest first.
    #[default]
    CreatedDesc,
    /// By the first 120 bytes of the case-folded name; keys without a name last.
    NameAsc,
    /// Reverse of [`NameAsc`](Self::NameAsc).
    NameDesc,
    /// Earliest expiry first; keys without an expiry last.
    ExpiresAsc,
    /// Reverse of [`ExpiresAsc`](Self::ExpiresAsc).
    ExpiresDesc,
}

impl KeySort {
    /// Every order with its name.
    const TABLE: [(Self, &'static str); 6] = [
        (Self::CreatedAsc, "created_at"),
        (Self::CreatedDesc, "-created_at"),
        (Self::NameAsc, "name"),
        (Self::NameDesc, "-name"),
        (Self::ExpiresAsc, "expires_at"),
        (Self::ExpiresDesc, "-expires_at"),
    ];

    /// Names of all orders as the HTTP interface spells them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|row| row.1)
    }

    /// Returns the name as the HTTP interface spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

impl FromStr for KeySort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::TABLE
            .iter()
            .find(|row| row.1 == text)
            .map(|row| row.0)
            .ok_or_else(|| format!("must be one of {}", Self::names().collect::<Vec<_>>().join(", ")))
    }
}

/// One page of the matching keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// Keys of the page, in order.
    pub keys: Vec<Key>,
    /// Keys of the page whose user has more active keys than the policies in `breaks` allow. The user's
    /// oldest keys, up to the limit, are not included.
    pub over_user_limit: HashSet<KeyId>,
    /// Cursor of the next page; `None` on the last one.
    pub next_cursor: Option<String>,
    /// Number of keys that match on all pages, at most [`TOTAL_MAX`].
    pub total: u64,
    /// Whether more than [`TOTAL_MAX`] keys match.
    pub total_capped: bool,
    /// Position of the log that the page reflects.
    pub position: Position,
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is not a cursor, or a cursor of another query.
    #[error("the cursor does not belong to this query; start again without a cursor")]
    BadCursor,
    /// The rows cannot be read, or are not ready.
    #[error(transparent)]
    Store(#[from] store::Error),
}
