//! The stored projections: rows that depend on the log alone, and answers that depend on the rows alone.

// A test says what went wrong best by stopping right there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod audit_trail;
mod determinism;
mod erasure;
mod exports;
mod history;
mod key_list;
mod rebuild;
mod runner;
