//! Processes that tests start: the service, receivers, an OpenID provider, Node.js.

pub mod binaries;
pub mod node;
pub mod openid_provider;
pub mod receiver;
pub mod server;
pub mod tls;
