//! Keyledger's HTTP interface: a thin layer that turns requests into commands and queries.
//!
//! The binary and the tests need one entry point, [`cli::run`]. The rest is private to the crate:
//!
//! * `cli`: the command line. `service`: everything assembled from a data directory. `jobs`: what runs
//!   without a request.
//! * `http`: addresses, TLS, connections, the router, and the fast path ahead of it.
//! * `admission`: what is refused so that no caller takes what all need.
//! * `auth`: who calls, how they prove it, and what they may do. `auth::access` is the one table of rights.
//! * `evidence`: the security log: who tried to get in, who got in, what was read or refused.
//! * `request` and `answer`: reading requests and writing answers. `answer::problem` has every error's status
//!   and code.
//! * `routes`: the endpoints, a folder for each kind of object. `openapi`: the document and the pages that
//!   show it.
//! * `compat`: the endpoints of other key services, translated.
//! * `console`: the pages for people, built on the same endpoints.
//! * `outbound`: requests that the service sends.

mod admission;
mod answer;
mod auth;
pub mod cli;
mod compat;
mod console;
mod evidence;
mod http;
mod jobs;
mod openapi;
mod outbound;
mod request;
mod routes;
mod service;
