//! The rules of a key's life: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide, Reads};
use crate::domain::event::Event;
use crate::domain::key::{
    CreateKey, EditKey, Key, KeyCommand, KeyCreated, KeyCreatedPersonal, KeyDescriptionChangedPersonal,
    KeyExpired, KeyExpiryChanged, KeyMetadataChangedPersonal, KeyRenamedPersonal, KeyRevoked,
    KeyRevokedPersonal, KeyRotated, KeyScopesChanged, KeyStatus, OwnerKind,
};
use crate::domain::organization::{Organization, OrganizationKind, OrganizationStatus};
use crate::domain::policy::{Breach, Policy};
use crate::domain::portfolio::ClientLink;
use crate::domain::rejection::Rejection;
use crate::domain::resource_api::Api;
use crate::domain::stream::StreamId;
use crate::value::environment::Environment;
use crate::value::id::{ClientLinkId, KeyId, OrganizationId};
use crate::value::subject::Subject;
use crate::value::text::{Metadata, Scope, is_same_set};
use crate::value::time::Timestamp;

/// Everything that a decision about a key reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyState<'a> {
    /// The key; none before it is created.
    pub key: Option<&'a Key>,
    /// The organization that it belongs to or, before it is created, will belong to.
    pub organization: Option<&'a Organization>,
    /// The API that it is for or, before it is created, will be for.
    pub api: Option<&'a Api>,
    /// The client organization, for a client's key.
    pub client: Option<&'a Organization>,
    /// The link between the organization and that client; none if they never were linked.
    pub link: Option<&'a ClientLink>,
    /// The number of active keys of the key's user in its environment; 0 where no policy bounds it.
    pub keys_of_user: u32,
}

impl KeyState<'_> {
    /// The organization's policy for an environment.
    fn policy(&self, environment: Environment) -> Option<&Policy> {
        self.organization?.policies.get(environment).map(AsRef::as_ref)
    }

    /// Whether the key's organization is gone or, for a client's key, the client or its link to the
    /// portfolio. The key stops working at that moment; its own `KeyDeleted` follows.
    fn is_orphaned(&self, key: &Key) -> bool {
        is_gone(self.organization)
            || key.owner.kind == OwnerKind::Client
                && (is_gone(self.client) || self.link.is_none_or(|link| !link.carries(key.created_position)))
    }
}

fn is_gone(organization: Option<&Organization>) -> bool {
    organization.is_none_or(|it| it.status() == OrganizationStatus::Deleted)
}

impl Decide for Key {
    fn organization_id<'a>(
        _id: &'a KeyId,
        key: Option<&'a Self>,
        command: &'a KeyCommand,
    ) -> Option<&'a OrganizationId> {
        match (key, command) {
            (Some(key), _) => Some(&key.organization_id),
            (None, KeyCommand::Create(create)) => Some(&create.organization_id),
            (None, _) => None,
        }
    }

    /// The user whose key it is. Events of a key whose user was erased are the organization's, as the user is
    /// unknown.
    fn subject(id: &KeyId, key: Option<&Self>, command: &KeyCommand) -> Subject {
        let user_id = match (key, command) {
            (Some(key), _) => key.user_id.as_ref(),
            (None, KeyCommand::Create(create)) => create.user_id.as_ref(),
            (None, _) => None,
        };
        Subject::of(Self::organization_id(id, key, command), user_id)
    }

    fn reads<'a>(id: &'a KeyId, key: Option<&'a Self>, command: &'a KeyCommand) -> Reads<'a> {
        let (api_id, owner) = match (key, command) {
            (Some(key), _) => (key.api_id, Some(&key.owner)),
            (None, KeyCommand::Create(create)) => (create.api_id, Some(&create.owner)),
            (None, _) => (None, None),
        };
        let user = match (command, key) {
            (KeyCommand::Create(create), _) => create.user_id.as_ref().zip(Some(create.environment)),
            (KeyCommand::Reactivate, Some(key)) => key.user_id.as_ref().zip(Some(key.environment)),
            _ => None,
        };
        let organization_id = Self::organization_id(id, key, command);
        let client_id = owner.and_then(|owner| owner.client_id.as_ref());
        let link = organization_id.zip(client_id).map(|(partner_id, client_id)| {
            ClientLinkId { partner_id: partner_id.clone(), client_id: client_id.clone() }.into()
        });
        Reads {
            api: api_id.map(StreamId::from),
            client: client_id.cloned().map(StreamId::from),
            link,
            user: user.map(|(user_id, environment)| (environment, user_id)),
            ..Reads::organization(organization_id)
        }
    }

    fn decide(
        _id: &KeyId,
        key: Option<&Self>,
        command: &KeyCommand,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        let Context { organization, api, client, link, keys_of_user, .. } = *context;
        decide(KeyState { key, organization, api, client, link, keys_of_user }, command, now)
    }
}

