//! The support code of the tests and benchmarks, which drive the real binaries from outside.
//!
//! * [`processes`]: programs that tests start: the service, a webhook receiver, an OpenID provider, Node.js,
//!   openssl.
//! * [`client`]: an HTTP client over plain sockets, a browser without scripts, a load generator, and the
//!   [`transcript`](client::transcript) that searches everything a server wrote for leaked secrets after
//!   every test.
//! * [`data`]: the data that tests send, and second opinions on the answers: the token format,
//!   docs/openapi.json, the history check of revocations.
//! * [`poll`] waits with a bound, [`seed`] makes random tests repeatable.
//!
//! Nothing here uses the product's own code. Token formats, headers and answers are implemented a second time
//! from the documentation, so that a mistake in the product shows as a difference. The one exception is
//! [`data::large_log`], which writes a log through the engine for a server to start from.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

pub mod client;
pub mod data;
pub mod poll;
pub mod processes;
pub mod seed;
