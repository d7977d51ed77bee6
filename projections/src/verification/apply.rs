//! Applies events to the index. Everything that can fail is checked before anything changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{KeyCreated, KeyCreatedPersonal, KeyRotated, OwnerKind, PreviousToken};
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portal_session::Minter;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::{
    ApiId, ApplicationId, ClientLinkId, KeyId, OrganizationId, RootKeyId, WebhookId,
};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::token::Digest;

use super::token_map::{DigestKey, ReplacedToken, Token};
use super::verified_key::{ApiRef, KeyText, VerifiedKey, VerifiedKeyParts};
use super::writer_state::{KeyPlace, WriterState};
use super::{RootToken, VerificationIndex};

/// A record that does not fit the index: the log is damaged, or it is another log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event at position {position} does not apply to the verification index: {reason}")]
pub struct NotApplicable {
    /// Position of the record.
    pub position: Position,
    /// Why it does not apply.
    pub reason: String,
}

pub(super) type Reason = String;

const TOO_MANY_GROUPS: &str = "too many organizations and links";

/// Returns whether a record may end the authentication of a caller.
const fn may_end_authentication(record: &Record) -> bool {
    matches!(record.stream, StreamId::RootKey(_) | StreamId::Application(_) | StreamId::PortalSession(_))
        || matches!(record.event, Event::OrganizationDeleted(..))
}

impl VerificationIndex {
    /// Applies the next record. Skips a record that is already applied. A second concurrent caller waits for
    /// the first.
    ///
    /// # Errors
    /// When the record does not follow the last one applied, or refers to something that does not exist. The
    /// index is then unchanged.
    pub fn apply(&self, record: &Record) -> Result<(), NotApplicable> {
        self.apply_all(std::slice::from_ref(record))
    }

    /// Applies records in order, as [`apply`](Self::apply) does, and notifies [subscribers](Self::watch)
    /// once.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), for the first record that does not apply. The records before it are
    /// applied.
    pub fn apply_all(&self, records: &[Record]) -> Result<(), NotApplicable> {
        let Some(first) = records.first() else { return Ok(()) };
        let mut writer = self.writer.lock().map_err(|_| NotApplicable {
            position: first.position,
            reason: "a panic left an earlier event half applied".into(),
        })?;
        let before = self.position();
        let applied = records.iter().try_for_each(|record| self.apply_next(&mut writer, record));
        let position = self.position();
        if position > before {
            self.positions.send_replace(position);
        }
        applied
    }

    fn apply_next(&self, writer: &mut WriterState, record: &Record) -> Result<(), NotApplicable> {
        let not_applicable = |reason: Reason| NotApplicable { position: record.position, reason };
        let position = self.position();
        if record.position <= position {
            return Ok(());
        }
        if record.position != position.next() {
            return Err(not_applicable(format!("the last event applied is at position {position}")));
        }
        if let Some(reason) = self.poison.get() {
            return Err(not_applicable(format!("the index has stopped: {reason}")));
        }
        match &record.stream {
            StreamId::Key(id) if self.part.is_some_and(|part| !part.has(*id)) => Ok(()),
            StreamId::Key(id) => self.apply_to_key(writer, *id, record),
            StreamId::Organization(id) => self.apply_to_organization(writer, id, record),
            StreamId::Api(id) => self.apply_to_api(writer, *id, record),
            StreamId::RootKey(id) => self.apply_to_root_key(writer, *id, record),
            StreamId::Application(id) => self.apply_to_application(writer, *id, record),
            StreamId::ClientLink(id) => self.apply_to_client_link(writer, id, record),
            StreamId::PortalSession(id) => self.apply_to_portal_session(writer, *id, record),
            // `erase` has removed the text before this record arrives.
            StreamId::Erasure(_) => Ok(()),
            StreamId::Webhook(id) => self.apply_to_webhook(*id, record),
        }
        .map_err(not_applicable)?;
        // After all changes of the record: a caller that reads the new epoch never authenticates by the old
        // state.
        if may_end_authentication(record) {
            self.end_authentication_epoch();
        }
        self.position.store(record.position.get(), Ordering::Release);
        Ok(())
    }

