//! Clients of the service: plain HTTP, the console's forms, load.

pub mod connection;
pub mod console;
pub mod http;
pub mod load;
pub mod source;
pub mod stream;
pub mod transcript;
