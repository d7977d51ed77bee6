//! All tests that drive the real binaries from outside: one test binary, a module per theme.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests a panic is the way to fail"
)]

mod applications;
mod audit;
mod backup;
mod bad_input;
mod callers;
mod connections;
mod console;
mod console_audit;
mod console_in_browser;
mod console_operators;
mod console_overview;
mod crash;
mod damaged_data;
mod data_directory;
mod erasure;
mod expiry;
mod expiry_notices;
mod exports;
mod gateway;
mod index_snapshot;
mod interruptions;
mod introspection;
mod kinde;
mod kintsugi;
mod large_organizations;
mod lifecycle;
mod list;
mod log_verification;
mod newcomer;
mod oauth_clients;
mod openapi;
mod openid;
mod organizations;
mod partners;
mod permissions;
mod policies;
mod portal;
mod process;
mod rebuild;
mod requests;
mod revocation;
mod self_revocation;
mod stopped;
mod strangers;
mod tls;
mod transparency;
mod unix_socket;
mod usage;
mod verification;
mod webhook_failures;
mod webhooks;
mod witnesses;