/// Returns the events that `command` leads to at `now`, none when nothing changes.
///
/// # Errors
/// The rule that rejects the command.
pub fn decide(state: KeyState<'_>, command: &KeyCommand, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    if let KeyCommand::Create(create) = command {
        return create_key(state, create, now).map(|event| vec![event]);
    }
    let key = state.key.ok_or(Rejection::KeyUnknown)?;
    let status = key.status(now);
    let by_system = matches!(command, KeyCommand::RecordExpiry);
    if status == KeyStatus::Deleted {
        return if by_system { Ok(Vec::new()) } else { Err(Rejection::KeyDeleted) };
    }
    if state.is_orphaned(key) && !by_system && !matches!(command, KeyCommand::Delete) {
        return Err(Rejection::KeyDeleted);
    }
    match (command, status) {
        (KeyCommand::Create(_), _) => Ok(Vec::new()),
        (KeyCommand::Edit(edit), _) => {
            let events = edit_key(key, state.api, edit, now)?;
            allowed(state.policy(key.environment).map(|policy| policy.breaches_of_edit(key, edit)))?;
            Ok(events)
        }
        (KeyCommand::RecordExpiry, _) => Ok(record_expiry(key, now).into_iter().collect()),
        (KeyCommand::Delete, _) => Ok(vec![Event::KeyDeleted((), ())]),
        // Revoke, reactivate and rotate: an expired key can only be edited and deleted, by the arms above.
        (_, KeyStatus::Expired) => Err(Rejection::KeyExpired),
        (_, KeyStatus::Deleted) => Err(Rejection::KeyDeleted),
        (KeyCommand::Revoke { reason, note }, KeyStatus::Active) => {
            let personal = KeyRevokedPersonal { note: note.clone() };
            Ok(vec![Event::KeyRevoked(KeyRevoked { reason: *reason }, personal)])
        }
        (KeyCommand::Revoke { .. }, KeyStatus::Revoked) => Err(Rejection::KeyAlreadyRevoked),
        (KeyCommand::Reactivate, KeyStatus::Revoked) => {
            let policy = state.policy(key.environment).filter(|_| key.user_id.is_some());
            allowed(policy.map(|policy| policy.breach_of_keys(state.keys_of_user).into_iter().collect()))?;
            Ok(vec![Event::KeyReactivated((), ())])
        }
        (KeyCommand::Reactivate, KeyStatus::Active) => Err(Rejection::KeyNotRevoked),
        (KeyCommand::Rotate { .. }, KeyStatus::Revoked) => Err(Rejection::KeyRevoked),
        (KeyCommand::Rotate { digest, hint, overlap_millis }, KeyStatus::Active) => {
            let overlap_end = now.saturating_add_millis((*overlap_millis).max(0));
            let previous_valid_until = key.expires_at.map_or(overlap_end, |end| end.min(overlap_end));
            let facts = KeyRotated { digest: *digest, hint: hint.clone(), previous_valid_until };
            Ok(vec![Event::KeyRotated(facts, ())])
        }
    }
}

