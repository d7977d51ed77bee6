//! How a record becomes bytes and is read back (docs/format.md).

mod encoding;
#[cfg(test)]
mod tests;
mod upcast;

pub use encoding::{Error, decode, decode_with, encode, encode_with};

/// No entry is larger: a bundle of entries states each one's length in 16 bits (C2SP tlog-tiles, "Log
/// entries").
pub const ENTRY_LEN_MAX: usize = 65_535;