    fn apply_to_organization(
        &self,
        writer: &mut WriterState,
        id: &OrganizationId,
        record: &Record,
    ) -> Result<(), Reason> {
        let before = self.organizations.get(id).map(Arc::unwrap_or_clone);
        let after = Organization::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        let organization = writer.organization_group(id).ok_or(TOO_MANY_GROUPS)?;
        if matches!(record.event, Event::OrganizationDeleted(..)) {
            writer.organization_deleted(&organization, record.id);
        }
        self.count_user_keys(writer, organization.number, after.policies.count_keys_of_users());
        self.organizations.insert(id.clone(), after);
        Ok(())
    }

    /// Starts or stops counting the keys of an organization's users, as its policies require.
    pub(super) fn count_user_keys(&self, writer: &mut WriterState, group: u32, wanted: bool) {
        if wanted == writer.counts_user_keys(group) {
            return;
        }
        let guard = self.tokens.guard();
        let digests = writer.digests_of(group);
        let keys = digests.iter().filter_map(|digest| self.tokens.get(digest, &guard).map(Token::key));
        writer.count_user_keys(group, wanted, keys);
    }

    fn apply_to_client_link(
        &self,
        writer: &mut WriterState,
        id: &ClientLinkId,
        record: &Record,
    ) -> Result<(), Reason> {
        let before = self.client_links.get(id).map(Arc::unwrap_or_clone);
        let after = ClientLink::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        if after.is_linked() {
            let partner = writer.organizations.get(&id.partner_id).map(Arc::clone);
            let partner = partner.ok_or("its partner was never created")?;
            let (partner_id, client_id) = (id.partner_id.clone(), id.client_id.clone());
            let group = writer.add_group(partner_id, Some(client_id)).ok_or(TOO_MANY_GROUPS)?;
            writer.link(id.clone(), &partner, group);
        } else {
            writer.unlink(id, record.id).ok_or("the client was not linked")?;
        }
        self.client_links.insert(id.clone(), after);
        Ok(())
    }

    fn apply_to_api(&self, writer: &mut WriterState, id: ApiId, record: &Record) -> Result<(), Reason> {
        let before = self.apis.get(&id).map(Arc::unwrap_or_clone);
        let after = Api::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        let api = writer.apis.entry(id).or_insert_with(|| Arc::new(ApiRef::new(id, false)));
        if after.deleted_at.is_some() {
            api.delete();
        }
        self.apis.insert(id, after);
        Ok(())
    }

    fn apply_to_root_key(
        &self,
        writer: &mut WriterState,
        id: RootKeyId,
        record: &Record,
    ) -> Result<(), Reason> {
        let before = self.root_keys.get(&id).map(Arc::unwrap_or_clone);
        let after = RootKey::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        self.put_root_token(writer, &after)?;
        if after.revoked_at.is_some() {
            self.portal_sessions.end_minted_by(writer, Minter::RootKey(id));
        }
        self.root_keys.insert(id, after);
        Ok(())
    }

    fn apply_to_application(
        &self,
        writer: &mut WriterState,
        id: ApplicationId,
        record: &Record,
    ) -> Result<(), Reason> {
        let before = self.applications.get(&id).map(Arc::unwrap_or_clone);
        let after = Application::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        if after.deleted_at.is_some() {
            self.portal_sessions.end_minted_by(writer, Minter::Application(id));
        }
        self.applications.insert(id, after);
        Ok(())
    }

