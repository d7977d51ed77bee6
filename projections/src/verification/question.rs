//! Input and outcome of a verification.

use keyledger_engine::domain::key::OwnerKind;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use super::verified_key::VerifiedKey;

/// What a verification requires beyond a valid token. The default requires nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// Environment that the key must be for.
    pub environment: Option<Environment>,
    /// Id of the organization that the key must be valid for: the one that it belongs to; for a partner's key
    /// also any client in the portfolio; for a client's key only that client, which is required.
    pub organization_id: Option<&'a str>,
    /// Id of the API that the key must be for.
    pub api_id: Option<&'a str>,
    /// Scopes that the key must all carry.
    pub scopes: &'a [&'a str],
}

/// Outcome of a verification: the first of these, in this order, that applies; `Valid` when no other one
/// does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The token is valid and meets the question.
    Valid,
    /// The text is not a key's token: its form or its checksum is wrong.
    Malformed,
    /// No key has this token any more, or ever had it.
    NotFound,
    /// The key's organization is deleted; or, for a client's key, the client is deleted or has left the
    /// portfolio.
    OrganizationInactive,
    /// The key is revoked, expired or not.
    Revoked,
    /// The key has expired.
    Expired,
    /// The key is for another environment.
    WrongEnvironment,
    /// The key is not valid for the requested organization; a client's key also when none is requested.
    WrongOrganization,
    /// The key is for another API or for none, or its API is deleted.
    WrongApi,
    /// The key does not carry all requested scopes.
    InsufficientScope,
}

impl Code {
    /// All codes, in the order in which they are checked; `Valid` first.
    pub const ALL: [Self; 10] = [
        Self::Valid,
        Self::Malformed,
        Self::NotFound,
        Self::OrganizationInactive,
        Self::Revoked,
        Self::Expired,
        Self::WrongEnvironment,
        Self::WrongOrganization,
        Self::WrongApi,
        Self::InsufficientScope,
    ];

    /// Returns the code as the HTTP interface spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Malformed => "MALFORMED",
            Self::NotFound => "NOT_FOUND",
            Self::OrganizationInactive => "ORGANIZATION_INACTIVE",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
            Self::WrongEnvironment => "WRONG_ENVIRONMENT",
            Self::WrongOrganization => "WRONG_ORGANIZATION",
            Self::WrongApi => "WRONG_API",
            Self::InsufficientScope => "INSUFFICIENT_SCOPE",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Result of a verification.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// Outcome.
    pub code: Code,
    /// The key with this token; present for every code but `Malformed` and `NotFound`.
    pub key: Option<&'a VerifiedKey>,
    /// Client organization of a client's key, or the client that a partner's key was found valid for.
    pub client_id: Option<&'a str>,
    /// The verdict includes all events up to this position, and possibly later ones.
    pub position: Position,
}

impl Verdict<'_> {
    pub(super) const fn without_key(code: Code, position: Position) -> Self {
        Self { code, key: None, client_id: None, position }
    }
}

impl Question<'_> {
    /// Returns the outcome for `key` at `now`.
    pub(super) fn judge(&self, key: &VerifiedKey, now: Timestamp) -> Code {
        if key.group().is_stopped() {
            return Code::OrganizationInactive;
        }
        if key.is_revoked() {
            return Code::Revoked;
        }
        if key.is_expired(now) {
            return Code::Expired;
        }
        if self.environment.is_some_and(|asked| asked != key.environment()) {
            return Code::WrongEnvironment;
        }
        if !self.concerns_organization_of(key) {
            return Code::WrongOrganization;
        }
        if key.api().is_some_and(|api| api.is_deleted())
            || self.api_id.is_some_and(|asked| key.api().is_none_or(|api| api.id_text() != asked))
        {
            return Code::WrongApi;
        }
        if !self.scopes.iter().all(|asked| key.scopes().iter().any(|scope| scope.as_str() == *asked)) {
            return Code::InsufficientScope;
        }
        Code::Valid
    }

    fn concerns_organization_of(&self, key: &VerifiedKey) -> bool {
        let own = key.organization_id().as_str();
        match (key.owner(), self.organization_id) {
            (OwnerKind::Client, asked) => asked == key.client_id().map(OrganizationId::as_str),
            (_, None) => true,
            (OwnerKind::Partner, Some(asked)) => asked == own || key.group().has_client(asked),
            (_, Some(asked)) => asked == own,
        }
    }

    /// Returns the client that the outcome is about.
    pub(super) fn client_of<'a>(&'a self, key: &'a VerifiedKey, code: Code) -> Option<&'a str> {
        match key.owner() {
            OwnerKind::Client => key.client_id().map(OrganizationId::as_str),
            OwnerKind::Partner if code == Code::Valid => {
                self.organization_id.filter(|asked| *asked != key.organization_id().as_str())
            }
            _ => None,
        }
    }
}
