//! What is asked of a token, and the answer.

use keyledger_engine::domain::key::OwnerKind;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use super::verified_key::VerifiedKey;

/// What a verification asks beside whether the token works; nothing is asked by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// The environment that the key must be for.
    pub environment: Option<Environment>,
    /// The id of the organization that the key must be good for: the one that it belongs to; for a partner's key also any
    /// client in the portfolio; for a client's key that client alone, which must be asked for.
    pub organization_id: Option<&'a str>,
    /// The id of the API that the key must be for.
    pub api_id: Option<&'a str>,
    /// The scopes that the key must carry, all of them.
    pub scopes: &'a [&'a str],
}

/// What a verification comes to: the first of these, in this order, that applies; `Valid` when none of the others does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Nothing speaks against it.
    Valid,
    /// The text is no token of a key: wrong form or wrong checksum.
    Malformed,
    /// No key has this token, or has it any more.
    NotFound,
    /// The key's organization was deleted; for a client's key also the client, or it left the portfolio.
    OrganizationInactive,
    /// The key is revoked, whether or not its time has come too.
    Revoked,
    /// The key's time has come.
    Expired,
    /// The key is for another environment.
    WrongEnvironment,
    /// The key is not good for the organization asked for; a client's key, also when none was.
    WrongOrganization,
    /// The key is for another API or for none, or its API was deleted.
    WrongApi,
    /// The key does not carry all scopes asked for.
    InsufficientScope,
}

impl Code {
    /// All codes.
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

    /// The code as it is shown.
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

/// The answer to a verification.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// What it comes to.
    pub code: Code,
    /// The key that the token is of; for every code but `Malformed` and `NotFound`.
    pub key: Option<&'a VerifiedKey>,
    /// The client organization that a client's key is for, or that a partner's key was found good for.
    pub client_id: Option<&'a str>,
    /// The verdict rests on all events up to here, and perhaps on some after it.
    pub position: Position,
}

impl Verdict<'_> {
    pub(super) const fn without_key(code: Code, position: Position) -> Self {
        Self { code, key: None, client_id: None, position }
    }
}

impl Question<'_> {
    /// What `key` comes to at `now`; `Valid` when nothing speaks against it.
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

    /// The client that `code` was said of.
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
