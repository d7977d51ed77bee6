//! Entering the portal: the page of a link, and the session in the browser.
//!
//! A link is `<public URL>/portal#<secret>`. Browsers do not send the part after `#`, so it reaches no server
//! and no log. The page shows a button, and only the button exchanges the secret for a session: link previews
//! in mail and chats do not use the link up. Without scripts, a person pastes the link on the console's
//! sign-in page, which does the same.

pub(crate) mod sessions;

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::domain::portal_session::{EndReason, PortalSession, PortalSessionCommand};
use keyledger_engine::ledger::{Command, Committed};
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::token::{SecretKind, Token};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admission::rate_limits::Counted;
use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::auth::session_cookie::{check_same_origin, csrf_token};
use crate::evidence::attempt::Attempt;
use crate::evidence::credential::Credential;
use crate::evidence::security_log::{Action, Place};
use crate::http::request_id::RequestId;
use crate::request::body::{Checks, Field, JsonBody, text};
use crate::request::execution::{Outcome, execute};
use crate::routes::portal::sessions::PortalSessionView;
use crate::service::Service;

/// The headers of the page. It loads only its own files, cannot be framed, and sends no referrer.
const PAGE_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // It shares no window with other origins, which could otherwise watch where it goes.
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
];

/// Returns the page, and the endpoints about the caller's own session.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    let asset = |media_type: &'static str, text: &'static str| {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
            // The same for everybody.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        get(move || async move { (headers, text) })
    };
    OpenApiRouter::new()
        .routes(routes!(start, read, end))
        .route("/portal", get(|| async { (PAGE_HEADERS, include_str!("page.html")) }))
        .route("/portal/style.css", asset("text/css; charset=utf-8", include_str!("style.css")))
        .route("/portal/sign-in.js", asset("text/javascript; charset=utf-8", include_str!("sign-in.js")))
}

/// The secret of a link.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = StartPortalSession)]
struct StartBody {
    /// The part of the link after `#`.
    #[schema(value_type = String, required = true, example = "kllink_...")]
    #[serde(default)]
    link: Field,
}

/// The caller's own portal session.
#[derive(Serialize, ToSchema)]
struct OwnSession {
    /// The session.
    portal_session: PortalSessionView,
    /// The value of `X-CSRF-Token` for every request that changes something.
    csrf_token: String,
}

/// Exchanges a link's secret for a session, once. The session's own secret is in a cookie that scripts cannot
/// read.
#[utoipa::path(
    post, path = "/portal/session", operation_id = "startPortalSession", tag = "Portal",
    request_body = StartBody, security(()),
    responses(
        (status = 200, body = OwnSession, description = "the session",
            headers(("Set-Cookie" = String, description = "the session's secret"))),
        (status = 403, body = ProblemBody, description = "`csrf_failed`: the request comes from another \
            site's page"),
        (status = 404, body = ProblemBody, description = "`portal_link_invalid`: unknown, used, or expired"),
    ),
)]
async fn start(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // A page of another site must not be able to sign its visitor in with a session of its choice.
    check_same_origin(&parts.headers)?;
    let request = Request::from_parts(parts.clone(), body);
    let body = JsonBody::<StartBody>::from_request(request, &()).await?;
    let mut checks = Checks::default();
    let read =
        text(|text: &str| Ok::<_, std::convert::Infallible>(zeroize::Zeroizing::new(text.trim().to_owned())));
    let link = checks.required("link", &body.link, read);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let (counted, link) = (Counted::of(&parts)?, link.as_deref().map_or("", String::as_str));
    let Entered { session, secret, cookie } = enter(&service, &parts, counted, link).await?;
    let shown = OwnSession {
        portal_session: PortalSessionView::of(&session.object, session.time),
        csrf_token: csrf_token(secret.expose()),
    };
    Reply::at(session.position).secret().header(header::SET_COOKIE, cookie).json(&shown)
}

/// A session that has just started.
pub(crate) struct Entered {
    session: Outcome<PortalSession>,
    secret: Token,
    /// The `Set-Cookie` header with the session's secret.
    pub cookie: HeaderValue,
}

