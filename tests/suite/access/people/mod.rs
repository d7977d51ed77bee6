//! People: portal links, users of an OpenID provider, and their sessions.

pub(crate) mod openid;
pub(crate) mod openid_load;
pub(crate) mod portal;
pub(crate) mod sessions;
