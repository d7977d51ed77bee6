//! What tests feed the service: keys, tokens, histories, logs.

pub mod documentation;
pub mod fixture;
pub mod history;
pub mod keys;
pub mod large_log;
pub mod token;
