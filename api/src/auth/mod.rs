//! Authentication and authorization: who a caller is, how they prove it, and what they may do.

pub(crate) mod access;
pub(crate) mod access_token;
pub(crate) mod caller;
pub(crate) mod console_session;
pub(crate) mod grant;
pub(crate) mod last_credential;
pub(crate) mod oidc;
pub(crate) mod origin;
pub(crate) mod principal;
pub(crate) mod session_cookie;
pub(crate) mod session_limits;
pub(crate) mod session_use;
pub(crate) mod signing_keys;
pub(crate) mod trusted_proxies;
