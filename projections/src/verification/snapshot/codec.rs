//! The index on disk, for a quick start: a header, the index as MessagePack, and a SHA-256 of all of it.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `KLVERIFY` |
//! | 4 | version, little-endian |
//! | 16 | id of the log that the index was built from |
//! | 8 | position of the last record applied, little-endian |
//! | 32 | leaf hash of the log's entry at that position; zeros before the first |
//! | … | MessagePack: how many there are of each kind, then one value for each |
//! | 32 | SHA-256 of all bytes before it |
//!
//! A snapshot saves time and is nothing to be rescued: whatever is odd about one, the index is replayed from the log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::key::{OwnerKind, PreviousToken};
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, ClientLinkId, EventId, KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::sha256::Sha256;
use keyledger_engine::value::text::Scope;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::verification::VerificationIndex;
use crate::verification::token_map::{DigestKey, TokenMap};
use crate::verification::verified_key::{ApiRef, KeyGroup, KeyText, VerifiedKey, VerifiedKeyParts};
use crate::verification::writer_state::{KeyPlace, WriterState};

pub(in crate::verification) const MAGIC: [u8; 8] = *b"KLVERIFY";
/// Changes with anything below, and with the aggregates of the engine that are stored as they are.
pub(in crate::verification) const VERSION: u32 = 7;
const HEADER_LEN: usize = 8 + 4 + 16 + 8 + 32;
const HASH_LEN: usize = 32;
pub(in crate::verification) const BUFFER_LEN: usize = 1 << 20;

/// An index as it was saved.
pub struct Snapshot {
    /// The log that it was built from.
    pub source: SourceId,
    /// The position of the last record applied to it.
    pub position: Position,
    /// The leaf hash of the log's entry at that position; zeros before the first. A log that has another entry there is
    /// not the one that the index was built from, whatever its id says.
    pub entry_hash: [u8; 32],
    /// The index.
    pub index: VerificationIndex,
}

/// Why a snapshot was not saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read or written; there may be none.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is no snapshot, one of another version, or damaged.
    #[error("not a usable snapshot: {0}")]
    Unusable(Cow<'static, str>),
    /// The index cannot be saved.
    #[error("the index cannot be saved: {0}")]
    Unsavable(Cow<'static, str>),
    /// Saving was given up: a subject was erased meanwhile, so much was changed that it would have taken too much memory, or
    /// the caller wanted it to end.
    #[error("saving was interrupted")]
    Interrupted,
}

fn unusable(reason: impl Into<Cow<'static, str>>) -> SnapshotError {
    SnapshotError::Unusable(reason.into())
}

#[derive(Serialize, Deserialize)]
pub(in crate::verification) struct Counts {
    pub(in crate::verification) groups: usize,
    pub(in crate::verification) client_links: usize,
    pub(in crate::verification) apis: usize,
    pub(in crate::verification) root_keys: usize,
    pub(in crate::verification) applications: usize,
    pub(in crate::verification) webhooks: usize,
    pub(in crate::verification) portal_sessions: usize,
    pub(in crate::verification) scope_lists: usize,
    pub(in crate::verification) keys: usize,
    pub(in crate::verification) live_tokens: usize,
    pub(in crate::verification) dead_tokens: usize,
    pub(in crate::verification) deleted_keys: u64,
}

/// In the order of numbers.
#[derive(Serialize, Deserialize)]
pub(in crate::verification) struct StoredGroup {
    pub(in crate::verification) id: OrganizationId,
    pub(in crate::verification) client_id: Option<OrganizationId>,
    /// Whether the client is linked still.
    pub(in crate::verification) linked: bool,
    /// None for a client's group, and for an organization that a root key is bound to although it was never created.
    pub(in crate::verification) organization: Option<Arc<Organization>>,
    pub(in crate::verification) end: Option<EventId>,
}

#[derive(Serialize, Deserialize)]
pub(in crate::verification) struct StoredKey<'a> {
    pub(in crate::verification) group: u32,
    pub(in crate::verification) id: KeyId,
    pub(in crate::verification) digest: Digest,
    pub(in crate::verification) previous_tokens: Cow<'a, [PreviousToken]>,
    pub(in crate::verification) owner: OwnerKind,
    pub(in crate::verification) environment: Environment,
    pub(in crate::verification) api_id: Option<ApiId>,
    pub(in crate::verification) scope_list: usize,
    pub(in crate::verification) revoked: bool,
    pub(in crate::verification) expiry_recorded: bool,
    pub(in crate::verification) expires_at: Option<Timestamp>,
    pub(in crate::verification) text: Option<Cow<'a, KeyText>>,
}

