//! The caller of a request: authentication, and the check of permissions.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};
use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::key::Key;
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;

use crate::admission::class::Class;
use crate::admission::rate_limits::Counted;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::access::{Access, INTROSPECTION};
use crate::auth::access_token::Claims;
use crate::auth::grant::Grant;
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::auth::session_cookie::check_csrf;
use crate::auth::session_use::Visit;
use crate::evidence::attempt::Attempt;
use crate::evidence::credential::Credential;
use crate::evidence::security_log::Place;
use crate::http::request_id::RequestId;
use crate::request::precondition::reach_min_position;
use crate::service::Service;

/// The alternative to `Authorization` for a credential.
pub(crate) const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// An authenticated caller.
pub(crate) struct Caller {
    pub principal: Arc<Principal>,
    /// The caller as the log records them.
    pub actor: Actor,
    pub request_id: RequestId,
    /// The request was counted against the limits.
    pub counted: Counted,
}

impl Caller {
    /// Checks that the caller may hand on rights, or change or end a credential that has them.
    ///
    /// # Errors
    /// See [`Grant::check`].
    pub(crate) fn require_all_of(&self, grant: Grant<'_>) -> Result<(), Problem> {
        grant.check(&self.principal)
    }

    /// Checks that the caller is not bound to an organization. `what` is what they are about to change.
    ///
    /// # Errors
    /// `forbidden`.
    pub(crate) fn require_unbound(&self, what: &str) -> Result<(), Problem> {
        match self.bound_to() {
            None => Ok(()),
            Some(_) => Err(Problem::new(
                Code::Forbidden,
                format!("only callers that are not bound to an organization can change {what}"),
            )),
        }
    }

    /// Whether the caller may see an organization's objects.
    #[must_use]
    pub(crate) fn sees(&self, organization_id: &OrganizationId) -> bool {
        self.bound_to().is_none_or(|bound| bound == organization_id)
    }

    /// Whether the caller may see the objects of an organization, or those of the service itself for none.
    #[must_use]
    pub(crate) fn sees_owned_by(&self, organization_id: Option<&OrganizationId>) -> bool {
        self.bound_to().is_none_or(|bound| organization_id == Some(bound))
    }

    /// The only organization that the caller may see, if bound to one.
    #[must_use]
    pub(crate) fn bound_to(&self) -> Option<&OrganizationId> {
        self.principal.organization_id.as_ref()
    }

    #[must_use]
    pub(crate) fn sees_key(&self, key: &Key) -> bool {
        self.principal.sees(&key.organization_id, key.user_id.as_ref())
    }

    /// The only user whose keys the caller may see, if limited to one.
    #[must_use]
    pub(crate) fn own_keys_of(&self) -> Option<&UserId> {
        self.principal.user_id.as_ref()
    }
}

/// The caller of a long-running answer, which re-checks the credential while it runs.
pub(crate) struct StandingCaller {
    /// The headers that carry the credential.
    credential: HeaderMap,
    principal: Arc<Principal>,
    /// The index's authentication epoch before the last check. Every record that can invalidate a credential
    /// raises it.
    epoch: Option<u64>,
}

impl StandingCaller {
    /// Keeps the caller of a read request, with the headers that carry the credential.
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

    #[must_use]
    pub(crate) const fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether the credential is still valid and belongs to the same principal, and the log is still served.
    pub(crate) fn stands(&mut self, service: &Service) -> bool {
        if service.inconsistency.is_refused() {
            return false;
        }
        let epoch = service.index.authentication_epoch();
        let by_header = has_credential(&self.credential);
        // A session can end without a record, so a cookie is checked every time.
        if by_header && self.epoch == Some(epoch) && self.principal.is_current(service.now()) {
            return true;
        }
        let found = if by_header {
            authenticate(service, &self.credential)
        } else {
            signed_in(service, &Method::GET, &self.credential, Visit::Unattended)
        };
        self.epoch = Some(epoch);
        found.is_ok_and(|principal| principal == self.principal)
    }
}

/// Returns the token in `Authorization: Bearer` or, without that header, in `x-api-key`.
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

/// Authenticates a request by a root key, an access token, or a token of the OpenID provider.
///
/// # Errors
/// `unauthenticated`.
pub(crate) fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Arc<Principal>, Problem> {
    presented_token(headers)
        .and_then(|token| authenticate_token(service, token))
        .ok_or_else(|| unauthenticated(service))
}

/// Returns the principal that a token belongs to; none for an invalid token.
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

/// Returns the application that an access token was issued to, and the token's claims. Returns none when the
/// token is invalid, or the application was deleted or got a new secret since.
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

/// The problem of a request that could not be authenticated: an invalid credential, or a stopped verification
/// index.
fn unauthenticated(service: &Service) -> Problem {
    let code = if service.index.poisoned().is_some() {
        Code::VerificationUnavailable
    } else {
        Code::Unauthenticated
    };
    Problem::of(code)
}

