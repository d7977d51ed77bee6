//! Sign-in with an OpenID provider: the authorization code flow (OpenID Connect Core 1.0 §3.1) with PKCE (RFC
//! 7636).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use keyledger_engine::value::token::{SecretKind, Token};
use zeroize::Zeroizing;

use crate::admission::network::Network;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::console_session::Holder;
use crate::auth::oidc::OpenIdProvider;
use crate::auth::oidc::code_flow::Proofs;
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::evidence::attempt::Attempt;
use crate::evidence::security_log::Place;
use crate::service::Service;

use super::page::begin_session;
use super::pending::{WAIT_MILLIS_MAX, Waiting};
use crate::console::parts::query_string::{QueryString, safe_path};
use crate::console::state::Console;
use crate::console::visit::cookie;

/// Ties the callback to the browser that started the sign-in. The provider's page leads back here, so the
/// cookie cannot be `SameSite=Strict`.
const COOKIE: &str = "keyledger_openid";
const REFRESH: HeaderName = HeaderName::from_static("refresh");
const NOT_SIGNED_IN: &str =
    "the OpenID provider did not sign you in; start again, or ask the provider's administrator";

fn provider(service: &Service) -> Result<&Arc<OpenIdProvider>, Problem> {
    let provider = service.openid_provider.as_ref().filter(|provider| provider.signs_in().is_some());
    provider.ok_or_else(|| Problem::of(Code::NotFound))
}

fn redirect_uri(service: &Service) -> String {
    format!("{}/console/openid/callback", service.access_tokens.issuer())
}

fn failed(error: &crate::auth::oidc::Error) -> Problem {
    tracing::warn!(%error, "sign-in with the OpenID provider failed");
    Problem::new(Code::Unauthenticated, NOT_SIGNED_IN)
}

/// Redirects the browser to the provider.
pub(crate) async fn start(State(console): State<Arc<Console>>, parts: Parts) -> Result<Response, Problem> {
    let service = &console.service;
    let provider = provider(service)?;
    let from = origin::address(service, &parts);
    service.rate_limits.count_sign_in(from)?;
    let random = || {
        let drawn = Token::generate_secret(SecretKind::PortalSession, &mut service.randomness());
        drawn.map(|token| token.expose().to_owned()).map_err(|error| Problem::internal(&error))
    };
    let proofs = Proofs { state: random()?, nonce: random()?, verifier: Zeroizing::new(random()?) };
    let url =
        provider.authorization_url(&proofs, &redirect_uri(service)).await.map_err(|error| failed(&error))?;
    let to = QueryString::of(&parts.uri.to_string())
        .get("to")
        .and_then(safe_path)
        .unwrap_or("/console")
        .to_owned();
    let mut response = Redirect::to(&url).into_response();
    set_cookie(service, response.headers_mut(), &proofs.state, WAIT_MILLIS_MAX / 1_000);
    let now = service.now();
    console.pending.add(Waiting { proofs, to, since: now, from: from.map(Network::from) }, now);
    Ok(response)
}

/// Redeems the code that the browser returns with, and starts a session.
pub(crate) async fn finish(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let service = &console.service;
    let provider = provider(service)?;
    let counted = service.rate_limits.count_sign_in(origin::address(service, &parts))?;
    let query = QueryString::of(&parts.uri.to_string());
    // Only the browser that started the sign-in may finish it; otherwise a link could sign its reader in as
    // another user.
    let state = query.get("state").filter(|state| cookie::read(&parts.headers, COOKIE) == Some(state));
    let waiting = state.and_then(|state| console.pending.take(state, service.now()));
    let begin_again = "this sign-in was not started in this browser, or took too long; start again";
    let waiting = waiting.ok_or_else(|| Problem::new(Code::Unauthenticated, begin_again))?;

    let code = query.get("code").ok_or_else(|| Problem::new(Code::Unauthenticated, NOT_SIGNED_IN))?;
    let user = provider.redeem(code, &waiting.proofs, &redirect_uri(service)).await;
    let user = user.map_err(|error| {
        let place = Place::of(service, &parts);
        service.security_log.refused(&Attempt::at_provider(), service.now(), &place);
        failed(&error)
    })?;
    let is_active = |id: &_| service.index.organization(id).is_some_and(|it| it.deleted_at.is_none());
    let principal = Principal::of_user(&user, is_active);
    if principal.permissions.is_empty() {
        let detail =
            "the OpenID provider recognizes you, but you have no role in an organization of this service";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let session = begin_session(service, &parts, counted, Holder::User(Box::new(user)), &principal).await?;
    // A redirect would still count as cross-site, and the browser would withhold the `SameSite=Strict`
    // session cookie.
    let refresh = HeaderValue::from_str(&format!("0; url={}", waiting.to))
        .map_err(|error| Problem::internal(&error))?;
    let html = "<!doctype html><html lang=\"en\"><title>Keyledger</title><p>Signing you in…</p></html>";
    let mut response = ([(REFRESH, refresh)], Html(html)).into_response();
    set_cookie(service, response.headers_mut(), "", 0);
    response.headers_mut().append(header::SET_COOKIE, session);
    Ok(response)
}

fn set_cookie(service: &Service, headers: &mut HeaderMap, state: &str, seconds: i64) {
    let secure = if service.session_cookie.secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={state}; Path=/console/openid; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    cookie::set(headers, &text);
}
