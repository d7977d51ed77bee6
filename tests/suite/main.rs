//! All tests that drive the real binaries from outside: one test binary, a folder per theme.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests a panic is the way to fail"
)]

mod access;
mod audit;
mod compat;
mod console;
mod faults;
mod http;
mod keys;
mod operations;
mod webhooks;
