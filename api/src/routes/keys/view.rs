//! Keys as answers show them.

use keyledger_engine::domain::key::Key;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Description, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Token;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::request::execution::Outcome;

/// A key. Absent values are `null`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(crate) struct KeyView<'a> {
    /// `key_<ULID>`. Rotation keeps it.
    #[schema(value_type = String, example = "key_01KAJX7Q5M3J6S2Y9W8V4T1R0P")]
    id: KeyId,
    /// The organization it belongs to.
    organization_id: &'a str,
    /// For whom it is: `organization`; `user`: one user of the organization; `partner`: every client in the
    /// organization's portfolio; `client`: one of these clients.
    #[schema(example = "organization")]
    owner: &'static str,
    /// The client organization of a client's key.
    client_organization_id: Option<&'a str>,
    /// The user of a user's key.
    user_id: Option<&'a str>,
    /// The display name.
    name: Option<&'a str>,
    /// Its purpose.
    description: Option<&'a str>,
    /// The environment in which it is valid: `preview` or `production`.
    #[schema(example = "production")]
    environment: &'static str,
    /// The API it is for, if any.
    #[schema(value_type = Option<String>)]
    api_id: Option<ApiId>,
    /// The scopes it carries.
    #[schema(value_type = Vec<String>)]
    scopes: &'a [Scope],
    /// The caller's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// `active`, `revoked`, `expired` or `deleted`.
    #[schema(example = "active")]
    status: &'static str,
    /// The first characters of its token.
    #[schema(example = "kl_live_ab12")]
    start: &'a str,
    /// The last four characters of its token.
    #[schema(example = "wxyz")]
    last_four: &'a str,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it expires.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was revoked, unless it was reactivated since.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When it was last verified, with any verdict. `null` in an earlier state of the key.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_verified_at: Option<Timestamp>,
    /// The number of its events; the `ETag`.
    version: u32,
    /// The id of the actor that created it.
    created_by: &'a str,
}

impl<'a> KeyView<'a> {
    /// Returns the key with its status at `now`.
    #[must_use]
    pub(crate) fn of(key: &'a Key, now: Timestamp) -> Self {
        Self {
            id: key.id,
            organization_id: key.organization_id.as_str(),
            owner: key.owner.kind.as_str(),
            client_organization_id: key.owner.client_id.as_ref().map(OrganizationId::as_str),
            user_id: key.user_id.as_ref().map(UserId::as_str),
            name: key.name.as_ref().map(Name::as_str),
            description: key.description.as_ref().map(Description::as_str),
            environment: key.environment.as_str(),
            api_id: key.api_id,
            scopes: &key.scopes,
            metadata: key.metadata.as_ref().and_then(|it| serde_json::from_str(it.as_json()).ok()),
            status: key.status(now).as_str(),
            start: &key.hint.start,
            last_four: &key.hint.last_four,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_verified_at: None,
            version: key.version.get(),
            created_by: &key.created_by,
        }
    }

    /// Adds the time of the last verification.
    #[must_use]
    pub(crate) const fn last_verified(mut self, at: Option<Timestamp>) -> Self {
        self.last_verified_at = at;
        self
    }
}

/// A new key, or a key with its new token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyWithToken<'a> {
    /// The key.
    #[schema(value_type = KeyView)]
    pub key: KeyView<'a>,
    /// The token. It is shown only once, and is absent when the request repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "kl_live_...")]
    pub token: Option<&'a str>,
}

impl<'a> KeyWithToken<'a> {
    /// Returns the key of a creation or a rotation. A replayed one has no token to show: the drawn token is
    /// not the key's.
    #[must_use]
    pub(crate) fn of(outcome: &'a Outcome<Key>, token: &'a Token) -> Self {
        let token = (!outcome.replayed).then(|| token.expose());
        Self { key: KeyView::of(&outcome.object, outcome.time), token }
    }
}
