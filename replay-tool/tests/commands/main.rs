//! Drives the compiled tool on data directories, whole and broken ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod damage;
mod fixture;
mod projections;
mod show;
mod stats;
mod verify;
