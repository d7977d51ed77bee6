//! Who calls, and what they may do.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};
use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::key::Key;
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::access::Access;
use crate::auth::access_token::Claims;
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::auth::session_cookie::check_csrf;
use crate::http::request_id::RequestId;
use crate::request::precondition::reach_min_position;
use crate::service::Service;

/// The header that carries a credential beside `Authorization`.
pub(crate) const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// An authenticated caller.
pub(crate) struct Caller {
    /// Who they are.
    pub principal: Arc<Principal>,
    /// The caller as the log will name them.
    pub actor: Actor,
    /// The request's id.
    pub request_id: RequestId,
}

impl Caller {
    /// Lets only callers on who may themselves do all that they want others to be able to.
    ///
    /// # Errors
    /// `forbidden`, naming a permission that the caller lacks.
    pub(crate) fn require_all(&self, permissions: &[Permission]) -> Result<(), Problem> {
        match permissions.iter().find(|permission| !self.principal.may(**permission)) {
            None => Ok(()),
            Some(permission) => Err(Problem::new(
                Code::Forbidden,
                format!("the caller lacks the permission {permission}, which this takes"),
            )),
        }
    }

    /// Whether the caller may see what belongs to an organization.
    #[must_use]
    pub(crate) fn sees(&self, organization_id: &OrganizationId) -> bool {
        self.bound_to().is_none_or(|bound| bound == organization_id)
    }

    /// Whether the caller may see what belongs to an organization, or to the service itself if to none.
    #[must_use]
    pub(crate) fn sees_owned_by(&self, organization_id: Option<&OrganizationId>) -> bool {
        self.bound_to().is_none_or(|bound| organization_id == Some(bound))
    }

    /// The only organization that the caller may see, if bound to one.
    #[must_use]
    pub(crate) fn bound_to(&self) -> Option<&OrganizationId> {
        self.principal.organization_id.as_ref()
    }

    /// Whether the caller may see a key.
    #[must_use]
    pub(crate) fn sees_key(&self, key: &Key) -> bool {
        self.principal.sees(&key.organization_id, key.user_id.as_ref())
    }

    /// The only user whose keys the caller may see, if there is such a one.
    #[must_use]
    pub(crate) fn own_keys_of(&self) -> Option<&UserId> {
        self.principal.user_id.as_ref()
    }
}

/// A caller who is answered for longer than a moment, and is looked at again as long as that takes.
pub(crate) struct StandingCaller {
    /// The headers that carry the credential.
    credential: HeaderMap,
    principal: Arc<Principal>,
    /// The epoch before the caller was last found good: whatever may end that since has raised the index's.
    epoch: Option<u64>,
}

impl StandingCaller {
    /// The caller of a request that only reads, with its headers.
    #[must_use]
    pub(crate) fn new(caller: &Caller, headers: &HeaderMap) -> Self {
        let mut credential = headers.clone();
        let carries = [header::AUTHORIZATION, API_KEY_HEADER, header::COOKIE];
        let others: Vec<_> = headers.keys().filter(|name| !carries.contains(*name)).cloned().collect();
        for name in others {
            credential.remove(name);
        }
        Self { credential, principal: Arc::clone(&caller.principal), epoch: None }
    }

    /// Who they are.
    #[must_use]
    pub(crate) const fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether the credential is good still, and for the same.
    pub(crate) fn stands(&mut self, service: &Service) -> bool {
        let epoch = service.index.authentication_epoch();
        let by_header = has_credential(&self.credential);
        // A session of the console ends without a record, so whoever comes with a cookie is always looked up.
        if by_header && self.epoch == Some(epoch) && self.principal.is_current(service.now()) {
            return true;
        }
        let found = if by_header {
            authenticate(service, &self.credential)
        } else {
            signed_in(service, &Method::GET, &self.credential)
        };
        self.epoch = Some(epoch);
        found.is_ok_and(|principal| principal == self.principal)
    }
}

/// The token in `Authorization: Bearer` or, without that header, in `x-api-key`.
#[must_use]
pub(crate) fn presented_token(headers: &HeaderMap) -> Option<&str> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        }
        None => headers.get(API_KEY_HEADER)?.to_str().ok().map(str::trim),
    }
}

/// Finds out who calls: by a root key's token, an access token, or a token of the OpenID provider.
///
/// # Errors
/// `unauthenticated`.
pub(crate) fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Arc<Principal>, Problem> {
    presented_token(headers)
        .and_then(|token| authenticate_token(service, token))
        .ok_or_else(|| unauthenticated(service))
}

