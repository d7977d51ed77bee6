//! Permissions, and the ways in which callers authenticate.

pub(crate) mod addresses;
pub(crate) mod applications;
pub(crate) mod callers;
pub(crate) mod handing_on;
pub(crate) mod introspection;
pub(crate) mod oauth_clients;
pub(crate) mod openid;
pub(crate) mod openid_load;
pub(crate) mod organizations;
pub(crate) mod partners;
pub(crate) mod permissions;
pub(crate) mod portal;
pub(crate) mod rate_limits;
pub(crate) mod sessions;
pub(crate) mod strangers;
