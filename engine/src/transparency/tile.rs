//! Tiles and entry bundles, as defined by C2SP tlog-tiles.

use std::fmt;

use super::tree::stored_hashes;
use crate::log::merkle::TILE_HEIGHT;
use crate::log::{Error, LogReader};
use crate::value::position::Position;

/// Number of hashes in a full tile, and of entries in a full bundle.
pub const TILE_WIDTH: u16 = 1 << TILE_HEIGHT;
/// Maximum level of tiles in a path.
const LEVEL_MAX: u8 = 63;

/// Content of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Hashes at this level of tiles. Level 0 has the hashes of leaves.
    Hashes(u8),
    /// Entries: a bundle.
    Entries,
}

/// Path of a tile: `<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TilePath {
    /// What the tile contains.
    pub content: Content,
    /// Index within its level, from the left.
    pub index: u64,
    /// Number of hashes or entries; [`TILE_WIDTH`] for a full tile.
    pub width: u16,
}

impl TilePath {
    /// Parses the part of a URL path after `/tile/`; `None` when it is malformed.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (content, rest) = path.split_once('/')?;
        let content = match content {
            "entries" => Content::Entries,
            level => Content::Hashes(number(level, LEVEL_MAX.into())?.try_into().ok()?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = number(width, u64::from(TILE_WIDTH) - 1)?;
                (index, u16::try_from(width).ok().filter(|width| *width > 0)?)
            }
            None => (rest, TILE_WIDTH),
        };
        Some(Self { content, index: grouped(index)?, width })
    }

    /// Whether the tile is full, and so never changes again.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Whether a tree of `size` contains the tile.
    #[must_use]
    pub fn is_in(&self, size: u64) -> bool {
        let shift = match self.content {
            Content::Hashes(level) => u32::from(level) * u32::from(TILE_HEIGHT),
            Content::Entries => 0,
        };
        let hashes = size.checked_shr(shift).unwrap_or(0);
        let end = self.index.checked_mul(TILE_WIDTH.into()).and_then(|it| it.checked_add(self.width.into()));
        end.is_some_and(|end| end <= hashes)
    }

    /// Reads the tile from a log; `None` when the log does not have it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn read(&self, log: &dyn LogReader) -> Result<Option<Vec<u8>>, Error> {
        if !self.is_in(log.head()?.get()) {
            return Ok(None);
        }
        let (first, count) = (self.index * u64::from(TILE_WIDTH), usize::from(self.width));
        let bytes = match self.content {
            Content::Hashes(level) => stored_hashes(log, level * TILE_HEIGHT, first, count)?.concat(),
            Content::Entries => {
                let entries = log.read_entries(Position::new(first), count)?;
                let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 2).sum());
                for entry in entries {
                    // The record format limits entries to lengths that fit 16 bits.
                    bytes.extend(u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
                    bytes.extend(entry);
                }
                bytes
            }
        };
        Ok(Some(bytes))
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes(level) => write!(f, "{level}/")?,
            Content::Entries => f.write_str("entries/")?,
        }
        let mut groups = vec![format!("{:03}", self.index % 1_000)];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1_000));
            rest /= 1_000;
        }
        groups.reverse();
        f.write_str(&groups.join("/"))?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// Parses a decimal number without leading zeros, at most `max`.
fn number(text: &str, max: u64) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| plain && *number <= max)
}

/// Parses a number in groups of three digits, each but the last prefixed with `x`, without leading zero
/// groups.
fn grouped(text: &str) -> Option<u64> {
    let mut groups = text.split('/').peekable();
    let mut number = 0_u64;
    let mut is_first = true;
    while let Some(group) = groups.next() {
        let is_last = groups.peek().is_none();
        let digits = if is_last { group } else { group.strip_prefix('x')? };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if is_first && !is_last && digits == "000" {
            return None;
        }
        is_first = false;
        number = number.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(number)
}
