//! Tests of the ledger, and of the log's bytes and its file, from outside.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod damage;
mod disk;
mod faults;
mod golden;
mod model;
mod opening;
mod power_loss;
mod rest;
mod samples;
mod staged;
