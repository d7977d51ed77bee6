//! What callers prove themselves with, and how that ends.

/// A kind of credential, by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    RootKey,
    /// An application's secret.
    ClientSecret,
    AccessToken,
    /// A token of the OpenID provider, or its answer at sign-in.
    OpenIdToken,
    PortalLink,
    /// The cookie of a portal or console session.
    Session,
    /// A text in none of these forms.
    Other,
}

impl Credential {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::RootKey,
        Self::ClientSecret,
        Self::AccessToken,
        Self::OpenIdToken,
        Self::PortalLink,
        Self::Session,
        Self::Other,
    ];

    /// The name in metrics and in the security log.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RootKey => "root_key",
            Self::ClientSecret => "client_secret",
            Self::AccessToken => "access_token",
            Self::OpenIdToken => "openid_token",
            Self::PortalLink => "portal_link",
            Self::Session => "session",
            Self::Other => "other",
        }
    }
}

/// How an authentication ended: well, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Accepted,
    /// It does not have the form of its kind, or its checksum is wrong.
    Malformed,
    /// It has the right form, and nobody has it.
    Unknown,
    /// It was not issued for this service, or was changed.
    Invalid,
    Expired,
    /// It was valid once, and was revoked, replaced, or belongs to something that was deleted.
    Revoked,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub(crate) const ALL: [Self; 6] =
        [Self::Accepted, Self::Malformed, Self::Unknown, Self::Invalid, Self::Expired, Self::Revoked];

    /// The name in metrics and in the security log.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
