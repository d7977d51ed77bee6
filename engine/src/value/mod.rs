//! Values: ids, positions, times, texts, tokens, and the closed sets of words. Plain data, no IO.

pub mod actor;
pub mod environment;
pub(crate) mod fixed_bytes;
pub mod id;
pub mod permission;
pub mod position;
pub mod role;
pub mod sha256;
pub(crate) mod stored_enum;
pub mod subject;
pub mod text;
pub mod time;
pub mod token;
