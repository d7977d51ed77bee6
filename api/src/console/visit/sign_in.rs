//! Signing in with a root key or with a portal link, and signing out.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use keyledger_engine::value::token::{SecretKind, Token};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::console_session::{Holder, LIFETIME_SECONDS_MAX};
use crate::auth::session_cookie::check_same_origin;
use crate::routes::portal;
use crate::service::Service;

use super::submission::{Form, Submission};
use super::visitor::Visitor;
use crate::console::Console;
use crate::console::frame::icon::Icon;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::frame::theme::Theme;
use crate::console::frame::toast::Notice;
use crate::console::parts::query_string::QueryString;

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignInPage {
    frame: Frame,
    to: String,
    error: Option<&'static str>,
    /// The name of the OpenID provider to sign in at, and the way there.
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

/// A path of the console to go to; none for any other address.
pub(crate) fn safe_path(path: &str) -> Option<&str> {
    let is_ours = path == "/console" || path.starts_with("/console/") || path.starts_with("/console?");
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (is_ours && is_plain).then_some(path)
}

/// The page to sign in on.
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

/// Begins a session of the root key whose token was sent, or the one that a portal link is for. What was sent is not kept;
/// the session has a new secret, whatever cookie the browser came with.
pub(crate) async fn sign_in(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // Nobody is signed in as somebody else by a page of another site.
    check_same_origin(&parts.headers)?;
    let form = Form::read(body).await?;
    let service = &console.service;
    let refused = |error| {
        SignInPage::new(service, &parts.headers, form.text("to"), Some(error))
            .answer(StatusCode::UNPROCESSABLE_ENTITY)
    };
    let sent = form.text("secret").trim();
    let cookie = if let Some(link) = secret_of_link(sent) {
        match portal::enter(service, &parts, link).await {
            Ok(entered) => entered.cookie,
            Err(problem) if problem.code == Code::PortalLinkInvalid => {
                return Ok(refused(
                    "This link was used before, its time is over, or it is not complete. Ask for a new one.",
                ));
            }
            Err(problem) => return Err(problem),
        }
    } else {
        let Some(root_key) = service.index.authenticate_root_key(sent) else {
            return Ok(refused("This is no root key, or it was revoked. Copy it again, all of it."));
        };
        begin_session(service, &parts.headers, Holder::RootKey(root_key.id))?
    };
    let mut response = Redirect::to(safe_path(form.text("to")).unwrap_or("/console")).into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// The secret of a portal link that somebody pasted: the whole address, or what stands after its `#`. None if it is no link.
fn secret_of_link(text: &str) -> Option<&str> {
    let secret = text.rsplit_once('#').map_or(text, |(_, secret)| secret);
    secret.strip_prefix(SecretKind::PortalLink.word())?.starts_with('_').then_some(secret)
}

/// Begins a session, and tells the cookie that carries its secret. The secret is new, and the session that the browser had
/// ends, so that nobody is in one that others know.
///
/// # Errors
/// `internal`, should there be no randomness.
pub(crate) fn begin_session(
    service: &Service,
    headers: &HeaderMap,
    holder: Holder,
) -> Result<HeaderValue, Problem> {
    if let Some(secret) = service.session_cookie.read(headers) {
        service.console_sessions.end(secret);
    }
    let secret = Token::generate_secret(SecretKind::PortalSession, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    service.console_sessions.start(&secret, holder, service.now());
    let cookie = service.session_cookie.set(secret.expose(), LIFETIME_SECONDS_MAX);
    cookie.ok_or_else(|| Problem::internal(&"a cookie cannot be written"))
}

/// Ends the session: its secret is worth nothing when this is answered.
pub(crate) async fn sign_out(Submission { visitor, .. }: Submission) -> Result<Response, Problem> {
    if visitor.is_from_portal() {
        visitor.call(Method::DELETE, "/portal/session").send::<()>().await?;
    } else {
        visitor.service.console_sessions.end(visitor.secret());
    }
    let mut response = visitor.go_to("/console/sign-in", &Notice::default());
    if let Some(cookie) = visitor.service.session_cookie.set("", 0) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_taken_whole_or_as_its_secret() {
        for text in ["kllink_abc", "https://keys.example/portal#kllink_abc", "/portal#kllink_abc"] {
            assert_eq!(secret_of_link(text), Some("kllink_abc"), "{text}");
        }
        for text in ["", "#", "kllink", "klroot_abc", "https://keys.example/portal", "x_kllink_abc"] {
            assert_eq!(secret_of_link(text), None, "{text}");
        }
    }

    #[test]
    fn only_addresses_of_the_console_are_gone_to() {
        for path in ["/console", "/console/keys?q=a", "/console?x"] {
            assert_eq!(safe_path(path), Some(path));
        }
        for path in [
            "",
            "//evil.example",
            "/consolevil",
            "https://evil.example/console",
            "/console/\\evil",
            "/console/\r\nx",
        ] {
            assert_eq!(safe_path(path), None, "{path}");
        }
    }
}