fn create_key(state: KeyState<'_>, create: &CreateKey, now: Timestamp) -> Result<Event, Rejection> {
    if state.key.is_some() {
        return Err(Rejection::KeyExists);
    }
    let organization = state.organization.ok_or(Rejection::OrganizationUnknown)?;
    if organization.status() == OrganizationStatus::Deleted {
        return Err(Rejection::OrganizationDeleted);
    }
    if !organization.kind.may_create_keys() {
        return Err(Rejection::OrganizationKindNotAllowed(organization.kind));
    }
    check_owner(state, organization, create)?;
    if create.api_id.is_some() {
        let api = state.api.ok_or(Rejection::ApiUnknown)?;
        if api.deleted_at.is_some() {
            return Err(Rejection::ApiDeleted);
        }
        check_scopes(api, &create.scopes)?;
    }
    check_expiry(create.expires_at, now)?;
    let policy = state.policy(create.environment);
    allowed(policy.map(|policy| policy.breaches_of_new(create, now, state.keys_of_user)))?;
    let facts = KeyCreated {
        digest: create.digest,
        hint: create.hint.clone(),
        environment: create.environment,
        owner: create.owner.clone(),
        api_id: create.api_id,
        scopes: create.scopes.clone(),
        expires_at: create.expires_at,
    };
    let personal = KeyCreatedPersonal {
        user_id: create.user_id.clone(),
        name: create.name.clone(),
        description: create.description.clone(),
        metadata: create.metadata.clone(),
    };
    Ok(Event::KeyCreated(facts, personal))
}

fn allowed(breaches: Option<Vec<Breach>>) -> Result<(), Rejection> {
    match breaches {
        Some(breaches) if !breaches.is_empty() => Err(Rejection::PolicyViolated(breaches)),
        _ => Ok(()),
    }
}

fn check_owner(
    state: KeyState<'_>,
    organization: &Organization,
    create: &CreateKey,
) -> Result<(), Rejection> {
    if !matches!(create.owner.kind, OwnerKind::Partner | OwnerKind::Client) {
        return Ok(());
    }
    if organization.kind != OrganizationKind::Partner {
        return Err(Rejection::NotAPartner(organization.kind));
    }
    let in_portfolio = !is_gone(state.client) && state.link.is_some_and(ClientLink::is_linked);
    if create.owner.kind == OwnerKind::Client && !in_portfolio {
        return Err(Rejection::ClientNotInPortfolio);
    }
    Ok(())
}

fn edit_key(key: &Key, api: Option<&Api>, edit: &EditKey, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    if let Some(name) = edit.name.as_ref().filter(|name| **name != key.name) {
        events.push(Event::KeyRenamed((), KeyRenamedPersonal { name: name.clone() }));
    }
    if let Some(description) =
        edit.description.as_ref().filter(|description| **description != key.description)
    {
        let personal = KeyDescriptionChangedPersonal { description: description.clone() };
        events.push(Event::KeyDescriptionChanged((), personal));
    }
    if let Some(metadata) = edit.metadata.as_ref().filter(|metadata| changes(metadata, &key.metadata)) {
        events.push(Event::KeyMetadataChanged((), KeyMetadataChangedPersonal { metadata: metadata.clone() }));
    }
    if let Some(scopes) = edit.scopes.as_ref().filter(|scopes| !is_same_set(scopes, &key.scopes)) {
        if let Some(api) = api {
            check_scopes(api, scopes)?;
        }
        events.push(Event::KeyScopesChanged(KeyScopesChanged { scopes: scopes.clone() }, ()));
    }
    if let Some(expires_at) = edit.expires_at.filter(|expires_at| *expires_at != key.expires_at) {
        // Expired is final: a later expiry must not revive the key.
        if key.status(now) == KeyStatus::Expired {
            return Err(Rejection::KeyExpired);
        }
        check_expiry(expires_at, now)?;
        events.push(Event::KeyExpiryChanged(KeyExpiryChanged { expires_at }, ()));
    }
    Ok(events)
}

fn changes(metadata: &Option<Metadata>, current: &Option<Metadata>) -> bool {
    match (metadata, current) {
        (Some(metadata), Some(current)) => !metadata.is_same(current),
        (metadata, current) => metadata.is_some() || current.is_some(),
    }
}

fn record_expiry(key: &Key, now: Timestamp) -> Option<Event> {
    let expires_at = key.expires_at.filter(|end| *end <= now && !key.expiry_recorded)?;
    Some(Event::KeyExpired(KeyExpired { expires_at }, ()))
}

fn check_expiry(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), Rejection> {
    if expires_at.is_some_and(|end| end <= now) { Err(Rejection::ExpiryNotInFuture) } else { Ok(()) }
}

fn check_scopes(api: &Api, scopes: &[Scope]) -> Result<(), Rejection> {
    let unknown: Vec<usize> = scopes
        .iter()
        .enumerate()
        .filter(|(_, scope)| !api.scopes.contains(scope))
        .map(|(index, _)| index)
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(Rejection::ScopesUnknown(unknown)) }
}
