//! What the owners of files on disk share. It depends on nothing else in the crate.
//!
//! * [`redb_file`]: opening the storage engine's files, classifying what fails, catching its panics.
//! * [`atomic_file`]: files that are replaced durably and as a whole.
//! * [`data_directory`]: where each file of an installation is.
//! * [`private_files`]: keeps other users of the machine out of them. [`private_memory`]: the same for a
//!   process. [`secret_source`]: where a program finds a secret.
//! * `direct_file` writes past the page cache; `overlay` reads a file without ever writing to it.
//! * [`storage_panic`]: what a program's panic hook says about the storage engine.
//! * [`background`]: threads with less priority than those that answer requests.

pub mod atomic_file;
pub mod background;
pub mod data_directory;
pub(crate) mod direct_file;
pub(crate) mod overlay;
pub mod private_files;
pub mod private_memory;
pub mod redb_file;
pub mod secret_source;
pub mod storage_panic;
