//! Clients of the service: HTTP, the console's forms, load.

pub mod console;
pub mod http;
pub mod load;
pub mod transcript;
