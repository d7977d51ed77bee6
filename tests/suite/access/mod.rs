//! Permissions, and the ways in which callers authenticate.

pub(crate) mod addresses;
pub(crate) mod applications;
pub(crate) mod callers;
pub(crate) mod handing_on;
pub(crate) mod introspection;
pub(crate) mod last_use;
pub(crate) mod oauth_clients;
pub(crate) mod organizations;
pub(crate) mod partners;
pub(crate) mod people;
pub(crate) mod permissions;
pub(crate) mod rate_limits;
pub(crate) mod security_log;
pub(crate) mod strangers;
