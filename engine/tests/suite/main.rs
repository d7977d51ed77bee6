//! Tests of the ledger, and of the log's encoding and files, through the public interface.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test helpers may panic")]

mod damage;
mod disk;
mod faults;
mod golden;
mod idle_checkpoint;
mod model;
mod opening;
mod pending;
mod power_loss;
mod samples;
