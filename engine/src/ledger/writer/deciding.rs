//! How the writer comes to a decision: it loads what the rules look at, and asks them.

use foldhash::HashSet;

use super::{DIRECTORY_LEN_MAX, Decision, Loaded, State, does_not_fit};
use crate::domain::application::{self, ApplicationCommand};
use crate::domain::erasure::{self, ErasureCommand};
use crate::domain::event::Event;
use crate::domain::key::{self, Key, KeyCommand, KeyState};
use crate::domain::organization::{self, Organization};
use crate::domain::portal_session::{self, PortalSessionCommand};
use crate::domain::portfolio::{self, ClientLink, ClientLinkState};
use crate::domain::rejection::Rejection;
use crate::domain::resource_api::{self, Api};
use crate::domain::root_key::{self, RootKeyCommand};
use crate::domain::stream::StreamId;
use crate::domain::webhook::{self, WebhookCommand};
use crate::ledger::{Aggregate, Command, Error, Request, UserOf};
use crate::log::{self, Append, CommandId};
use crate::value::id::{ApiId, ClientLinkId, EventId, OrganizationId};
use crate::value::subject::Subject;
use crate::value::time::Timestamp;

impl State {
    pub(super) fn decide(
        &mut self,
        request: &Request,
        attempts: u32,
        now: Timestamp,
        changed: &HashSet<StreamId>,
        names: &HashSet<CommandId>,
    ) -> Result<Decision, log::Error> {
        let stream = request.command.stream();
        if let Some(key) = request.command_key {
            if names.contains(&key.id) {
                return Ok(Decision::Later);
            }
            if let Some(remembered) = self.reader.find_command(&key.id) {
                let answer = if remembered.fingerprint == key.fingerprint {
                    self.replay(&stream, remembered)
                } else {
                    Err(Error::CommandReused)
                };
                return Ok(Decision::Answer(answer));
            }
        }
        if changed.contains(&stream) {
            return Ok(Decision::Later);
        }
        // Ids of new keys are drawn at random: taking it that nobody has this one saves looking, and the log refuses the
        // append should it be wrong.
        let is_new = attempts == 0 && matches!(request.command, Command::Key(_, KeyCommand::Create(_)));
        let loaded = if is_new { Loaded::ABSENT } else { self.load(&stream)? };
        if let Some(expected) = request.expected_version {
            let actual = loaded.head.version;
            if loaded.aggregate.is_some() && expected != actual {
                let rejection = Rejection::VersionConflict { expected, actual };
                return Ok(Decision::Answer(Err(rejection.into())));
            }
        }
        let Some(decided) = self.apply_rules(&request.command, loaded.aggregate.as_ref(), now, changed)?
        else {
            return Ok(Decision::Later);
        };
        let (events, organization_id) = match decided {
            Ok(decided) => decided,
            // The refusal may rest on what was taken for granted.
            Err(_) if is_new => return self.decide(request, attempts + 1, now, changed, names),
            Err(rejection) => return Ok(Decision::Answer(Err(rejection.into()))),
        };
        if events.is_empty() {
            return Ok(match loaded.aggregate {
                Some(aggregate) => Decision::Unchanged(aggregate),
                None => Decision::Answer(Err(Error::Rejected(Rejection::KeyUnknown))),
            });
        }
        let events = events.into_iter().map(|event| Ok((self.new_event_id(now)?, event)));
        let append = Append {
            stream,
            expected: loaded.head,
            time: now,
            subject: subject_of(&request.command, loaded.aggregate.as_ref(), organization_id.as_ref()),
            organization_id,
            actor: request.actor.clone(),
            request_id: request.request_id.clone(),
            causation: request.causation,
            events: events.collect::<Result<_, log::Error>>()?,
            command: request.command_key,
        };
        Ok(Decision::Append(Box::new(append), loaded.aggregate))
    }