    fn apply_to_webhook(&self, id: WebhookId, record: &Record) -> Result<(), Reason> {
        let before = self.webhooks.get(&id).map(Arc::unwrap_or_clone);
        let after = Webhook::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        self.webhooks.insert(id, after);
        self.webhook_changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Accepts a root key's token, or removes it if the root key is revoked.
    pub(super) fn put_root_token(&self, writer: &mut WriterState, root_key: &RootKey) -> Result<(), Reason> {
        let tokens = self.root_tokens.pin();
        let digest = DigestKey::new(&root_key.digest);
        if root_key.revoked_at.is_some() {
            // The token may have been given to another root key since: operators choose the first token
            // themselves.
            if tokens.get(&digest).is_some_and(|token| token.root_key.id == root_key.id) {
                tokens.remove(&digest);
            }
            self.revoked_root_tokens.pin().insert(digest, root_key.id);
            return Ok(());
        }
        let organization = match &root_key.organization_id {
            Some(id) => Some(writer.organization_group(id).ok_or(TOO_MANY_GROUPS)?),
            None => None,
        };
        tokens.insert(digest, RootToken { root_key: Arc::new(root_key.clone()), organization });
        Ok(())
    }

    fn apply_to_key(&self, writer: &mut WriterState, id: KeyId, record: &Record) -> Result<(), Reason> {
        if let Event::KeyCreated(facts, personal) = &record.event {
            return self.create_key(writer, id, record, facts, personal);
        }
        let guard = self.tokens.guard();
        let (place, digest) = place_of(writer, id, record)?;
        let before = self
            .tokens
            .get(&digest, &guard)
            .map(Token::key)
            .ok_or("the token of the key is missing from the index")?;
        let mut after = before.clone();
        match &record.event {
            // Verification never shows descriptions.
            Event::KeyDescriptionChanged(..) => return Ok(()),
            Event::KeyRotated(facts, ()) => return self.rotate_key(writer, place, record, facts, before),
            Event::KeyDeleted(..) => {
                writer.keep(place, &digest, before);
                self.retire(writer, &digest, id);
                for token in writer.previous_tokens.remove(&id).unwrap_or_default() {
                    self.retire(writer, &token.digest, id);
                }
                writer.key_deleted(before);
                return Ok(());
            }
            Event::KeyRenamed((), personal) => {
                after.edit_text(|text| text.name.clone_from(&personal.name));
            }
            Event::KeyMetadataChanged((), personal) => {
                after.edit_text(|text| text.metadata.clone_from(&personal.metadata));
            }
            Event::KeyScopesChanged(facts, ()) => after.set_scopes(writer.scope_list(&facts.scopes)),
            Event::KeyExpiryChanged(facts, ()) => after.set_expires_at(facts.expires_at),
            Event::KeyRevoked(..) => after.set_revoked(true),
            Event::KeyReactivated(..) => after.set_revoked(false),
            Event::KeyExpired(..) => after.record_expiry(),
            _ => return Err(does_not_follow(record)),
        }
        writer.keep(place, &digest, before);
        writer.key_changed(Some(before), &after);
        let previous = writer.previous_tokens.get(&id).map_or(&[][..], Vec::as_slice);
        self.put_key(after, &digest, previous);
        Ok(())
    }

    fn create_key(
        &self,
        writer: &mut WriterState,
        id: KeyId,
        record: &Record,
        facts: &KeyCreated,
        personal: &KeyCreatedPersonal,
    ) -> Result<(), Reason> {
        let organization_id = record.organization_id.as_ref().ok_or("it names no organization")?;
        if self.organizations.get(organization_id).is_none() {
            return Err("its organization was never created".into());
        }
        let group = match (&facts.owner.kind, &facts.owner.client_id) {
            (OwnerKind::Client, Some(client_id)) => {
                let (partner_id, client_id) = (organization_id.clone(), client_id.clone());
                let link = writer.links.get(&ClientLinkId { partner_id, client_id });
                Arc::clone(link.ok_or("its client is not in the portfolio")?)
            }
            _ => writer.organization_group(organization_id).ok_or(TOO_MANY_GROUPS)?,
        };
        let api = match facts.api_id {
            Some(api_id) => Some(Arc::clone(writer.apis.get(&api_id).ok_or("its API was never registered")?)),
            None => None,
        };
        let place = KeyPlace::new(group.number, id);
        if writer.keys.contains_key(&place) {
            return Err("the key exists already".into());
        }
        self.check_unused(&facts.digest)?;
        let key = VerifiedKey::new(VerifiedKeyParts {
            key_id: id,
            number: writer.next_key_number().ok_or("too many keys")?,
            group,
            api,
            scopes: writer.scope_list(&facts.scopes),
            text: KeyText {
                name: personal.name.clone(),
                user_id: personal.user_id.clone(),
                metadata: personal.metadata.clone(),
            },
            expires_at: facts.expires_at,
            owner: facts.owner.kind,
            environment: facts.environment,
            revoked: false,
            expiry_recorded: false,
        });
        writer.keep_absence(place);
        writer.key_created(&key, facts.digest);
        self.put_key(key, &facts.digest, &[]);
        Ok(())
    }

    fn rotate_key(
        &self,
        writer: &mut WriterState,
        place: KeyPlace,
        record: &Record,
        facts: &KeyRotated,
        key: &VerifiedKey,
    ) -> Result<(), Reason> {
        self.check_unused(&facts.digest)?;
        let Some(replaced) = writer.keys.get(&place).copied() else { return Err(does_not_follow(record)) };
        writer.keep(place, &replaced, key);
        writer.keys.insert(place, facts.digest);
        let before = writer.previous_tokens.remove(&key.key_id()).unwrap_or_default();
        let after = facts.previous_tokens_after(&before, replaced, record.time);
        // Insert the new token before removing old ones, so that the key always has a valid token.
        self.put_key(key.clone(), &facts.digest, &after);
        for digest in before.iter().map(|token| &token.digest).chain([&replaced]) {
            if !after.iter().any(|token| token.digest == *digest) {
                self.retire(writer, digest, key.key_id());
            }
        }
        if !after.is_empty() {
            writer.previous_tokens.insert(key.key_id(), after);
        }
        Ok(())
    }

    fn retire(&self, writer: &mut WriterState, digest: &Digest, key_id: KeyId) {
        // First, so that a running walk does not count the token as retired already.
        writer.note_retirement(digest);
        self.tokens.retire(digest, key_id);
    }

    /// Two keys with the same token would hide one of them from verification.
    fn check_unused(&self, digest: &Digest) -> Result<(), Reason> {
        match self.tokens.find(digest) {
            Some(key_id) => Err(format!("its token is or was a token of {key_id}")),
            None => Ok(()),
        }
    }

    /// Stores the key under all tokens that are accepted for it.
    pub(super) fn put_key(&self, key: VerifiedKey, digest: &Digest, previous: &[PreviousToken]) {
        let replaced: Vec<_> = previous
            .iter()
            .map(|token| {
                let replaced = ReplacedToken { valid_until: token.valid_until, key: key.clone() };
                (&token.digest, Token::Previous(Box::new(replaced)))
            })
            .collect();
        self.tokens.insert(digest, Token::Current(key));
        for (digest, token) in replaced {
            self.tokens.insert(digest, token);
        }
    }
}

/// Returns the place of a key that is not deleted, and the digest of its current token.
fn place_of(writer: &WriterState, id: KeyId, record: &Record) -> Result<(KeyPlace, Digest), Reason> {
    let organization_id = record.organization_id.as_ref().ok_or("it names no organization")?;
    writer
        .place_of(organization_id, id)
        .and_then(|place| writer.keys.get(&place).map(|digest| (place, *digest)))
        .ok_or_else(|| "its organization has no such key".into())
}

pub(super) fn does_not_follow(record: &Record) -> Reason {
    format!("{} does not fit the state of {}", record.event.event_type(), record.stream)
}
