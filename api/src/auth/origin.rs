//! The origin of a request: the client's address, the actor that the log records, and who may see the address
//! later.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::request::Parts;
use http::{HeaderValue, header};
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::id::OrganizationId;
use keyledger_projections::verification::VerificationIndex;

use crate::auth::principal::Principal;
use crate::service::Service;

/// Returns the client's address of a request.
#[must_use]
pub(crate) fn address(service: &Service, parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip();
    Some(service.trusted_proxies.client(peer, &parts.headers))
}

/// Returns the actor of a request, as the log records them.
#[must_use]
pub(crate) fn actor(service: &Service, parts: &Parts, kind: ActorKind, id: &str) -> Actor {
    actor_at(kind, id, address(service, parts), parts.headers.get(header::USER_AGENT))
}

/// Returns the actor of a request from the address `ip`, with its `User-Agent`.
#[must_use]
pub(crate) fn actor_at(
    kind: ActorKind,
    id: &str,
    ip: Option<IpAddr>,
    user_agent: Option<&HeaderValue>,
) -> Actor {
    let user_agent = user_agent.and_then(|value| value.to_str().ok());
    Actor { kind, id: id.into(), ip, user_agent: user_agent.map(Actor::clip_user_agent) }
}

/// Removes the actor's address and user agent from an event if the caller may not see them. A caller who sees
/// only their own keys does not learn the addresses of other actors, and a caller who is bound to an
/// organization does not learn those of actors from outside it, who are the installation's operators.
pub(crate) fn conceal(index: &VerificationIndex, caller: &Principal, record: &mut Record) {
    let actor = &mut record.actor;
    let is_own = actor.kind == caller.kind && *actor.id == *caller.id;
    if !is_own && caller.user_id.is_some() {
        (actor.ip, actor.user_agent) = (None, None);
    } else if !is_own {
        conceal_outsiders(index, caller.organization_id.as_ref(), record);
    }
}

/// Removes the actor's address and user agent from an event that somebody in `organization_id` reads, if the
/// actor is not of that organization. Everything stays for a reader of all organizations.
pub(crate) fn conceal_outsiders(
    index: &VerificationIndex,
    organization_id: Option<&OrganizationId>,
    record: &mut Record,
) {
    let Some(organization_id) = organization_id else { return };
    let Actor { kind, id, ip, user_agent } = &mut record.actor;
    let bound_to = match kind {
        ActorKind::RootKey => {
            id.parse().ok().and_then(|id| index.root_key(id)).and_then(|it| it.organization_id.clone())
        }
        ActorKind::Application => {
            id.parse().ok().and_then(|id| index.application(id)).and_then(|it| it.organization_id.clone())
        }
        // They act in their own organization only.
        ActorKind::PortalSession | ActorKind::User | ActorKind::Key | ActorKind::System => return,
    };
    if bound_to.as_ref() != Some(organization_id) {
        (*ip, *user_agent) = (None, None);
    }
}
