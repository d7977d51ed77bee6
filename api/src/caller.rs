//! Who calls, and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use keyledger_engine::actor::{Actor, ActorKind};
use keyledger_engine::id::OrganizationId;
use keyledger_engine::root_key::{Permission, RootKey};

use crate::problem::{Code, Problem};
use crate::request_id::RequestId;
use crate::service::Service;

/// The header that carries a credential beside `Authorization`.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// An authenticated caller.
pub struct Caller {
    /// The root key that the call carries.
    pub root_key: Arc<RootKey>,
    /// The caller as the log will name them.
    pub actor: Actor,
    /// The request's id.
    pub request_id: RequestId,
}

impl Caller {
    /// Lets only callers with a permission on.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        require(&self.root_key, permission)
    }

    /// Whether the caller may see what belongs to an organization.
    #[must_use]
    pub fn sees(&self, organization_id: &OrganizationId) -> bool {
        self.bound_to().is_none_or(|bound| bound == organization_id)
    }

    /// The only organization that the caller may see, if bound to one.
    #[must_use]
    pub fn bound_to(&self) -> Option<&OrganizationId> {
        self.root_key.organization_id.as_ref()
    }

    /// Lets only callers on that see all organizations.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_unbound(&self) -> Result<(), Problem> {
        match self.bound_to() {
            None => Ok(()),
            Some(_) => Err(Problem::new(
                Code::Forbidden,
                "this call concerns more than the organization that the root key is bound to",
            )),
        }
    }
}

/// Lets only root keys with a permission on.
///
/// # Errors
/// `forbidden`, naming the permission.
pub fn require(root_key: &RootKey, permission: Permission) -> Result<(), Problem> {
    if permission.is_granted_by(&root_key.permissions) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, format!("the root key lacks the permission {permission}")))
}

/// The token in `Authorization: Bearer` or, without that header, in `x-api-key`.
#[must_use]
pub fn presented_token(headers: &HeaderMap) -> Option<&str> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        }
        None => headers.get(API_KEY_HEADER)?.to_str().ok().map(str::trim),
    }
}

/// Finds the root key that a call carries.
///
/// # Errors
/// `unauthenticated`.
pub fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Arc<RootKey>, Problem> {
    presented_token(headers)
        .and_then(|token| service.index.authenticate_root_key(token))
        .ok_or_else(|| unauthenticated(service))
}

/// Why nobody was found behind a credential: the credential, or an index that knows nobody any more.
fn unauthenticated(service: &Service) -> Problem {
    let code = if service.index.poisoned().is_some() {
        Code::VerificationUnavailable
    } else {
        Code::Unauthenticated
    };
    Problem::of(code)
}

fn address_of(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical())
}

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let root_key = authenticate(service, &parts.headers)?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let actor = Actor {
            kind: ActorKind::RootKey,
            id: root_key.id.to_string().into(),
            ip: address_of(parts),
            user_agent: user_agent.map(Actor::clip_user_agent),
        };
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        Ok(Self { root_key, actor, request_id })
    }
}
