//! The policies: what is limited, and for whom.

use super::quota::Quota;

/// Declares the policies with their name and whose requests count together.
macro_rules! policies {
    ($($(#[$doc:meta])* $policy:ident $name:literal $whose:literal;)*) => {
        /// A limit. Its name is that in `RateLimit-Policy` and in the option `--rate-limit-<name>`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Policy {
            $($(#[$doc])* $policy,)*
        }

        impl Policy {
            /// All policies, in the order of their numbers.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$policy),*];

            /// The name.
            #[must_use]
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$policy => $name,)* }
            }

            /// Whose requests count together.
            #[must_use]
            pub(crate) const fn whose(self) -> &'static str {
                match self { $(Self::$policy => $whose,)* }
            }
        }
    };
}

policies! {
    /// Changes by one person: a portal session, or a user of the OpenID provider.
    SessionWrites "session-writes" "one person";
    /// Changes by one root key or application that is bound to an organization.
    Writes "writes" "one caller";
    /// Changes by all callers that are bound to one organization.
    OrganizationWrites "organization-writes" "one organization";
    /// Reads by one caller that is bound to an organization.
    Reads "reads" "one caller";
    /// Reads by all callers that are bound to one organization.
    OrganizationReads "organization-reads" "one organization";
    /// Changes by one caller that is not bound to an organization.
    OperatorWrites "operator-writes" "one caller";
    /// Reads by one caller that is not bound to an organization.
    OperatorReads "operator-reads" "one caller";
    /// Tokens verified by one caller.
    Verifications "verifications" "one caller";
    /// Requests of bound callers and of callers without a credential from one address.
    Address "address" "one address";
    /// Requests to endpoints that need no credential from one address.
    Anonymous "anonymous" "one address";
    /// Requests with an invalid credential, or none where one is needed, from one address.
    FailedAuthentications "failed-authentications" "one address";
    /// Attempts to sign in to the console from one address.
    SignIns "sign-ins" "one address";
}

/// The number of policies.
pub(crate) const COUNT: usize = Policy::ALL.len();

/// The quota of each policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quotas([Quota; COUNT]);

impl Quotas {
    /// Asks for the quota of each policy.
    #[must_use]
    pub(crate) fn new(of: impl Fn(Policy) -> Quota) -> Self {
        let mut all = [Quota::NONE; COUNT];
        for (place, policy) in all.iter_mut().zip(Policy::ALL) {
            *place = of(*policy);
        }
        Self(all)
    }

    /// The quota of a policy.
    #[must_use]
    pub(crate) fn of(&self, policy: Policy) -> Quota {
        self.0.get(policy as usize).copied().unwrap_or(Quota::NONE)
    }
}