/// Who stands behind a credential.
#[must_use]
pub(crate) fn authenticate_token(service: &Service, token: &str) -> Option<Arc<Principal>> {
    if let Some(root_key) = service.index.authenticate_root_key(token) {
        return Some(Arc::new(Principal::of_root_key(&root_key)));
    }
    let now = service.now();
    if let Some((application, claims)) = access_token_holder(service, token, now) {
        return Some(Arc::new(Principal::of_application(&application, &claims.scope, claims.expires_at)));
    }
    let user = service.openid_provider.as_ref()?.check(token, now)?;
    service.index.poisoned().is_none().then(|| {
        let is_active = |id: &OrganizationId| {
            service.index.organization(id).is_some_and(|organization| organization.deleted_at.is_none())
        };
        Arc::new(Principal::of_user(&user, is_active))
    })
}

/// The application that an access token was given to, and what the token says; none when the token is not good, or the
/// application has ended or has got another secret since.
#[must_use]
pub(crate) fn access_token_holder(
    service: &Service,
    token: &str,
    now: Timestamp,
) -> Option<(Arc<Application>, Arc<Claims>)> {
    let claims = service.access_tokens.check(token, now)?;
    let application = service.index.active_application(claims.application_id)?;
    (application.secret_version == claims.secret_version).then_some((application, claims))
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

/// Says of a request that the service makes to itself on whose behalf it does. No request from outside carries it.
#[derive(Clone)]
pub(crate) struct Admitted(pub Arc<Principal>);

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Problem;

    /// Finds out who calls, and lets them on if they may make the call.
    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let principal = if let Some(Admitted(principal)) = parts.extensions.get() {
            Arc::clone(principal)
        } else if has_credential(&parts.headers) {
            authenticate_anybody(service, &parts.headers).await?
        } else {
            signed_in(service, &parts.method, &parts.headers)?
        };
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        admit(&principal, &parts.method, path)?;
        // Here once for all calls; those that read from projections wait for these besides.
        reach_min_position(&parts.headers, &service.index.watch()).await?;
        let actor = origin::actor(service, parts, principal.kind, &principal.id);
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        Ok(Self { principal, actor, request_id })
    }
}

/// Makes sure that somebody may make a call.
///
/// # Errors
/// `forbidden`; `internal` for a call without a row in [`access`](crate::auth::access).
pub(crate) fn admit(principal: &Principal, method: &Method, path: &str) -> Result<(), Problem> {
    let access = Access::to(method, path)
        .ok_or_else(|| Problem::internal(&format!("{method} {path} has no row in the table of calls")))?;
    access.admit(principal)
}

/// Finds out who calls, and asks the OpenID provider for its keys where that may tell.
async fn authenticate_anybody(
    service: &Arc<Service>,
    headers: &HeaderMap,
) -> Result<Arc<Principal>, Problem> {
    let found = authenticate(service, headers);
    let Some(provider) = &service.openid_provider else { return found };
    match found {
        Ok(principal) => {
            if principal.kind == ActorKind::User && provider.is_stale() {
                let service = Arc::clone(service);
                // Nobody waits for it: the keys that are there will do.
                tokio::spawn(async move {
                    if let Some(provider) = &service.openid_provider {
                        provider.learn_keys().await;
                    }
                });
            }
            Ok(principal)
        }
        Err(problem) => match presented_token(headers) {
            Some(token) if provider.learn_keys_for(token).await => authenticate(service, headers),
            _ => Err(problem),
        },
    }
}

/// Whether a request carries a credential other than a cookie, be it a good one or not.
fn has_credential(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key(API_KEY_HEADER)
}

/// Finds out who is signed in, and makes sure that a page of this service made the request.
fn signed_in(service: &Service, method: &Method, headers: &HeaderMap) -> Result<Arc<Principal>, Problem> {
    let secret = service.session_cookie.read(headers).ok_or_else(|| unauthenticated(service))?;
    let principal = session_holder(service, secret).ok_or_else(|| unauthenticated(service))?;
    check_csrf(method, headers, secret)?;
    Ok(principal)
}

/// Who is signed in with a session's secret: to the portal, or to the console.
#[must_use]
pub(crate) fn session_holder(service: &Service, secret: &str) -> Option<Arc<Principal>> {
    let now = service.now();
    match service.index.authenticate_portal_session(secret, now) {
        Some(session) => Some(Arc::new(Principal::of_portal_session(&session))),
        None => service.console_sessions.holder(&service.index, secret, now).map(Arc::new),
    }
}
