//! Who calls, how they prove it, and what they may do.

pub mod access;
pub mod access_token;
pub mod caller;
pub mod console_session;
pub mod last_credential;
pub mod oidc;
pub mod origin;
pub mod principal;
pub mod session_cookie;
pub mod signing_keys;