/// The principal of a request that the service sends to its own router. A request from outside cannot carry
/// it.
#[derive(Clone)]
pub(crate) struct Admitted(pub Arc<Principal>);

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Problem;

    /// Authenticates the request and checks that the caller may use the endpoint.
    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let by_header = has_credential(&parts.headers);
        let admitted = parts.extensions.get::<Admitted>().map(|Admitted(principal)| Arc::clone(principal));
        let is_recorded = admitted.is_some();
        let found = if let Some(principal) = admitted {
            Ok(principal)
        } else if by_header {
            authenticate_request(service, &parts.headers).await
        } else {
            signed_in(service, &parts.method, &parts.headers, Visit::of(&parts.headers))
        };
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let place = Place::of(service, parts);
        let from = place.ip;
        let now = service.now();
        let principal = match found {
            Ok(principal) => principal,
            Err(problem) => {
                // Introspection has another way to authenticate, and records and counts what fails itself.
                if problem.code == Code::Unauthenticated && path != INTROSPECTION {
                    note_failure(service, &parts.headers, now, &place);
                    service.rate_limits.count_failure(from)?;
                }
                return Err(problem);
            }
        };
        if !is_recorded {
            let credential = if by_header { principal.credential() } else { Credential::Session };
            service.accepted(&principal, credential, now, &place);
        }
        let class = Class::of(&parts.method, path);
        let counted = service.rate_limits.count(&principal, class, from)?;
        if let Err(problem) = admit(&principal, &parts.method, path) {
            service.security_log.forbidden(&principal, (&parts.method, path), now, &place);
            return Err(problem);
        }
        // All endpoints wait for the verification index; those that read projections also wait for them.
        reach_min_position(&parts.headers, &service.index.watch()).await?;
        let user_agent = parts.headers.get(header::USER_AGENT);
        let actor = origin::actor_at(principal.kind, &principal.id, from, user_agent);
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        Ok(Self { principal, actor, request_id, counted })
    }
}

/// Records why the credential of a request was refused, if it has one.
pub(crate) fn note_failure(service: &Service, headers: &HeaderMap, now: Timestamp, place: &Place) {
    if let Some(attempt) = Attempt::of(service, headers, now) {
        service.security_log.refused(&attempt, now, place);
    }
}

/// Checks that a principal may use an endpoint.
///
/// # Errors
/// `forbidden`; `internal` for an endpoint without a row in [`access`](crate::auth::access).
pub(crate) fn admit(principal: &Principal, method: &Method, path: &str) -> Result<(), Problem> {
    let access = Access::to(method, path).ok_or_else(|| {
        Problem::internal(&format!("{method} {path} has no row in the table of permissions"))
    })?;
    access.admit(principal)
}

/// Authenticates a request. Fetches the OpenID provider's keys when they may be needed to check the token.
async fn authenticate_request(
    service: &Arc<Service>,
    headers: &HeaderMap,
) -> Result<Arc<Principal>, Problem> {
    let found = authenticate(service, headers);
    let Some(provider) = &service.openid_provider else { return found };
    match found {
        Ok(principal) => {
            if principal.kind == ActorKind::User && provider.is_stale() {
                let service = Arc::clone(service);
                // In the background: the current keys have checked this token.
                tokio::spawn(async move {
                    if let Some(provider) = &service.openid_provider {
                        provider.refresh_keys().await;
                        // A connection remembers its last caller, whose key may have been dropped.
                        service.index.end_authentication_epoch();
                    }
                });
            }
            Ok(principal)
        }
        Err(problem) => match presented_token(headers) {
            Some(token) if provider.fetch_keys_for(token).await => {
                service.index.end_authentication_epoch();
                authenticate(service, headers)
            }
            _ => Err(problem),
        },
    }
}

/// Whether a request to an endpoint that needs no caller comes from one.
#[must_use]
pub(crate) fn has_caller(service: &Service, parts: &Parts) -> bool {
    parts.extensions.get::<Admitted>().is_some()
        || has_credential(&parts.headers) && authenticate(service, &parts.headers).is_ok()
}

/// Whether a request carries a credential other than a cookie, valid or not.
fn has_credential(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key(API_KEY_HEADER)
}

/// Authenticates a request by its session cookie, and checks that a page of this service sent it.
fn signed_in(
    service: &Service,
    method: &Method,
    headers: &HeaderMap,
    visit: Visit,
) -> Result<Arc<Principal>, Problem> {
    let secret = service.session_cookie.read(headers).ok_or_else(|| unauthenticated(service))?;
    let principal = session_holder(service, secret, visit).ok_or_else(|| unauthenticated(service))?;
    check_csrf(method, headers, secret)?;
    Ok(principal)
}

/// Returns the principal of a session, of the portal or of the console; none for one that was unused for too
/// long.
#[must_use]
pub(crate) fn session_holder(service: &Service, secret: &str, visit: Visit) -> Option<Arc<Principal>> {
    let now = service.now();
    match service.index.authenticate_portal_session(secret, now) {
        Some(session) => service
            .session_use
            .admits(&session, visit, now)
            .then(|| Arc::new(Principal::of_portal_session(&session))),
        None => service.console_sessions.holder(&service.index, secret, visit, now).map(Arc::new),
    }
}
