//! What the tests and benchmarks share: real servers started as processes, a small HTTP client, and the collector that
//! makes every test also a search for leaked secrets.
//!
//! Nothing here uses the product's own code. What the contract says of tokens, headers and answers is written down a
//! second time, so that a mistake shows as a difference. Only [`large_log`] writes through the engine what a binary then
//! starts from.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests a panic is the way to fail"
)]

pub mod client;
pub mod data;
pub mod poll;
pub mod processes;
pub mod seed;