    /// Asks the rules. `None` when they look at a stream that the group changes.
    #[allow(clippy::type_complexity)]
    fn apply_rules(
        &mut self,
        command: &Command,
        aggregate: Option<&Aggregate>,
        now: Timestamp,
        changed: &HashSet<StreamId>,
    ) -> Result<Option<Result<(Vec<Event>, Option<OrganizationId>), Rejection>>, log::Error> {
        let decided = match command {
            Command::Key(_, command) => {
                let key = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::Key(key) => Some(key),
                    _ => None,
                });
                let (organization_id, api_id, owner) = match (key, command) {
                    (Some(key), _) => (Some(key.organization_id.clone()), key.api_id, Some(&key.owner)),
                    (None, KeyCommand::Create(create)) => {
                        (Some(create.organization_id.clone()), create.api_id, Some(&create.owner))
                    }
                    (None, _) => (None, None, None),
                };
                let client_id = owner.and_then(|owner| owner.client_id.clone());
                let link_id = organization_id.clone().zip(client_id.clone());
                let link_id = link_id.map(|(partner_id, client_id)| ClientLinkId { partner_id, client_id });
                let looks_at = organization_id.clone().map(StreamId::Organization).into_iter();
                let looks_at = looks_at.chain(api_id.map(StreamId::Api));
                let looks_at = looks_at.chain(client_id.clone().map(StreamId::Organization));
                let mut looks_at = looks_at.chain(link_id.clone().map(StreamId::ClientLink));
                if looks_at.any(|stream| changed.contains(&stream)) {
                    return Ok(None);
                }
                let organization =
                    organization_id.clone().map(|id| self.organization(id)).transpose()?.flatten();
                let api = api_id.map(|id| self.api(id)).transpose()?.flatten();
                let client = client_id.map(|id| self.organization(id)).transpose()?.flatten();
                let link = link_id.map(|id| self.client_link(id)).transpose()?.flatten();
                let user = organization.as_ref().and_then(|it| counted_user(it, key, command));
                let keys_of_user = match &user {
                    // Whoever gets a key by the same group has one more than the observers know of.
                    Some(user) if self.counted.contains(user) => return Ok(None),
                    Some(user) => self.keys_of_user(user, now)?,
                    None => 0,
                };
                let state = KeyState {
                    keys_of_user,
                    key,
                    organization: organization.as_ref(),
                    api: api.as_ref(),
                    client: client.as_ref(),
                    link: link.as_ref(),
                };
                let decided = key::decide(state, command, now);
                self.counted.extend(user.filter(|_| decided.is_ok()));
                decided.map(|events| (events, organization_id))
            }
            Command::Organization(id, command) => {
                let organization = aggregate.and_then(as_organization);
                organization::decide(organization, command, now).map(|events| (events, Some(id.clone())))
            }
            Command::ClientLink(id, command) => {
                let looks_at = [&id.partner_id, &id.client_id].map(|id| StreamId::Organization(id.clone()));
                if looks_at.iter().any(|stream| changed.contains(stream)) {
                    return Ok(None);
                }
                let partner = self.organization(id.partner_id.clone())?;
                let client = self.organization(id.client_id.clone())?;
                let link = aggregate.and_then(as_client_link);
                let state = ClientLinkState { link, partner: partner.as_ref(), client: client.as_ref() };
                portfolio::decide(id, state, *command).map(|events| (events, Some(id.partner_id.clone())))
            }
            Command::Api(_, command) => {
                resource_api::decide(aggregate.and_then(as_api), command, now).map(|events| (events, None))
            }
            Command::RootKey(_, command) => {
                let root_key = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::RootKey(root_key) => Some(root_key),
                    _ => None,
                });
                let organization_id = match (root_key, command) {
                    (Some(root_key), _) => root_key.organization_id.clone(),
                    (None, RootKeyCommand::Create { organization_id, .. }) => organization_id.clone(),
                    (None, RootKeyCommand::Revoke) => None,
                };
                root_key::decide(root_key, command, now).map(|events| (events, organization_id))
            }
            Command::Application(_, command) => {
                let application = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::Application(application) => Some(application),
                    _ => None,
                });
                let organization_id = match (application, command) {
                    (Some(application), _) => application.organization_id.clone(),
                    (None, ApplicationCommand::Create { organization_id, .. }) => organization_id.clone(),
                    (None, _) => None,
                };
                application::decide(application, command, now).map(|events| (events, organization_id))
            }
            Command::PortalSession(_, command) => {
                let session = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::PortalSession(session) => Some(session),
                    _ => None,
                });
                let organization_id = match (session, command) {
                    (Some(session), _) => Some(session.organization_id.clone()),
                    (None, PortalSessionCommand::Create { organization_id, .. }) => {
                        Some(organization_id.clone())
                    }
                    (None, _) => None,
                };
                if organization_id.clone().is_some_and(|id| changed.contains(&StreamId::Organization(id))) {
                    return Ok(None);
                }
                let organization =
                    organization_id.clone().map(|id| self.organization(id)).transpose()?.flatten();
                portal_session::decide(session, organization.as_ref(), command, now)
                    .map(|events| (events, organization_id))
            }
            Command::Erasure(_, command) => {
                let erasure = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::Erasure(erasure) => Some(erasure),
                    _ => None,
                });
                let ErasureCommand::Erase { organization_id, user_id } = command;
                let organization = self.organization(organization_id.clone())?;
                let keys = self.vault.keys_of(&Subject::of(Some(organization_id), user_id.as_ref()));
                erasure::decide(erasure, organization.as_ref(), &keys, command)
                    .map(|events| (events, Some(organization_id.clone())))
            }
            Command::Webhook(_, command) => {
                let webhook = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::Webhook(webhook) => Some(webhook),
                    _ => None,
                });
                let organization_id = match (webhook, command) {
                    (Some(webhook), _) => webhook.organization_id.clone(),
                    (None, WebhookCommand::Register { organization_id, .. }) => organization_id.clone(),
                    (None, _) => None,
                };
                if organization_id.clone().is_some_and(|id| changed.contains(&StreamId::Organization(id))) {
                    return Ok(None);
                }
                let organization =
                    organization_id.clone().map(|id| self.organization(id)).transpose()?.flatten();
                webhook::decide(webhook, organization.as_ref(), command, now)
                    .map(|events| (events, organization_id))
            }
        };
        Ok(Some(decided))
    }

    fn new_event_id(&mut self, now: Timestamp) -> Result<EventId, log::Error> {
        let Ok(ulid) = self.ids.draw(now, &mut self.rng);
        Ok(ulid.into())
    }

    fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> Result<u32, log::Error> {
        let counted = self.observers.iter().find_map(|observer| observer.keys_of_user(user, now));
        counted.ok_or_else(|| log::Error::Unavailable("nobody counts the keys of users".into()))
    }

    fn organization(&mut self, id: OrganizationId) -> Result<Option<Organization>, log::Error> {
        Ok(match self.load(&StreamId::Organization(id))?.aggregate {
            Some(Aggregate::Organization(organization)) => Some(organization),
            _ => None,
        })
    }

    fn api(&mut self, id: ApiId) -> Result<Option<Api>, log::Error> {
        Ok(match self.load(&StreamId::Api(id))?.aggregate {
            Some(Aggregate::Api(api)) => Some(api),
            _ => None,
        })
    }

    fn client_link(&mut self, id: ClientLinkId) -> Result<Option<ClientLink>, log::Error> {
        Ok(match self.load(&StreamId::ClientLink(id))?.aggregate {
            Some(Aggregate::ClientLink(link)) => Some(link),
            _ => None,
        })
    }

    fn load(&mut self, stream: &StreamId) -> Result<Loaded, log::Error> {
        if let Some(loaded) = self.directory.get(stream) {
            return Ok(loaded.clone());
        }
        let read = self.reader.read_stream(stream)?;
        let aggregate = Aggregate::fold(&read.records).map_err(does_not_fit)?;
        let loaded = Loaded { aggregate, head: read.head };
        if loaded.aggregate.as_ref().is_some_and(is_looked_at) {
            if self.directory.len() >= DIRECTORY_LEN_MAX {
                self.directory.clear();
            }
            self.directory.insert(stream.clone(), loaded.clone());
        }
        Ok(loaded)
    }
}

