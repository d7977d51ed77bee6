//! Stored projections: rows depend only on the log, and answers only on the rows.

// In a test, stopping at the failure gives the best message.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod audit_trail;
mod comparison;
mod determinism;
mod erasure;
mod exports;
mod history;
mod key_list;
mod rebuild;
mod runner;
