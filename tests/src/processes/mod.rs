//! Programs that tests start: the service, webhook receivers, an OpenID provider, Node.js, openssl and curl.

pub mod binaries;
pub mod node;
pub mod openid_provider;
pub mod receiver;
pub mod server;
pub mod tls;
