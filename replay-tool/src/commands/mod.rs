//! The commands, a file each.

pub(crate) mod backup;
pub(crate) mod diff;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod proof;
pub(crate) mod rebuild;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod verify;
