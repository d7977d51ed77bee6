//! Writes a [snapshot](super::format) of an index while records are applied. Small parts are collected at
//! once. The keys, possibly millions, are [walked](super::walk) in pieces, and the writer continues between
//! pieces.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyledger_engine::crypto::mac::{Mac, MacKey};
use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::log::SourceId;
use keyledger_engine::storage::atomic_file;
use keyledger_engine::value::id::ClientLinkId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::Scope;
use serde::Serialize;

use super::format::{BUFFER_LEN, Counts, MAGIC, SnapshotError, StoredGroup, StoredKey, VERSION};
use super::walk::{Interrupted, Walk, WalkedKey};
use crate::verification::VerificationIndex;
use crate::verification::verified_key::{KeyGroup, ScopeList};
use crate::verification::writer_state::WriterState;

/// Keys read while the writer waits, which takes some hundred microseconds.
const KEYS_AT_A_TIME: usize = 256;
/// Retired tokens read while the writer waits.
const RETIRED_TOKENS_AT_A_TIME: usize = 4_096;
/// The file is flushed to the disk each time it has grown by this much; flushing it all at once would delay
/// the log.
const SYNC_LEN: usize = 8 << 20;

fn unsavable(reason: impl Into<Cow<'static, str>>) -> SnapshotError {
    SnapshotError::Unsavable(reason.into())
}

impl From<Interrupted> for SnapshotError {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Ended => Self::Interrupted,
            Interrupted::Lost => unsavable("the token of a key is missing"),
        }
    }
}

/// Everything in a snapshot but the keys and the retired tokens, and the counts of both.
pub(in crate::verification) struct Beginning {
    pub(in crate::verification) position: Position,
    counts: Counts,
    pub(in crate::verification) groups: Vec<StoredGroup>,
    pub(in crate::verification) client_links: Vec<Arc<ClientLink>>,
    pub(in crate::verification) apis: Vec<Arc<Api>>,
    pub(in crate::verification) root_keys: Vec<Arc<RootKey>>,
    pub(in crate::verification) applications: Vec<Arc<Application>>,
    pub(in crate::verification) webhooks: Vec<Arc<Webhook>>,
    pub(in crate::verification) portal_sessions: Vec<Arc<PortalSession>>,
    scope_lists: Vec<ScopeList>,
}

/// Ends the walk on drop, whether saving succeeds or not.
pub(in crate::verification) struct Walking<'a>(pub(in crate::verification) &'a VerificationIndex);

impl Drop for Walking<'_> {
    fn drop(&mut self) {
        self.0.writer().walk = None;
    }
}

impl VerificationIndex {
    /// Saves an index to which nothing is applied meanwhile. The file is replaced atomically. `entry_hash` is
    /// the leaf hash of the log's entry at [`VerificationIndex::position`]; `key` vouches for the file.
    ///
    /// # Errors
    /// See [`SnapshotError`]. A snapshot saved before is then still there.
    pub fn save_snapshot(
        &self,
        path: &Path,
        source: SourceId,
        entry_hash: [u8; 32],
        key: &MacKey,
    ) -> Result<Position, SnapshotError> {
        self.save_snapshot_with(path, source, key, |_| Ok(entry_hash), || true)
    }

