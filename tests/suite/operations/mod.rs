//! Running the service: its data directory, backups, rebuilds, the README's commands, and the examples.

pub(crate) mod admin_listener;
pub(crate) mod backup;
pub(crate) mod bounds;
pub(crate) mod data_directory;
pub(crate) mod deployment;
pub(crate) mod examples;
pub(crate) mod index_snapshot;
pub(crate) mod key_encryption;
pub(crate) mod newcomer;
pub(crate) mod private_files;
pub(crate) mod process;
pub(crate) mod rebuild;
pub(crate) mod secrets;
pub(crate) mod stopped;
