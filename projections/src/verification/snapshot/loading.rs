//! Loads a [snapshot](super::format) into a new index.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyledger_engine::crypto::constant_time;
use keyledger_engine::crypto::mac::{MAC_LEN, MacKey};
use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::id::{ClientLinkId, KeyId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::Scope;
use serde::de::DeserializeOwned;

use super::format::{
    BUFFER_LEN, Counts, HEADER_LEN, MAGIC, Snapshot, SnapshotError, StoredGroup, StoredKey, VERSION,
};
use crate::verification::VerificationIndex;
use crate::verification::token_map::{DigestKey, TokenMap};
use crate::verification::verified_key::{ApiRef, KeyGroup, VerifiedKey, VerifiedKeyParts};
use crate::verification::writer_state::{KeyPlace, WriterState};

fn unusable(reason: impl Into<Cow<'static, str>>) -> SnapshotError {
    SnapshotError::Unusable(reason.into())
}

impl VerificationIndex {
    /// Loads a snapshot that [`VerificationIndex::save_snapshot`] saved. The caller compares the log and the
    /// entry hash, and replays the log from the position on. `key` checks that a holder of the log's signing
    /// key wrote the file; whoever loads it without a key must compare it with a replay before it decides
    /// anything.
    ///
    /// # Errors
    /// When there is no snapshot, or it is not usable. The caller then replays the log from its start.
    pub fn load_snapshot(path: &Path, key: Option<&MacKey>) -> Result<Snapshot, SnapshotError> {
        let mut file = File::open(path)?;
        let magic: [u8; 8] = take(&mut file)?;
        let version = u32::from_le_bytes(take(&mut file)?);
        if magic != MAGIC || version != VERSION {
            return Err(unusable("it has another format or version"));
        }
        file.seek(SeekFrom::Start(0))?;
        let body_len = check_code(&mut file, key)?;
        file.seek(SeekFrom::Start((magic.len() + size_of::<u32>()) as u64))?;
        let mut input = BufReader::with_capacity(BUFFER_LEN, file)
            .take(body_len.saturating_sub((magic.len() + size_of::<u32>()) as u64));
        let source = SourceId(take(&mut input)?);
        let position = Position::new(u64::from_le_bytes(take(&mut input)?));
        let entry_hash = take(&mut input)?;
        let mut values = Values(rmp_serde::Deserializer::new(&mut input));
        let index = read_body(&mut values)?;
        if input.read(&mut [0])? != 0 {
            return Err(unusable("it has data after its end"));
        }
        index.position.store(position.get(), Ordering::Release);
        index.positions.send_replace(position);
        Ok(Snapshot { source, position, entry_hash, index })
    }
}

fn read_body<R: Read>(values: &mut Values<R>) -> Result<VerificationIndex, SnapshotError> {
    let counts: Counts = values.next()?;
    let index =
        VerificationIndex::with_tokens(TokenMap::with_capacity(counts.live_tokens, counts.retired_tokens));
    let mut writer = WriterState::default();
    let groups = read_groups(values, &counts, &index, &mut writer)?;
    read_directory(values, &counts, &index, &mut writer)?;
    read_keys(values, &counts, &groups, &index, &mut writer)?;
    for _ in 0..counts.retired_tokens {
        let (digest, key_id): (u128, KeyId) = values.next()?;
        index.tokens.insert_retired(DigestKey::from_bytes(digest.to_be_bytes()), key_id);
    }
    writer.counts.deleted = counts.deleted_keys;
    // Once more for every stopped group: only now does the writer know which of them still have keys.
    let stopped: Vec<_> = writer.stopped_by.iter().map(|(number, event)| (*number, *event)).collect();
    for (number, event) in stopped {
        let group = groups.get(number as usize).ok_or_else(|| unusable("no such group of keys"))?;
        writer.stop_group(group, event);
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

/// Reads the aggregates other than organizations, which are read with their groups, and keys.
fn read_directory<R: Read>(
    values: &mut Values<R>,
    counts: &Counts,
    index: &VerificationIndex,
    writer: &mut WriterState,
) -> Result<(), SnapshotError> {
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
        index.put_root_token(writer, &root_key).map_err(unusable)?;
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
        index.portal_sessions.put(writer, values.next::<PortalSession>()?);
    }
    Ok(())
}

fn read_keys<R: Read>(
    values: &mut Values<R>,
    counts: &Counts,
    groups: &[Arc<KeyGroup>],
    index: &VerificationIndex,
    writer: &mut WriterState,
) -> Result<(), SnapshotError> {
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
    // They are sorted: building the tree at once fills its nodes.
    writer.keys = BTreeMap::from_iter(keys);
    Ok(())
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
            .ok_or_else(|| unusable("groups of keys are out of order"))?;
        if let Some(client_id) = client_id.filter(|_| linked) {
            let partner = writer.organizations.get(&id).map(Arc::clone);
            let partner = partner.ok_or_else(|| unusable("no such partner"))?;
            writer.link(ClientLinkId { partner_id: id.clone(), client_id }, &partner, Arc::clone(&group));
        }
        if let Some(event) = end {
            writer.stop_group(&group, event);
        }
        groups.push(group);
        if let Some(aggregate) = organization {
            index.organizations.insert(id, Arc::unwrap_or_clone(aggregate));
        }
    }
    Ok(groups)
}

/// Compares the code at the file's end with its bytes, and returns the number of bytes before it.
fn check_code(file: &mut File, key: Option<&MacKey>) -> Result<u64, SnapshotError> {
    let len = file.metadata()?.len();
    let body_len = len
        .checked_sub(MAC_LEN as u64)
        .filter(|len| *len >= HEADER_LEN as u64)
        .ok_or_else(|| unusable("it is too short"))?;
    let Some(key) = key else { return Ok(body_len) };
    let mut mac = key.begin();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut body = file.take(body_len);
    loop {
        let len = body.read(&mut buffer)?;
        match buffer.get(..len) {
            Some([]) | None => break,
            Some(bytes) => mac.update(bytes),
        }
    }
    let stored: [u8; MAC_LEN] = take(file)?;
    if constant_time::equal(&stored, &mac.finalize()) {
        Ok(body_len)
    } else {
        Err(SnapshotError::Unauthentic)
    }
}

fn take<const N: usize>(input: &mut impl Read) -> Result<[u8; N], SnapshotError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => unusable("it is too short"),
        _ => error.into(),
    })?;
    Ok(bytes)
}

/// A sequence of MessagePack values.
struct Values<R: Read>(rmp_serde::Deserializer<rmp_serde::decode::ReadReader<R>>);

impl<R: Read> Values<R> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, SnapshotError> {
        T::deserialize(&mut self.0).map_err(|error| unusable(error.to_string()))
    }
}