/// Exchanges a link's secret for a session with a new secret. The browser's previous session ends, so that no
/// one stays in a session whose secret another person may know.
///
/// # Errors
/// `portal_link_invalid`, and the errors of a command.
pub(crate) async fn enter(
    service: &Arc<Service>,
    parts: &Parts,
    counted: Counted,
    link: &str,
) -> Result<Entered, Problem> {
    let invalid = || Problem::of(Code::PortalLinkInvalid);
    let (place, now) = (Place::of(service, parts), service.now());
    let found = service.index.portal_link(link, now).ok_or_else(|| {
        let attempt = Attempt::with_secret(Credential::PortalLink, SecretKind::PortalLink, link);
        service.security_log.refused(&attempt, now, &place);
        invalid()
    })?;
    leave(service, parts, counted, Some(&found)).await?;
    let secret = Token::generate_secret(SecretKind::PortalSession, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    let command = PortalSessionCommand::Start { digest: secret.digest() };
    let committed = execute_in(service, parts, counted, &found, command).await;
    let session: Outcome<PortalSession> = Outcome::of(committed.map_err(|problem| match problem.code {
        // The link was used by a concurrent request, or it has ended since.
        Code::PortalSessionEnded | Code::OrganizationDeleted => invalid(),
        _ => problem,
    })?)?;
    let lifetime_millis = session.object.expires_at.millis().saturating_sub(session.time.millis());
    let lifetime_seconds = u32::try_from(lifetime_millis / 1_000).unwrap_or(0);
    let cookie = service.session_cookie.set(secret.expose(), lifetime_seconds);
    let cookie = cookie.ok_or_else(|| Problem::internal(&"a cookie cannot be written"))?;
    let principal = Principal::of_portal_session(&session.object);
    service.security_log.session(Action::SignIn, &principal, Credential::PortalLink, now, &place);
    Ok(Entered { session, secret, cookie })
}

/// Ends the session that a browser has when it signs in again, with `link` or in another way.
///
/// # Errors
/// The errors of a command. The browser's session then continues.
pub(crate) async fn leave(
    service: &Arc<Service>,
    parts: &Parts,
    counted: Counted,
    link: Option<&PortalSession>,
) -> Result<(), Problem> {
    let Some(secret) = service.session_cookie.read(&parts.headers) else { return Ok(()) };
    service.console_sessions.end(secret);
    let Some(session) = service.index.authenticate_portal_session(secret, service.now()) else {
        return Ok(());
    };
    // A person who tries the link that they made themselves: the new session would end with this one.
    if link.is_some_and(|link| service.index.is_minted_below(link, session.id)) {
        return Ok(());
    }
    let command = PortalSessionCommand::End { reason: EndReason::SignedOut };
    match execute_in(service, parts, counted, &session, command).await {
        // Another request has ended it meanwhile.
        Err(problem) if problem.code != Code::PortalSessionEnded => Err(problem),
        _ => Ok(()),
    }
}

/// Executes a command to a session on behalf of the person in it.
async fn execute_in(
    service: &Arc<Service>,
    parts: &Parts,
    counted: Counted,
    session: &PortalSession,
    command: PortalSessionCommand,
) -> Result<Committed, Problem> {
    let caller = Caller {
        principal: Arc::new(Principal::of_portal_session(session)),
        actor: origin::actor(service, parts, ActorKind::PortalSession, &session.id.to_string()),
        request_id: parts.extensions.get::<RequestId>().cloned().unwrap_or_default(),
        counted,
    };
    let command = Command::PortalSession(session.id, command);
    execute(service, &caller, &HeaderMap::new(), None, command).await
}

/// Returns the caller's own session, with the token that changes need.
#[utoipa::path(get, path = "/portal/session", operation_id = "getOwnPortalSession", tag = "Portal",
    responses((status = 200, body = OwnSession, description = "the session")))]
async fn read(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now = service.now();
    let secret = service.session_cookie.read(&headers);
    let session = secret.and_then(|secret| service.index.authenticate_portal_session(secret, now));
    let (Some(secret), Some(session)) = (secret, session) else {
        return Err(Problem::of(Code::Unauthenticated));
    };
    let shown =
        OwnSession { portal_session: PortalSessionView::of(&session, now), csrf_token: csrf_token(secret) };
    Reply::at(service.index.position()).secret().json(&shown)
}

/// Signs out. The session has ended once this is answered.
#[utoipa::path(
    delete, path = "/portal/session", operation_id = "endOwnPortalSession", tag = "Portal",
    params(("X-CSRF-Token" = String, Header, description = "the session's `csrf_token`")),
    responses((status = 204, description = "the session has ended",
        headers(("Set-Cookie" = String, description = "deletes the cookie")))),
)]
async fn end(State(service): State<Arc<Service>>, caller: Caller, parts: Parts) -> Result<Response, Problem> {
    let id = caller.principal.id.parse().map_err(|_| Problem::internal(&"a portal session has no id"))?;
    let command = Command::PortalSession(id, PortalSessionCommand::End { reason: EndReason::SignedOut });
    let committed = execute(&service, &caller, &HeaderMap::new(), None, command).await?;
    let (place, now) = (Place::of(&service, &parts), service.now());
    service.security_log.session(Action::SignOut, &caller.principal, Credential::Session, now, &place);
    let mut response = Reply::at(committed.position).empty();
    if let Some(cookie) = service.session_cookie.set("", 0) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    debug_assert_eq!(response.status(), StatusCode::NO_CONTENT);
    Ok(response.into_response())
}
