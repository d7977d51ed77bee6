//! The origin of a request: the client's address, the actor that the log records, and who may see the address
//! later.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::request::Parts;
use http::{HeaderValue, header};
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::actor::{Actor, ActorKind};

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

/// Removes the actor's address and user agent from an event if the caller may not see them: a caller who sees
/// only their own keys does not learn the addresses of other actors.
pub(crate) fn conceal(caller: &Principal, record: &mut Record) {
    let Actor { kind, id, ip, user_agent } = &mut record.actor;
    if caller.user_id.is_some() && (*kind != caller.kind || **id != *caller.id) {
        (*ip, *user_agent) = (None, None);
    }
}