    /// Saves the index as it is at the start of the call to `path`, atomically, while records are applied.
    /// `entry_hash` returns the leaf hash of the log's entry at a position. `keep_going` is called before
    /// every piece; `false` interrupts. Records wait for some hundred microseconds at a time, and at the
    /// beginning as long as it takes to list all organizations. Verification does not wait. Only one snapshot
    /// can be saved at a time.
    ///
    /// An erasure interrupts saving. After erasing, the caller must delete the file and the one that
    /// [`temporary_of`] names: the erased text may be in a snapshot that was complete before, or in a
    /// temporary file that could not be deleted here.
    ///
    /// # Errors
    /// See [`SnapshotError`]; errors of `entry_hash` are passed on. A snapshot saved before is then still
    /// there, unless only the rename could not be made durable.
    pub fn save_snapshot_with(
        &self,
        path: &Path,
        source: SourceId,
        key: &MacKey,
        entry_hash: impl FnOnce(Position) -> Result<[u8; 32], SnapshotError>,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Position, SnapshotError> {
        self.save_in_pieces(path, source, key, entry_hash, keep_going, KEYS_AT_A_TIME)
    }

    pub(in crate::verification) fn save_in_pieces(
        &self,
        path: &Path,
        source: SourceId,
        key: &MacKey,
        entry_hash: impl FnOnce(Position) -> Result<[u8; 32], SnapshotError>,
        keep_going: impl FnMut() -> bool,
        keys_at_a_time: usize,
    ) -> Result<Position, SnapshotError> {
        let temporary = temporary_of(path);
        let written = SnapshotFile::create(&temporary, key).map_err(SnapshotError::from);
        let written = written
            .and_then(|out| self.write_snapshot(out, source, entry_hash, keep_going, keys_at_a_time))
            .and_then(|(position, walking)| {
                self.put_in_place(&temporary, path)?;
                drop(walking);
                Ok(position)
            });
        let saved = written.and_then(|position| {
            atomic_file::sync_directory_of(path)?;
            Ok(position)
        });
        if saved.is_err() {
            // Report what failed, not that the temporary file is left behind.
            let _ = fs::remove_file(&temporary);
        }
        saved
    }

    /// Writes the whole file. The walk has to go on until the file is in place: an erasure ends it.
    fn write_snapshot(
        &self,
        mut out: SnapshotFile,
        source: SourceId,
        entry_hash: impl FnOnce(Position) -> Result<[u8; 32], SnapshotError>,
        mut keep_going: impl FnMut() -> bool,
        keys_at_a_time: usize,
    ) -> Result<(Position, Walking<'_>), SnapshotError> {
        let (beginning, walking) = self.begin_walk()?;
        let position = beginning.position;
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&source.0)?;
        out.write_all(&position.get().to_le_bytes())?;
        out.write_all(&entry_hash(position)?)?;
        beginning.write(&mut out)?;
        let scope_lists = beginning.scope_list_numbers();
        let mut keys = 0;
        loop {
            if !keep_going() {
                return Err(SnapshotError::Interrupted);
            }
            let Some(piece) = self.continue_walk(keys_at_a_time)? else { break };
            keys += piece.len();
            for walked in &piece {
                write_key(&mut out, walked, &scope_lists)?;
            }
            out.sync_if_long()?;
        }
        let mut retired_tokens = 0;
        self.tokens.try_for_each_retired(RETIRED_TOKENS_AT_A_TIME, |mut retired| {
            if !keep_going() {
                return Err(SnapshotError::Interrupted);
            }
            self.keep_retired_before(&mut retired)?;
            retired_tokens += retired.len();
            for (digest, key_id) in &retired {
                put(&mut out, &(u128::from_be_bytes(*digest.as_bytes()), key_id))?;
            }
            out.sync_if_long()
        })?;
        if (keys, retired_tokens) != (beginning.counts.keys, beginning.counts.retired_tokens) {
            return Err(unsavable("the keys do not match their count"));
        }
        out.finish()?;
        Ok((position, walking))
    }

    /// Renames the file into place, unless a subject was erased since the walk started. A later erasure finds
    /// the file at its final path and deletes it.
    fn put_in_place(&self, temporary: &Path, path: &Path) -> Result<(), SnapshotError> {
        // Held open so that its space is freed after the writer's lock, not under it.
        let _before = File::open(path);
        let writer = self.writer();
        if writer.walk.is_none() {
            return Err(SnapshotError::Interrupted);
        }
        Ok(fs::rename(temporary, path)?)
    }

    /// Starts a walk over all keys, which ends when the second value is dropped, and collects everything
    /// else.
    pub(in crate::verification) fn begin_walk(&self) -> Result<(Beginning, Walking<'_>), SnapshotError> {
        let mut writer = self.writer.lock().map_err(|_| unsavable("a panic left an event half applied"))?;
        let beginning = self.begin_walk_locked(&mut writer)?;
        Ok((beginning, Walking(self)))
    }

    /// As [`begin_walk`](Self::begin_walk), for a caller that holds the writer's lock and ends the walk.
    pub(in crate::verification) fn begin_walk_locked(
        &self,
        writer: &mut WriterState,
    ) -> Result<Beginning, SnapshotError> {
        if let Some(reason) = self.poisoned() {
            return Err(unsavable(reason));
        }
        if writer.walk.is_some() {
            return Err(unsavable("another snapshot is being saved"));
        }
        let client_links = self.client_links.page(None, usize::MAX);
        let apis = self.apis.page(None, usize::MAX);
        let root_keys = self.root_keys.page(None, usize::MAX);
        let applications = self.applications.page(None, usize::MAX);
        let webhooks = self.webhooks.page(None, usize::MAX);
        let portal_sessions = self.portal_sessions.directory().page(None, usize::MAX);
        let scope_lists = writer.all_scope_lists();
        let previous_tokens: usize = writer.previous_tokens.values().map(Vec::len).sum();
        let counts = Counts {
            groups: writer.groups.len(),
            client_links: client_links.len(),
            apis: apis.len(),
            root_keys: root_keys.len(),
            applications: applications.len(),
            webhooks: webhooks.len(),
            portal_sessions: portal_sessions.len(),
            scope_lists: scope_lists.len(),
            keys: writer.keys.len(),
            live_tokens: writer.keys.len() + previous_tokens,
            retired_tokens: self.tokens.retired_len(),
            deleted_keys: writer.counts.deleted,
        };
        let groups = writer.groups.iter().map(|group| self.stored_group(writer, group)).collect();
        writer.walk = Some(Walk::default());
        Ok(Beginning {
            position: self.position(),
            counts,
            groups,
            client_links,
            apis,
            root_keys,
            applications,
            webhooks,
            portal_sessions,
            scope_lists,
        })
    }

