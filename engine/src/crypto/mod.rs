//! Cryptographic building blocks of more than one module: hashes, authentication codes and comparisons that
//! take the same time whatever they compare.

pub mod constant_time;
pub mod mac;
pub mod sha256;
