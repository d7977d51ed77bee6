//! What every file on disk shares, whichever component owns it.

pub mod background;
pub(crate) mod direct_file;
pub(crate) mod overlay;
pub mod storage_panic;
