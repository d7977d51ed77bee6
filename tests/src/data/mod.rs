//! The data that tests send to the service, and independent checks of the answers.

pub mod documentation;
pub mod fixture;
pub mod history;
pub mod keys;
pub mod large_log;
pub mod standing_headers;
pub mod token;
