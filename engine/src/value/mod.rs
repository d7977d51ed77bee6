//! Plain data: ids, positions, times, texts, tokens and closed sets of words. No IO, and nothing of the rest
//! of the crate.

pub mod actor;
pub mod environment;
pub(crate) mod fixed_bytes;
pub mod id;
pub mod permission;
pub mod position;
pub mod role;
pub(crate) mod stored_enum;
pub mod subject;
pub mod text;
pub mod time;
pub mod token;
mod token_strength;
