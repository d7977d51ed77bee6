//! Runs the compiled tool on intact and on damaged data directories.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod damage;
mod fixture;
mod projections;
mod show;
mod stats;
mod verify;
