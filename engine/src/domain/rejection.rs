//! The rejections: one name for each reason for which a rule rejects a command.

use crate::domain::organization::OrganizationKind;
use crate::domain::policy::Breach;
use crate::value::position::Version;
use crate::value::role::Role;

/// The reason why the rules reject a command. Nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No key has this id.
    #[error("no key has this id")]
    KeyUnknown,
    /// A key with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("a key with this id already exists")]
    KeyExists,
    /// The key was deleted, or its organization was.
    #[error("the key was deleted; deleted keys cannot be changed")]
    KeyDeleted,
    /// The key has expired.
    #[error("the key has expired; an expired key can only be edited or deleted")]
    KeyExpired,
    /// The key is revoked and has to be reactivated first.
    #[error("the key is revoked; reactivate it first")]
    KeyRevoked,
    /// The key is already revoked.
    #[error("the key is revoked already")]
    KeyAlreadyRevoked,
    /// Only a revoked key can be reactivated.
    #[error("the key is not revoked, so there is nothing to reactivate")]
    KeyNotRevoked,
    /// The expiry is not in the future.
    #[error("must be in the future")]
    ExpiryNotInFuture,
    /// The key's API does not have these scopes, given by their index in the command.
    #[error("the API does not have these scopes")]
    ScopesUnknown(Vec<usize>),
    /// No organization has this id.
    #[error("no organization has this id")]
    OrganizationUnknown,
    /// An organization with this id exists, or existed.
    #[error("an organization with this id already exists, or existed and was deleted")]
    OrganizationExists,
    /// The organization was deleted.
    #[error("the organization was deleted")]
    OrganizationDeleted,
    /// Organizations of this kind may not create keys.
    #[error("an organization of kind {0} may not create keys; the kinds test, paid and partner may")]
    OrganizationKindNotAllowed(OrganizationKind),
    /// Only an organization of kind partner has a portfolio and keys for it.
    #[error("an organization of kind {0} has no portfolio; only kind partner has one")]
    NotAPartner(OrganizationKind),
    /// An organization cannot be in its own portfolio.
    #[error("an organization cannot be its own client")]
    ClientIsPartner,
    /// The client of a new key is not in the partner's portfolio, or was deleted.
    #[error("the client organization is not in the partner's portfolio; link it first")]
    ClientNotInPortfolio,
    /// The client to unlink is not in the portfolio.
    #[error("the client organization is not in the partner's portfolio")]
    ClientNotLinked,
    /// The organization's policy does not allow the key or the change to it.
    #[error("the organization's policy does not allow it")]
    PolicyViolated(Vec<Breach>),
    /// The organization has no policy for the environment.
    #[error("the organization has no policy for this environment")]
    PolicyUnknown,
    /// No API has this id.
    #[error("no API has this id")]
    ApiUnknown,
    /// An API with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("an API with this id already exists")]
    ApiExists,
    /// The API was deleted.
    #[error("the API was deleted")]
    ApiDeleted,
    /// No root key has this id.
    #[error("no root key has this id")]
    RootKeyUnknown,
    /// A root key with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("a root key with this id already exists")]
    RootKeyExists,
    /// The root key is already revoked, and revoking a root key is final.
    #[error("the root key is revoked already")]
    RootKeyAlreadyRevoked,
    /// No application has this id.
    #[error("no application has this id")]
    ApplicationUnknown,
    /// An application with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("an application with this id already exists")]
    ApplicationExists,
    /// The application was deleted.
    #[error("the application was deleted")]
    ApplicationDeleted,
    /// An erasure with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("an erasure with this id already exists")]
    ErasureExists,
    /// No portal session has this id.
    #[error("no portal session has this id")]
    PortalSessionUnknown,
    /// A portal session with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("a portal session with this id already exists")]
    PortalSessionExists,
    /// The portal session was ended, or it or its link has expired.
    #[error("the portal session has ended")]
    PortalSessionEnded,
    /// No webhook has this id.
    #[error("no webhook has this id")]
    WebhookUnknown,
    /// A webhook with this id exists. Ids are drawn at random, so this is a repeated command.
    #[error("a webhook with this id already exists")]
    WebhookExists,
    /// The webhook was deleted.
    #[error("the webhook was deleted")]
    WebhookDeleted,
    /// The link was already followed; a link works once.
    #[error("the link was already used; ask for a new one")]
    PortalLinkUsed,
    /// The role sees the keys of one user, so the session needs that user.
    #[error("the role {0} needs a user_id: it sees the keys of that user only")]
    UserRequired(Role),
    /// The aggregate's version is not the expected one.
    #[error("the version is now {actual}, not {expected}; read the object again and retry")]
    VersionConflict {
        /// The version that the caller expected.
        expected: Version,
        /// The current version.
        actual: Version,
    },
}
