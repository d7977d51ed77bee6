//! The journal beside the database: records that are durable and not yet in the database.

pub(super) mod checkpointing;
pub(super) mod file;
pub(super) mod frame;
pub(super) mod pending;
pub(super) mod recovery;
pub(super) mod segment;