/// Whose personal text the events of a command hold. What is written of a key whose user was erased is the organization's:
/// nobody knows the user any more.
fn subject_of(
    command: &Command,
    aggregate: Option<&Aggregate>,
    organization_id: Option<&OrganizationId>,
) -> Subject {
    let user_id = match (command, aggregate) {
        // The record of an erasure outlives it, with where its actor called from.
        (Command::Erasure(..), _) => return Subject::Installation,
        (_, Some(Aggregate::Key(key))) => key.user_id.as_ref(),
        (_, Some(Aggregate::PortalSession(session))) => session.user_id.as_ref(),
        (Command::Key(_, KeyCommand::Create(create)), None) => create.user_id.as_ref(),
        (Command::PortalSession(_, PortalSessionCommand::Create { user_id, .. }), None) => user_id.as_ref(),
        _ => None,
    };
    Subject::of(organization_id, user_id)
}

/// The user whose keys are to be counted before a command may give them another active one.
fn counted_user(organization: &Organization, key: Option<&Key>, command: &KeyCommand) -> Option<UserOf> {
    let (environment, user_id) = match (command, key) {
        (KeyCommand::Create(create), _) => (create.environment, create.user_id.clone()?),
        (KeyCommand::Reactivate, Some(key)) => (key.environment, key.user_id.clone()?),
        _ => return None,
    };
    organization.policies.get(environment)?.max_keys_per_user?;
    Some(UserOf { organization_id: organization.id.clone(), environment, user_id })
}

/// Whether decisions about other aggregates look at this one.
pub(super) const fn is_looked_at(aggregate: &Aggregate) -> bool {
    matches!(aggregate, Aggregate::Organization(_) | Aggregate::Api(_) | Aggregate::ClientLink(_))
}

fn as_client_link(aggregate: &Aggregate) -> Option<&ClientLink> {
    match aggregate {
        Aggregate::ClientLink(link) => Some(link),
        _ => None,
    }
}

fn as_organization(aggregate: &Aggregate) -> Option<&Organization> {
    match aggregate {
        Aggregate::Organization(organization) => Some(organization),
        _ => None,
    }
}

fn as_api(aggregate: &Aggregate) -> Option<&Api> {
    match aggregate {
        Aggregate::Api(api) => Some(api),
        _ => None,
    }
}
