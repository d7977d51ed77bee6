//! Who calls, and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use keyledger_engine::actor::Actor;
use keyledger_engine::id::OrganizationId;
use keyledger_engine::root_key::Permission;

use crate::principal::Principal;
use crate::problem::{Code, Problem};
use crate::request_id::RequestId;
use crate::service::Service;

/// The header that carries a credential beside `Authorization`.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// An authenticated caller.
pub struct Caller {
    /// Who they are.
    pub principal: Arc<Principal>,
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
        require(&self.principal, permission)
    }

    /// Lets only callers on who may themselves do all that they want others to be able to.
    ///
    /// # Errors
    /// `forbidden`, naming a permission that the caller lacks.
    pub fn require_all(&self, permissions: &[Permission]) -> Result<(), Problem> {
        permissions.iter().try_for_each(|permission| self.require(*permission))
    }

    /// Whether the caller may see what belongs to an organization.
    #[must_use]
    pub fn sees(&self, organization_id: &OrganizationId) -> bool {
        self.bound_to().is_none_or(|bound| bound == organization_id)
    }

    /// The only organization that the caller may see, if bound to one.
    #[must_use]
    pub fn bound_to(&self) -> Option<&OrganizationId> {
        self.principal.organization_id.as_ref()
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
                "this call concerns more than the organization that the caller is bound to",
            )),
        }
    }
}

/// Lets only callers with a permission on.
///
/// # Errors
/// `forbidden`, naming the permission.
pub fn require(principal: &Principal, permission: Permission) -> Result<(), Problem> {
    if principal.may(permission) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, format!("the caller lacks the permission {permission}")))
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

/// Finds out who calls: by a root key's token, or an access token.
///
/// # Errors
/// `unauthenticated`.
pub fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Arc<Principal>, Problem> {
    presented_token(headers)
        .and_then(|token| authenticate_token(service, token))
        .ok_or_else(|| unauthenticated(service))
}

/// Who stands behind a credential.
#[must_use]
pub fn authenticate_token(service: &Service, token: &str) -> Option<Arc<Principal>> {
    if let Some(root_key) = service.index.authenticate_root_key(token) {
        return Some(Arc::new(Principal::of_root_key(&root_key)));
    }
    let claims = service.access_tokens.check(token, service.now())?;
    let application = service.index.active_application(claims.application_id)?;
    let principal = Principal::of_application(&application, &claims.scope, claims.expires_at);
    (application.secret_version == claims.secret_version).then(|| Arc::new(principal))
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
        let principal = authenticate(service, &parts.headers)?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let actor = Actor {
            kind: principal.kind,
            id: principal.id.clone(),
            ip: address_of(parts),
            user_agent: user_agent.map(Actor::clip_user_agent),
        };
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        Ok(Self { principal, actor, request_id })
    }
}
