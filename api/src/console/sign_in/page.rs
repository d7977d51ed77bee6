//! Sign-in with a root key or a portal link, and sign-out.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::token::{SecretKind, Token};
use keyledger_projections::beside_the_log::last_use::UsedCaller;

use crate::admission::rate_limits::Counted;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::console_session::{Holder, SignInPlace};
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::auth::session_cookie::check_same_origin;
use crate::evidence::attempt::Attempt;
use crate::evidence::credential::Credential;
use crate::evidence::security_log::{Action, Place};
use crate::routes::portal;
use crate::service::Service;

use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::query_string::{QueryString, safe_path};
use crate::console::state::Console;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::theme::Theme;
use crate::console::visit::visitor::Visitor;

#[derive(Template)]
#[template(path = "sign_in/sign-in.html")]
struct SignInPage {
    frame: Frame,
    to: String,
    error: Option<&'static str>,
    /// The OpenID provider's name and the path that starts its sign-in.
    provider: Option<(String, String)>,
}

page!(SignInPage);

impl SignInPage {
    fn new(service: &Service, headers: &HeaderMap, to: &str, error: Option<&'static str>) -> Self {
        let frame = Frame::plain("Sign in", Theme::of(headers));
        let to = safe_path(to).unwrap_or_default();
        let provider = service.openid_provider.as_ref().and_then(|provider| provider.signs_in());
        let way = QueryString::default().with("to", Some(to)).after("/console/openid");
        Self { frame, to: to.into(), error, provider: provider.map(|name| (name.into(), way)) }
    }
}

/// Shows the sign-in page.
pub(crate) async fn page(
    State(console): State<Arc<Console>>,
    visitor: Option<Visitor>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let query = QueryString::of(&uri.to_string());
    let to = query.get("to").and_then(safe_path).unwrap_or_default();
    match visitor {
        Some(_) => Redirect::to(if to.is_empty() { "/console" } else { to }).into_response(),
        None => SignInPage::new(&console.service, &headers, to, None).answer(StatusCode::OK),
    }
}

/// Starts a session from a root key's token or a portal link. The submitted secret is not kept, and the
/// session gets a new secret whatever cookie the browser sent (no session fixation).
pub(crate) async fn sign_in(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // Otherwise another site's page could sign its reader in as another user.
    check_same_origin(&parts.headers)?;
    let service = &console.service;
    let counted = service.rate_limits.count_sign_in(origin::address(service, &parts))?;
    let form = Form::read(body).await?;
    let refused = |error| {
        SignInPage::new(service, &parts.headers, form.text("to"), Some(error))
            .answer(StatusCode::UNPROCESSABLE_ENTITY)
    };
    let sent = form.text("secret").trim();
    let cookie = if let Some(link) = secret_of_link(sent) {
        match portal::enter(service, &parts, counted, link).await {
            Ok(entered) => entered.cookie,
            Err(problem) if problem.code == Code::PortalLinkInvalid => {
                return Ok(refused(
                    "This link isn't valid. It was already used, has expired, or is incomplete. Ask for a \
                     new one.",
                ));
            }
            Err(problem) => return Err(problem),
        }
    } else {
        let Some(root_key) = service.index.authenticate_root_key(sent) else {
            let (place, now) = (Place::of(service, &parts), service.now());
            service.security_log.refused(&Attempt::with_token(service, sent, now), now, &place);
            return Ok(refused(
                "This root key isn't valid. Check that you copied all of it and that it isn't revoked.",
            ));
        };
        let principal = Principal::of_root_key(&root_key);
        let cookie =
            begin_session(service, &parts, counted, Holder::RootKey(root_key.id), &principal).await?;
        let from = origin::address(service, &parts);
        service.last_uses.record(UsedCaller::RootKey(root_key.id), service.now(), from);
        cookie
    };
    let mut response = Redirect::to(safe_path(form.text("to")).unwrap_or("/console")).into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Extracts the secret of a pasted portal link, which is its whole address or the part after `#`.
fn secret_of_link(text: &str) -> Option<&str> {
    let secret = text.rsplit_once('#').map_or(text, |(_, secret)| secret);
    secret.strip_prefix(SecretKind::PortalLink.word())?.starts_with('_').then_some(secret)
}

/// Starts a session with a new secret and returns its cookie. The browser's previous session ends.
///
/// # Errors
/// `internal` if the system provides no randomness, and the errors of a command.
pub(crate) async fn begin_session(
    service: &Arc<Service>,
    parts: &Parts,
    counted: Counted,
    holder: Holder,
    principal: &Principal,
) -> Result<HeaderValue, Problem> {
    portal::leave(service, parts, counted, None).await?;
    let secret = Token::generate_secret(SecretKind::PortalSession, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    let cookie =
        service.session_cookie.set(secret.expose(), service.console_sessions.lifetime_seconds(&holder));
    let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let place = SignInPlace {
        ip: origin::address(service, parts),
        user_agent: user_agent.map(Actor::clip_user_agent),
    };
    let now = service.now();
    let credential = principal.credential();
    service.security_log.session(Action::SignIn, principal, credential, now, &Place::of(service, parts));
    service.console_sessions.start(service.new_id(), &secret, holder, place, now);
    cookie.ok_or_else(|| Problem::internal(&"the session cookie is not a valid header value"))
}

/// Ends the session. Its secret is refused once this returns.
pub(crate) async fn sign_out(
    State(console): State<Arc<Console>>,
    parts: Parts,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let service = &console.service;
    if visitor.is_from_portal() {
        visitor.call(Method::DELETE, "/portal/session").send::<()>().await?;
    } else {
        service.console_sessions.end(visitor.secret());
        let (place, now) = (Place::of(service, &parts), service.now());
        let principal = &visitor.principal;
        service.security_log.session(Action::SignOut, principal, Credential::Session, now, &place);
    }
    let mut response = visitor.go_to("/console/sign-in", &Notice::default());
    if let Some(cookie) = service.session_cookie.set("", 0) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_can_be_pasted_whole_or_as_its_secret() {
        for text in ["kllink_abc", "https://keys.example/portal#kllink_abc", "/portal#kllink_abc"] {
            assert_eq!(secret_of_link(text), Some("kllink_abc"), "{text}");
        }
        for text in ["", "#", "kllink", "klroot_abc", "https://keys.example/portal", "x_kllink_abc"] {
            assert_eq!(secret_of_link(text), None, "{text}");
        }
    }
}
