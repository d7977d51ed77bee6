//! A model of the index that keeps the engine's aggregates in lists and searches all of them for every
//! answer.

use std::collections::HashMap;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{Key, OwnerKind};
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::id::{ApiId, ClientLinkId, EventId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, Token};

use super::super::KeyCounts;
use super::{Code, Question};

/// The engine's aggregates, and every token ever issued.
#[derive(Default)]
pub(super) struct Model {
    pub(super) organizations: Vec<Organization>,
    pub(super) organization_deletions: HashMap<OrganizationId, (Position, EventId)>,
    pub(super) links: Vec<ClientLink>,
    pub(super) unlinkings: Vec<(ClientLinkId, Position, EventId)>,
    pub(super) apis: Vec<Api>,
    pub(super) root_keys: Vec<RootKey>,
    pub(super) keys: Vec<Key>,
    pub(super) tokens: Vec<(Token, KeyId)>,
    pub(super) root_tokens: Vec<(Token, RootKeyId)>,
}

fn replace<T>(list: &mut Vec<T>, same: impl Fn(&T) -> bool, fold: impl FnOnce(Option<T>) -> Option<T>) {
    let before = list.iter().position(same).map(|index| list.remove(index));
    list.push(fold(before).expect("the rules let it happen"));
}

impl Model {
    pub(super) fn apply(&mut self, record: &Record) {
        match &record.stream {
            StreamId::Key(id) => replace(&mut self.keys, |it| it.id == *id, |it| Key::apply(it, record)),
            StreamId::Organization(id) => {
                replace(&mut self.organizations, |it| it.id == *id, |it| Organization::apply(it, record));
                if matches!(record.event, Event::OrganizationDeleted(..)) {
                    self.organization_deletions.insert(id.clone(), (record.position, record.id));
                }
            }
            StreamId::ClientLink(id) => {
                replace(&mut self.links, |it| it.id == *id, |it| ClientLink::apply(it, record));
                if matches!(record.event, Event::ClientUnlinked(..)) {
                    self.unlinkings.push((id.clone(), record.position, record.id));
                }
            }
            StreamId::Api(id) => replace(&mut self.apis, |it| it.id == *id, |it| Api::apply(it, record)),
            StreamId::RootKey(id) => {
                replace(&mut self.root_keys, |it| it.id == *id, |it| RootKey::apply(it, record));
            }
            // The steps create none of these.
            StreamId::Application(_)
            | StreamId::PortalSession(_)
            | StreamId::Erasure(_)
            | StreamId::Webhook(_) => {}
        }
    }

    pub(super) fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    pub(super) fn organization(&self, id: &OrganizationId) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.id == *id)
    }

    pub(super) fn api(&self, id: ApiId) -> Option<&Api> {
        self.apis.iter().find(|api| api.id == id)
    }

    pub(super) fn is_deleted(&self, id: &OrganizationId) -> bool {
        self.organization(id).is_some_and(|organization| organization.deleted_at.is_some())
    }

    pub(super) fn link(&self, id: &ClientLinkId) -> Option<&ClientLink> {
        self.links.iter().find(|link| link.id == *id)
    }

    pub(super) fn is_client(&self, partner_id: &OrganizationId, client_id: &OrganizationId) -> bool {
        let (partner_id, client_id) = (partner_id.clone(), client_id.clone());
        !self.is_deleted(&client_id)
            && self.link(&ClientLinkId { partner_id, client_id }).is_some_and(ClientLink::is_linked)
    }

    /// The first event that ended the basis of a key: its organization, its client or their link.
    pub(super) fn end_of(&self, key: &Key) -> Option<EventId> {
        let deletions = [Some(&key.organization_id), key.owner.client_id.as_ref()].into_iter().flatten();
        let deletions = deletions.filter_map(|id| self.organization_deletions.get(id).copied());
        let unlinkings = self.unlinkings.iter().filter(|(id, position, _)| {
            id.partner_id == key.organization_id
                && Some(&id.client_id) == key.owner.client_id.as_ref()
                && *position > key.created_position
        });
        let ends = deletions.chain(unlinkings.map(|(_, position, event)| (*position, *event)));
        ends.min_by_key(|(position, _)| *position).map(|(_, event)| event)
    }

    /// Whether a key is valid for the requested organization, if any.
    fn is_valid_for(&self, key: &Key, asked: Option<&str>) -> bool {
        let asked: Option<OrganizationId> = asked.map(|id| id.parse().unwrap());
        match (key.owner.kind, asked) {
            (OwnerKind::Client, asked) => asked.is_some() && asked == key.owner.client_id,
            (_, None) => true,
            (OwnerKind::Partner, Some(asked)) => {
                asked == key.organization_id || self.is_client(&key.organization_id, &asked)
            }
            (_, Some(asked)) => asked == key.organization_id,
        }
    }

    pub(super) fn verify(
        &self,
        digest: Digest,
        question: &Question<'_>,
        now: Timestamp,
    ) -> (Code, Option<&Key>) {
        let accepted = |key: &&Key| {
            let previous = key.previous_tokens.iter();
            key.deleted_at.is_none()
                && (key.digest == digest
                    || previous.clone().any(|token| token.digest == digest && now < token.valid_until))
        };
        let Some(key) = self.keys.iter().find(accepted) else { return (Code::NotFound, None) };
        let has = |scope: &&str| key.scopes.iter().any(|it| it.as_str() == *scope);
        let api_deleted = key.api_id.and_then(|id| self.api(id)).is_some_and(|api| api.deleted_at.is_some());
        let code = if self.end_of(key).is_some() {
            Code::OrganizationInactive
        } else if key.revoked_at.is_some() {
            Code::Revoked
        } else if key.expiry_recorded || key.expires_at.is_some_and(|end| end <= now) {
            Code::Expired
        } else if question.environment.is_some_and(|asked| asked != key.environment) {
            Code::WrongEnvironment
        } else if !self.is_valid_for(key, question.organization_id) {
            Code::WrongOrganization
        } else if api_deleted
            || question
                .api_id
                .is_some_and(|asked| key.api_id.map(|id| id.to_string()).as_deref() != Some(asked))
        {
            Code::WrongApi
        } else if !question.scopes.iter().all(has) {
            Code::InsufficientScope
        } else {
            Code::Valid
        };
        (code, Some(key))
    }

    pub(super) fn pending_expiries(&self) -> Vec<(Timestamp, KeyId)> {
        let pending = self.keys.iter().filter(|key| key.deleted_at.is_none() && !key.expiry_recorded);
        let mut pending: Vec<_> = pending.filter_map(|key| key.expires_at.map(|end| (end, key.id))).collect();
        pending.sort();
        pending
    }

    pub(super) fn counts(&self) -> KeyCounts {
        let mut counts = KeyCounts::default();
        for key in &self.keys {
            let count = if key.deleted_at.is_some() {
                &mut counts.deleted
            } else if key.expiry_recorded {
                &mut counts.expired
            } else if key.revoked_at.is_some() {
                &mut counts.revoked
            } else {
                &mut counts.active
            };
            *count += 1;
        }
        counts
    }
}