    fn stored_group(&self, writer: &WriterState, group: &KeyGroup) -> StoredGroup {
        let linked = group.client_id.clone().is_some_and(|client_id| {
            let link = writer.links.get(&ClientLinkId { partner_id: group.id.clone(), client_id });
            link.is_some_and(|linked| linked.number == group.number)
        });
        let own = group.client_id.is_none();
        StoredGroup {
            id: group.id.clone(),
            client_id: group.client_id.clone(),
            linked,
            organization: self.organizations.get(&group.id).filter(|_| own),
            end: writer.stopped_by.get(&group.number).copied(),
        }
    }
}

impl Beginning {
    fn write(&self, out: &mut impl Write) -> Result<(), SnapshotError> {
        put(out, &self.counts)?;
        self.groups.iter().try_for_each(|group| put(out, group))?;
        self.client_links.iter().try_for_each(|link| put(out, link))?;
        self.apis.iter().try_for_each(|api| put(out, api))?;
        self.root_keys.iter().try_for_each(|root_key| put(out, root_key))?;
        self.applications.iter().try_for_each(|application| put(out, application))?;
        self.webhooks.iter().try_for_each(|webhook| put(out, webhook))?;
        self.portal_sessions.iter().try_for_each(|session| put(out, session))?;
        self.scope_lists.iter().try_for_each(|list| put(out, list))
    }

    /// Numbers of the lists by their addresses, which stay the same while the lists are held here.
    fn scope_list_numbers(&self) -> HashMap<*const Box<[Scope]>, usize> {
        self.scope_lists.iter().map(Arc::as_ptr).zip(0..).collect()
    }
}

fn write_key(
    out: &mut impl Write,
    walked: &WalkedKey,
    scope_lists: &HashMap<*const Box<[Scope]>, usize>,
) -> Result<(), SnapshotError> {
    let WalkedKey { place, digest, previous_tokens, key } = walked;
    let scope_list = scope_lists.get(&Arc::as_ptr(key.scope_list()));
    let stored = StoredKey {
        group: place.group,
        id: key.key_id(),
        digest: *digest,
        previous_tokens: Cow::Borrowed(previous_tokens),
        owner: key.owner(),
        environment: key.environment(),
        api_id: key.api_id(),
        scope_list: *scope_list.ok_or_else(|| unsavable("a list of scopes is missing"))?,
        revoked: key.is_revoked(),
        expiry_recorded: key.is_expiry_recorded(),
        expires_at: key.expires_at(),
        text: key.text().map(Cow::Borrowed),
    };
    put(out, &stored)
}

fn put<T: Serialize + ?Sized>(out: &mut impl Write, value: &T) -> Result<(), SnapshotError> {
    use rmp_serde::encode::Error;
    rmp_serde::encode::write(out, value).map_err(|error| match error {
        Error::InvalidValueWrite(error) => SnapshotError::Io(error.into()),
        other => unsavable(other.to_string()),
    })
}

/// Returns the path under which the snapshot at `path` is written before it is renamed.
#[must_use]
pub fn temporary_of(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    temporary.into()
}

/// A file that ends with the authentication code of everything written to it.
struct SnapshotFile(BufWriter<AuthenticatedFile>);

struct AuthenticatedFile {
    file: File,
    mac: Mac,
    unsynced: usize,
}

impl SnapshotFile {
    fn create(path: &Path, key: &MacKey) -> io::Result<Self> {
        let file = AuthenticatedFile { file: File::create(path)?, mac: key.begin(), unsynced: 0 };
        Ok(Self(BufWriter::with_capacity(BUFFER_LEN, file)))
    }

    fn sync_if_long(&mut self) -> Result<(), SnapshotError> {
        let written = self.0.get_mut();
        if written.unsynced >= SYNC_LEN {
            written.file.sync_data()?;
            written.unsynced = 0;
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        let AuthenticatedFile { mut file, mac, .. } =
            self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.write_all(&mac.finalize())?;
        file.sync_all()
    }
}

impl Write for SnapshotFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Write for AuthenticatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.mac.update(bytes.get(..len).unwrap_or_default());
        self.unsynced += len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
