//! Endpoints about those who call: root keys and applications.

pub(crate) mod applications;
pub(crate) mod root_keys;
