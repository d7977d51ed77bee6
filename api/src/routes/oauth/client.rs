//! Client authentication (RFC 6749 §2.3): an application presents its id and its secret in `Authorization:
//! Basic` or in the form.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use keyledger_engine::crypto::constant_time;
use keyledger_engine::domain::application::Application;
use keyledger_engine::value::id::ApplicationId;
use keyledger_engine::value::token::{PresentedToken, SecretKind};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::error::OAuthError;
use super::form::Form;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::principal::Principal;
use crate::evidence::attempt::Attempt;
use crate::evidence::credential::Credential;
use crate::evidence::security_log::Place;
use crate::service::Service;

/// The presented id and secret.
struct Credentials {
    id: String,
    secret: Zeroizing<String>,
}

/// Returns the application whose id and secret a request presents, or `None` if it presents none. Records
/// both in the security log.
///
/// # Errors
/// `invalid_client`; `invalid_request` if they are presented in both ways.
pub(super) fn authenticate(
    service: &Service,
    headers: &HeaderMap,
    form: &Form,
    place: &Place,
) -> Result<Option<Arc<Application>>, OAuthError> {
    let basic = basic_of(headers);
    let in_header = basic.is_some();
    let credentials = match (basic, form.get("client_secret")) {
        (Some(_), Some(_)) => {
            return Err(OAuthError::InvalidRequest(
                "client_secret must be in the Authorization header or in the form, not in both",
            ));
        }
        (Some(basic), None) => basic.filter(|basic| form.get("client_id").is_none_or(|id| id == basic.id)),
        (None, Some(secret)) => form
            .get("client_id")
            .map(|id| Credentials { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) }),
        (None, None) => return Ok(None),
    };
    if service.index.poisoned().is_some() {
        return Err(Problem::of(Code::VerificationUnavailable).into());
    }
    let (id, secret) =
        credentials.as_ref().map_or(("", ""), |credentials| (&credentials.id, &credentials.secret));
    let application = credentials.as_ref().and_then(|credentials| application_of(service, credentials));
    let now = service.now();
    match application {
        Some(application) => {
            let principal = Principal::of_application(&application, &application.permissions, now);
            service.accepted(&principal, Credential::ClientSecret, now, place);
            Ok(Some(application))
        }
        None => {
            let known = id.parse().ok().and_then(|id| service.index.application(id));
            let attempt = Attempt::with_client_secret(id, known.as_deref(), secret);
            service.security_log.refused(&attempt, now, place);
            Err(OAuthError::InvalidClient { in_header })
        }
    }
}

fn application_of(service: &Service, credentials: &Credentials) -> Option<Arc<Application>> {
    let digest = PresentedToken::parse_secret(SecretKind::ClientSecret, &credentials.secret).ok()?.digest();
    let application = service.index.active_application(credentials.id.parse::<ApplicationId>().ok()?)?;
    constant_time::equal(application.digest.as_bytes(), digest.as_bytes()).then_some(application)
}

/// Returns the credentials in `Authorization: Basic`. The inner value is `None` if they are unreadable.
#[allow(clippy::option_option)]
fn basic_of(headers: &HeaderMap) -> Option<Option<Credentials>> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok().map(Zeroizing::new);
    let text = decoded.as_ref().and_then(|decoded| std::str::from_utf8(decoded).ok());
    Some(text.and_then(|text| {
        let (id, secret) = text.split_once(':')?;
        // Both are form-encoded first (RFC 6749 §2.3.1). Ids and secrets of this service need no encoding,
        // but some clients encode more than necessary.
        let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
        Some(Credentials { id: decode(id)?, secret: Zeroizing::new(decode(secret)?) })
    }))
}
