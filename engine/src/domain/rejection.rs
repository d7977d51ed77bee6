//! Why a command was refused: every rule's "no" by its name.

use crate::domain::organization::OrganizationKind;
use crate::domain::policy::Breach;
use crate::value::position::Version;
use crate::value::role::Role;

/// A command that the rules refuse. Nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No key has this id.
    #[error("no key has this id")]
    KeyUnknown,
    /// A key with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("a key with this id exists already")]
    KeyExists,
    /// The key was deleted, or its organization was.
    #[error("the key was deleted; deleted keys cannot be changed")]
    KeyDeleted,
    /// The key's time has come.
    #[error("the key has expired; an expired key can only be deleted")]
    KeyExpired,
    /// The key is revoked and must be reactivated before it can do this.
    #[error("the key is revoked; reactivate it first")]
    KeyRevoked,
    /// The key is revoked already.
    #[error("the key is revoked already")]
    KeyAlreadyRevoked,
    /// Only a revoked key can be reactivated.
    #[error("the key is not revoked, so there is nothing to reactivate")]
    KeyNotRevoked,
    /// An expiry that is not in the future.
    #[error("must be in the future")]
    ExpiryNotInFuture,
    /// Scopes that the key's API does not have, by their index in the command.
    #[error("the API does not have these scopes")]
    ScopesUnknown(Vec<usize>),
    /// No organization has this id.
    #[error("no organization has this id")]
    OrganizationUnknown,
    /// An organization with this id exists, or existed.
    #[error("an organization with this id exists already, or existed and was deleted")]
    OrganizationExists,
    /// The organization was deleted.
    #[error("the organization was deleted")]
    OrganizationDeleted,
    /// Organizations of this kind may not have new keys.
    #[error("an organization of kind {0} may not create keys; kinds test, paid and partner may")]
    OrganizationKindNotAllowed(OrganizationKind),
    /// Only an organization of kind partner has a portfolio, and keys for it.
    #[error("an organization of kind {0} has no portfolio; only one of kind partner has")]
    NotAPartner(OrganizationKind),
    /// An organization cannot be in its own portfolio.
    #[error("an organization cannot be a client of its own")]
    ClientIsPartner,
    /// The client for which a key is to be made is not in the partner's portfolio, or was deleted.
    #[error("the client organization is not in the partner's portfolio; link it first")]
    ClientNotInPortfolio,
    /// The client that is to leave the portfolio is not in it.
    #[error("the client organization is not in the partner's portfolio")]
    ClientNotLinked,
    /// The organization's policy does not allow the key, or what is to change of it.
    #[error("the organization's policy does not allow it")]
    PolicyViolated(Vec<Breach>),
    /// The organization has no policy for the environment.
    #[error("the organization has no policy for this environment")]
    PolicyUnknown,
    /// No API has this id.
    #[error("no API has this id")]
    ApiUnknown,
    /// An API with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("an API with this id exists already")]
    ApiExists,
    /// The API was deleted.
    #[error("the API was deleted")]
    ApiDeleted,
    /// No root key has this id.
    #[error("no root key has this id")]
    RootKeyUnknown,
    /// A root key with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("a root key with this id exists already")]
    RootKeyExists,
    /// The root key is revoked already, and revoking a root key is final.
    #[error("the root key is revoked already")]
    RootKeyAlreadyRevoked,
    /// No application has this id.
    #[error("no application has this id")]
    ApplicationUnknown,
    /// An application with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("an application with this id exists already")]
    ApplicationExists,
    /// The application was deleted.
    #[error("the application was deleted")]
    ApplicationDeleted,
    /// An erasure with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("an erasure with this id exists already")]
    ErasureExists,
    /// No portal session has this id.
    #[error("no portal session has this id")]
    PortalSessionUnknown,
    /// A portal session with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("a portal session with this id exists already")]
    PortalSessionExists,
    /// The portal session was ended, or its time or its link's has come.
    #[error("the portal session has ended")]
    PortalSessionEnded,
    /// No webhook has this id.
    #[error("no webhook has this id")]
    WebhookUnknown,
    /// A webhook with this id exists; ids are drawn at random, so this is a repeated command.
    #[error("a webhook with this id exists already")]
    WebhookExists,
    /// The webhook was deleted.
    #[error("the webhook was deleted")]
    WebhookDeleted,
    /// A link is followed once.
    #[error("the link was followed before; ask for a new one")]
    PortalLinkUsed,
    /// The role sees the keys of one user, so it has to be said which.
    #[error("the role {0} needs a user_id: it sees the keys of that user")]
    UserRequired(Role),
    /// The caller expected another version.
    #[error("the version is {actual} now, not {expected}; read it again and decide anew")]
    VersionConflict {
        /// What the caller expected.
        expected: Version,
        /// What it is.
        actual: Version,
    },
}
