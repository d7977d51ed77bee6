//! What the owners of files on disk share. It depends on nothing else in the crate.
//!
//! * [`background`]: threads that run at a lower priority than those that serve requests.
//! * `direct_file`: a file written past the page cache.
//! * `overlay`: a database over a file that is never written.
//! * [`storage_panic`]: recognizes panics of the storage engine, and names the damaged file.

pub mod background;
pub(crate) mod direct_file;
pub(crate) mod overlay;
pub mod storage_panic;
