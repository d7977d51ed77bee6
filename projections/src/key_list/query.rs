//! What can be asked of the key list, and its answer.

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

/// Matches are counted up to here.
pub const TOTAL_MAX: u64 = 10_000;

/// Which keys, in which order, from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    /// Of this organization; of all without.
    pub organization_id: Option<OrganizationId>,
    /// Of one of these kinds of owner; of any when empty.
    pub owner: Vec<OwnerKind>,
    /// For this client organization.
    pub client_id: Option<OrganizationId>,
    /// Of this user.
    pub user_id: Option<UserId>,
    /// For this API.
    pub api_id: Option<ApiId>,
    /// For this environment.
    pub environment: Option<Environment>,
    /// In one of these states; in any but deleted when empty.
    pub status: Vec<KeyStatus>,
    /// Carrying this scope.
    pub scope: Option<String>,
    /// Whose name, description, id, start, last four or user id holds this text, in whatever case.
    pub text: Option<String>,
    /// Created later than this.
    pub created_after: Option<Timestamp>,
    /// Created earlier than this.
    pub created_before: Option<Timestamp>,
    /// Ending earlier than this.
    pub expires_before: Option<Timestamp>,
    /// Created earlier than this and not verified since, as far as the usage that the list was given tells.
    pub unused_since: Option<Timestamp>,
    /// Breaking one of these policies, each for the keys of its environment; none of them is looked at when empty.
    pub breaks: Vec<(Environment, Arc<Policy>)>,
    /// The order.
    pub sort: KeySort,
    /// How many keys at most; at least one.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// The instant at which states are judged.
    pub now: Timestamp,
}

impl KeyQuery {
    /// The newest 50 keys that are not deleted, of all organizations.
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
    /// Has the page begin after a key, which need not be among those that match, in the order of creation.
    #[must_use]
    pub fn after(mut self, key: &Key) -> Self {
        self.sort = if self.sort == KeySort::CreatedAsc { self.sort } else { KeySort::CreatedDesc };
        self.cursor = Some(cursor::encode(&self, &key.created_at.millis(), key.id));
        self
    }
}

/// The order of keys. Keys that are equal in it are in the order of their ids; a descending order is the ascending one
/// from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeySort {
    /// Oldest first.
    CreatedAsc,
    /// Newest first.
    #[default]
    CreatedDesc,
    /// By case-folded name, as far as its first 120 bytes go; keys without a name last.
    NameAsc,
    /// The other way round.
    NameDesc,
    /// Soonest to end first; keys without an end last.
    ExpiresAsc,
    /// The other way round.
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

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|row| row.1)
    }

    /// Its name.
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

/// Some of the keys that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<Key>,
    /// Those of the keys whose user has more active ones than the policy asked about allows, leaving out the oldest of
    /// them that it does allow.
    pub over_user_limit: HashSet<KeyId>,
    /// Where the next page starts; none after the last.
    pub next_cursor: Option<String>,
    /// How many keys match on all pages, at most [`TOTAL_MAX`].
    pub total: u64,
    /// Whether more match than `total` says.
    pub total_capped: bool,
    /// The position of the log that the answer is from.
    pub position: Position,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The cursor is none, or is one of another query.
    #[error("not a cursor of this query; start again without one")]
    BadCursor,
    /// The rows cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}
