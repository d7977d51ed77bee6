//! Endpoints about those who call: root keys and applications.

pub mod applications;
pub mod root_keys;