impl VerificationIndex {
    /// Loads what [`VerificationIndex::save_snapshot`] saved. The caller compares log and entry, and replays what the
    /// log has after the position.
    ///
    /// # Errors
    /// When there is none, or anything about it is odd: the caller replays the log from its start.
    pub fn load_snapshot(path: &Path) -> Result<Snapshot, SnapshotError> {
        let mut file = File::open(path)?;
        let hashed_len = check_hash(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        let mut input = BufReader::with_capacity(BUFFER_LEN, file).take(hashed_len);
        let magic: [u8; 8] = take(&mut input)?;
        let version = u32::from_le_bytes(take(&mut input)?);
        if magic != MAGIC || version != VERSION {
            return Err(unusable("it is none, or of another version"));
        }
        let source = SourceId(take(&mut input)?);
        let position = Position::new(u64::from_le_bytes(take(&mut input)?));
        let entry_hash = take(&mut input)?;
        let mut values = Values(rmp_serde::Deserializer::new(&mut input));
        let index = read_body(&mut values)?;
        if input.read(&mut [0])? != 0 {
            return Err(unusable("it goes on after its end"));
        }
        index.position.store(position.get(), Ordering::Release);
        index.positions.send_replace(position);
        Ok(Snapshot { source, position, entry_hash, index })
    }
}

fn read_body<R: Read>(values: &mut Values<R>) -> Result<VerificationIndex, SnapshotError> {
    let counts: Counts = values.next()?;
    let index =
        VerificationIndex::with_tokens(TokenMap::with_capacity(counts.live_tokens, counts.dead_tokens));
    let mut writer = WriterState::default();
    let groups = read_groups(values, &counts, &index, &mut writer)?;
    for _ in 0..counts.client_links {
        let link: ClientLink = values.next()?;
        index.client_links.insert(link.id.clone(), link);
    }
    for _ in 0..counts.apis {
        let api: Api = values.next()?;
        writer.apis.insert(api.id, Arc::new(ApiRef::new(api.id, api.deleted_at.is_some())));
        index.apis.insert(api.id, api);
    }
    for _ in 0..counts.root_keys {
        let root_key: RootKey = values.next()?;
        index.put_root_token(&mut writer, &root_key).map_err(unusable)?;
        index.root_keys.insert(root_key.id, root_key);
    }
    for _ in 0..counts.applications {
        let application: Application = values.next()?;
        index.applications.insert(application.id, application);
    }
    for _ in 0..counts.webhooks {
        let webhook: Webhook = values.next()?;
        index.webhooks.insert(webhook.id, webhook);
    }
    for _ in 0..counts.portal_sessions {
        index.portal_sessions.put(&mut writer, values.next::<PortalSession>()?);
    }
    let mut scope_lists = Vec::new();
    for _ in 0..counts.scope_lists {
        scope_lists.push(writer.scope_list(&values.next::<Vec<Scope>>()?));
    }
    let mut keys = Vec::new();
    for _ in 0..counts.keys {
        let stored: StoredKey<'static> = values.next()?;
        let group = groups.get(stored.group as usize).ok_or_else(|| unusable("no such group of keys"))?;
        let api = stored
            .api_id
            .map(|id| writer.apis.get(&id).map(Arc::clone))
            .map(|api| api.ok_or_else(|| unusable("no such API")));
        let scopes = scope_lists.get(stored.scope_list).ok_or_else(|| unusable("no such scopes"))?;
        let key = VerifiedKey::new(VerifiedKeyParts {
            key_id: stored.id,
            number: writer.next_key_number().ok_or_else(|| unusable("too many keys"))?,
            group: Arc::clone(group),
            api: api.transpose()?,
            scopes: Arc::clone(scopes),
            text: stored.text.map(Cow::into_owned).unwrap_or_default(),
            expires_at: stored.expires_at,
            owner: stored.owner,
            environment: stored.environment,
            revoked: stored.revoked,
            expiry_recorded: stored.expiry_recorded,
        });
        writer.key_added(&key);
        keys.push((KeyPlace::new(stored.group, stored.id), stored.digest));
        index.put_key(key, &stored.digest, &stored.previous_tokens);
        if !stored.previous_tokens.is_empty() {
            writer.previous_tokens.insert(stored.id, stored.previous_tokens.into_owned());
        }
    }
    // They come in order: built at once, the tree's nodes are full.
    writer.keys = BTreeMap::from_iter(keys);
    for _ in 0..counts.dead_tokens {
        let (digest, key_id): (u128, KeyId) = values.next()?;
        index.tokens.insert_dead(DigestKey::from_bytes(digest.to_be_bytes()), key_id);
    }
    writer.counts.deleted = counts.deleted_keys;
    let ends: Vec<_> = writer.ends.iter().map(|(number, event)| (*number, *event)).collect();
    for (number, event) in ends {
        let group = groups.get(number as usize).ok_or_else(|| unusable("no such group of keys"))?;
        writer.end(group, event);
    }
    for organization in index.organizations.page(None, usize::MAX) {
        let group = writer.organizations.get(&organization.id).map(|group| group.number);
        let wanted = organization.policies.count_keys_of_users();
        if let Some(group) = group {
            index.count_user_keys(&mut writer, group, wanted);
        }
    }
    *index.writer() = writer;
    Ok(index)
}

fn read_groups<R: Read>(
    values: &mut Values<R>,
    counts: &Counts,
    index: &VerificationIndex,
    writer: &mut WriterState,
) -> Result<Vec<Arc<KeyGroup>>, SnapshotError> {
    let mut groups = Vec::new();
    for _ in 0..counts.groups {
        let StoredGroup { id, client_id, linked, organization, end } = values.next()?;
        let group = match &client_id {
            None => writer.organization_group(&id),
            Some(client_id) => writer.add_group(id.clone(), Some(client_id.clone())),
        };
        let group = group
            .filter(|group| group.number as usize == groups.len())
            .ok_or_else(|| unusable("groups of keys are not as they were numbered"))?;
        if let Some(client_id) = client_id.filter(|_| linked) {
            let partner = writer.organizations.get(&id).map(Arc::clone);
            let partner = partner.ok_or_else(|| unusable("no such partner"))?;
            writer.link(ClientLinkId { partner_id: id.clone(), client_id }, &partner, Arc::clone(&group));
        }
        if let Some(event) = end {
            writer.end(&group, event);
        }
        groups.push(group);
        if let Some(aggregate) = organization {
            index.organizations.insert(id, Arc::unwrap_or_clone(aggregate));
        }
    }
    Ok(groups)
}

/// Compares the hash at the file's end with its bytes, and says how many there are before it.
fn check_hash(file: &mut File) -> Result<u64, SnapshotError> {
    let len = file.metadata()?.len();
    let hashed_len = len
        .checked_sub(HASH_LEN as u64)
        .filter(|len| *len >= HEADER_LEN as u64)
        .ok_or_else(|| unusable("it is too short"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut hashed = file.take(hashed_len);
    loop {
        let len = hashed.read(&mut buffer)?;
        match buffer.get(..len) {
            Some([]) | None => break,
            Some(bytes) => hash.update(bytes),
        }
    }
    let stored: [u8; HASH_LEN] = take(file)?;
    if stored == hash.finalize() {
        Ok(hashed_len)
    } else {
        Err(unusable("its bytes are not those that were written"))
    }
}

fn take<const N: usize>(input: &mut impl Read) -> Result<[u8; N], SnapshotError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// MessagePack values, one after the other.
struct Values<R: Read>(rmp_serde::Deserializer<rmp_serde::decode::ReadReader<R>>);

impl<R: Read> Values<R> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, SnapshotError> {
        T::deserialize(&mut self.0).map_err(|error| unusable(error.to_string()))
    }
}
