//! Signing in at an OpenID provider (OpenID Connect Core 1.0 §3.1), with PKCE (RFC 7636): the way there and back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{SecretKind, Token};
use zeroize::Zeroizing;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::console_session::{Holder, LIFETIME_SECONDS_MAX};
use crate::auth::oidc::OpenIdProvider;
use crate::auth::oidc::code_flow::Proofs;
use crate::auth::principal::Principal;
use crate::service::Service;

use super::sign_in::{begin_session, safe_path};
use crate::console::Console;
use crate::console::frame::theme::cookie;
use crate::console::parts::query_string::QueryString;

/// Names the browser that went; other sites' pages lead back here, so it is not `SameSite=Strict`.
const COOKIE: &str = "keyledger_openid";
/// Whoever comes back later than this, in milliseconds, has to begin again.
const WAIT_MILLIS_MAX: i64 = 10 * 60 * 1_000;
/// With more people on their way than this the one who went first has to begin again.
const PENDING_MAX: usize = 10_000;
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// The people who are at the provider just now.
#[derive(Default)]
pub(crate) struct Pending(Mutex<HashMap<String, Waiting>>);

struct Waiting {
    proofs: Proofs,
    to: String,
    since: Timestamp,
}

impl Pending {
    fn add(&self, waiting: Waiting, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PENDING_MAX {
            all.retain(|_, waiting| waiting.since.saturating_add_millis(WAIT_MILLIS_MAX) > now);
        }
        if all.len() >= PENDING_MAX
            && let Some(first) =
                all.iter().min_by_key(|(_, waiting)| waiting.since).map(|(state, _)| state.clone())
        {
            all.remove(&first);
        }
        all.insert(waiting.proofs.state.clone(), waiting);
    }

    fn take(&self, state: &str, now: Timestamp) -> Option<Waiting> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(state)?;
        (waiting.since.saturating_add_millis(WAIT_MILLIS_MAX) > now).then_some(waiting)
    }
}

fn provider(service: &Service) -> Result<&OpenIdProvider, Problem> {
    let provider = service.openid_provider.as_ref().filter(|provider| provider.signs_in().is_some());
    provider.ok_or_else(|| Problem::of(Code::NotFound))
}

fn redirect_uri(service: &Service) -> String {
    format!("{}/console/openid/callback", service.access_tokens.issuer())
}

fn failed(error: &crate::auth::oidc::Error) -> Problem {
    tracing::warn!(%error, "somebody could not sign in at the OpenID provider");
    Problem::new(
        Code::Unauthenticated,
        "the OpenID provider did not sign you in; begin again, or ask whoever runs it",
    )
}

/// Sends a browser to the provider.
pub(crate) async fn start(State(console): State<Arc<Console>>, uri: Uri) -> Result<Response, Problem> {
    let service = &console.service;
    let provider = provider(service)?;
    let random = || {
        let drawn = Token::generate_secret(SecretKind::PortalSession, &mut service.randomness());
        drawn.map(|token| token.expose().to_owned()).map_err(|error| Problem::internal(&error))
    };
    let proofs = Proofs { state: random()?, nonce: random()?, verifier: Zeroizing::new(random()?) };
    let url =
        provider.authorization_url(&proofs, &redirect_uri(service)).await.map_err(|error| failed(&error))?;
    let to = QueryString::of(&uri.to_string()).get("to").and_then(safe_path).unwrap_or("/console").to_owned();
    let mut response = Redirect::to(&url).into_response();
    set_cookie(service, response.headers_mut(), &proofs.state, WAIT_MILLIS_MAX / 1_000);
    let now = service.now();
    console.pending.add(Waiting { proofs, to, since: now }, now);
    Ok(response)
}

/// Begins the session of whoever comes back with a code.
pub(crate) async fn finish(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let service = &console.service;
    let provider = provider(service)?;
    let query = QueryString::of(&uri.to_string());
    // The browser that comes must be the one that went: nobody is signed in as somebody else by a link.
    let state = query.get("state").filter(|state| cookie(&headers, COOKIE) == Some(state));
    let waiting = state.and_then(|state| console.pending.take(state, service.now()));
    let begin_again = "this sign-in is not the one that you began, or took too long; begin again";
    let waiting = waiting.ok_or_else(|| Problem::new(Code::Unauthenticated, begin_again))?;
    let refused = "the OpenID provider did not sign you in; begin again, or ask whoever runs it";
    let code = query.get("code").ok_or_else(|| Problem::new(Code::Unauthenticated, refused))?;
    let user = provider.redeem(code, &waiting.proofs, &redirect_uri(service)).await;
    let mut user = user.map_err(|error| failed(&error))?;
    // The ID token has told who it is; the session lasts as long as any.
    user.expires_at = service.now().saturating_add_millis(i64::from(LIFETIME_SECONDS_MAX) * 1_000);
    let is_active = |id: &_| service.index.organization(id).is_some_and(|it| it.deleted_at.is_none());
    if Principal::of_user(&user, is_active).permissions.is_empty() {
        let detail = "the OpenID provider knows you, but gives you no role in an organization that is here";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let session = begin_session(service, &headers, Holder::User(Box::new(user)))?;
    // The session's cookie goes along only on a way that begins here: a redirect would still be the provider's.
    let refresh = HeaderValue::from_str(&format!("0; url={}", waiting.to))
        .map_err(|error| Problem::internal(&error))?;
    let html = "<!doctype html><html lang=\"en\"><title>Keyledger</title><p>One moment.</p></html>";
    let mut response = ([(REFRESH, refresh)], Html(html)).into_response();
    set_cookie(service, response.headers_mut(), "", 0);
    response.headers_mut().append(header::SET_COOKIE, session);
    Ok(response)
}

fn set_cookie(service: &Service, headers: &mut HeaderMap, state: &str, seconds: i64) {
    let secure = if service.session_cookie.secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={state}; Path=/console/openid; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(header::SET_COOKIE, value);
    }
}
