//! The format of a snapshot file: a header, the index as MessagePack, and an authentication code.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `KLVERIFY` |
//! | 4 | version, little-endian |
//! | 16 | id of the log that the index was built from |
//! | 8 | position of the last record applied, little-endian |
//! | 32 | leaf hash of the log's entry at that position; zeros before the first |
//! | … | MessagePack: the [`Counts`], then that many values of each kind |
//! | 32 | HMAC-SHA-256 of all bytes before it, with a key that is derived from the log's signing key |
//!
//! A snapshot only saves time. Whatever is wrong with one, the index is replayed from the log instead. But it
//! decides who gets in, so only the service itself may have written it: the code shows that, as long as the
//! signing key is not in the wrong hands. A service that has started from a snapshot compares it with a
//! [replay](super::super::comparison) as well.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use keyledger_engine::domain::key::{OwnerKind, PreviousToken};
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, EventId, KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Digest;
use serde::{Deserialize, Serialize};

use crate::verification::VerificationIndex;
use crate::verification::verified_key::KeyText;

pub(super) const MAGIC: [u8; 8] = *b"KLVERIFY";
/// Increase it with every change of the layout below, or of the engine's aggregates, which are stored as they
/// are.
pub(super) const VERSION: u32 = 9;
pub(super) const HEADER_LEN: usize = 8 + 4 + 16 + 8 + 32;
pub(super) const BUFFER_LEN: usize = 1 << 20;

/// An index loaded from a snapshot.
pub struct Snapshot {
    /// The log that the index was built from.
    pub source: SourceId,
    /// Position of the last record applied to the index.
    pub position: Position,
    /// Leaf hash of the log's entry at that position; zeros before the first. A log with another entry there
    /// is not the one that the index was built from, even if the ids match.
    pub entry_hash: [u8; 32],
    /// The index.
    pub index: VerificationIndex,
}

/// Why a snapshot was not saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read or written, or does not exist.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not a snapshot, has another version, or is damaged.
    #[error("not a usable snapshot: {0}")]
    Unusable(Cow<'static, str>),
    /// The file is a snapshot of this version, but its authentication code is not by the log's key.
    #[error(
        "its authentication code does not match: it was altered, is damaged, or belongs to another log key"
    )]
    Unauthentic,
    /// The index cannot be saved.
    #[error("the index cannot be saved: {0}")]
    Unsavable(Cow<'static, str>),
    /// Saving was interrupted: a subject was erased meanwhile, too many changes arrived to keep in memory, or
    /// the caller asked to stop.
    #[error("saving was interrupted")]
    Interrupted,
}

/// What the key of the authentication code is derived for.
pub const MAC_PURPOSE: &str = "keyledger verification snapshot 1";

/// Number of values of each kind in the file, and totals that size the index's maps.
#[derive(Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) groups: usize,
    pub(super) client_links: usize,
    pub(super) apis: usize,
    pub(super) root_keys: usize,
    pub(super) applications: usize,
    pub(super) webhooks: usize,
    pub(super) portal_sessions: usize,
    pub(super) scope_lists: usize,
    pub(super) keys: usize,
    pub(super) live_tokens: usize,
    pub(super) retired_tokens: usize,
    pub(super) deleted_keys: u64,
}

/// A group of keys, in the order of group numbers.
#[derive(PartialEq, Serialize, Deserialize)]
pub(in crate::verification) struct StoredGroup {
    pub(in crate::verification) id: OrganizationId,
    pub(super) client_id: Option<OrganizationId>,
    /// Whether the client is still linked.
    pub(super) linked: bool,
    /// `None` for a client's group, and for an organization that a root key is bound to but that was never
    /// created.
    pub(super) organization: Option<Arc<Organization>>,
    pub(super) end: Option<EventId>,
}

/// A key that is not deleted, with the numbers of its group and of its list of scopes.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredKey<'a> {
    pub(super) group: u32,
    pub(super) id: KeyId,
    pub(super) digest: Digest,
    pub(super) previous_tokens: Cow<'a, [PreviousToken]>,
    pub(super) owner: OwnerKind,
    pub(super) environment: Environment,
    pub(super) api_id: Option<ApiId>,
    pub(super) scope_list: usize,
    pub(super) revoked: bool,
    pub(super) expiry_recorded: bool,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) text: Option<Cow<'a, KeyText>>,
}
