//! The life of a key: issuing, verifying, listing, limits, and its end.

pub(crate) mod expiry;
pub(crate) mod large_organizations;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod policies;
pub(crate) mod revocation;
pub(crate) mod self_revocation;
pub(crate) mod usage;
pub(crate) mod verification;
