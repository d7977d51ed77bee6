//! The codec: encodes records as bytes and decodes them (docs/format.md).

mod encoding;
#[cfg(test)]
mod tests;
mod upcast;

pub use encoding::{Error, decode, decode_with, encode, encode_with};

/// The maximum length of an entry in bytes: a bundle of entries gives each length in 16 bits (C2SP
/// tlog-tiles, "Log entries").
pub const ENTRY_LEN_MAX: usize = 65_535;
