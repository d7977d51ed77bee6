//! An attempt to authenticate that failed: what was presented, and why it was refused. Only failures are
//! looked at this closely.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use keyledger_engine::domain::application::Application;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{PresentedToken, SecretKind};
use serde::Deserialize;

use super::credential::{Credential, Outcome};
use crate::auth::caller::{API_KEY_HEADER, presented_token};
use crate::service::Service;

/// A shorter text has no hint: its start and end would be too much of it. In bytes.
const HINTED_LEN_MIN: usize = 40;
const SHOWN_LEN: usize = 4;

/// An attempt that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub credential: Credential,
    /// Why it failed.
    pub outcome: Outcome,
    /// The start and the last four characters of what was presented.
    pub hint: Option<Box<str>>,
    /// The id of whose credential it is, if it is anybody's.
    pub holder: Option<Box<str>>,
}

impl Attempt {
    /// Finds out why the credential of a request was refused. None for a request without one.
    #[must_use]
    pub(crate) fn of(service: &Service, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        if headers.contains_key(header::AUTHORIZATION) || headers.contains_key(API_KEY_HEADER) {
            return Some(match presented_token(headers) {
                Some(token) => Self::with_token(service, token, now),
                None => Self::new(Credential::Other, Outcome::Malformed, ""),
            });
        }
        let secret = service.session_cookie.read(headers)?;
        Some(Self::with_secret(Credential::Session, SecretKind::PortalSession, secret))
    }

    /// Finds out why a token was refused.
    #[must_use]
    pub(crate) fn with_token(service: &Service, token: &str, now: Timestamp) -> Self {
        if is_secret(SecretKind::RootKey, token) {
            let attempt = Self::with_secret(Credential::RootKey, SecretKind::RootKey, token);
            return match service.index.find_root_key(token) {
                Some(root_key) => {
                    let holder = Some(root_key.id.to_string().into());
                    Self { outcome: Outcome::Revoked, holder, ..attempt }
                }
                None => attempt,
            };
        }
        let Some(claims) = claimed(token) else {
            let credential = if is_secret(SecretKind::ClientSecret, token) {
                Credential::ClientSecret
            } else {
                Credential::Other
            };
            return Self::new(credential, Outcome::Malformed, token);
        };
        if claims.iss.as_deref() == Some(service.access_tokens.issuer()) {
            return Self::with_access_token(service, token, now);
        }
        // Whether the claims are the provider's is unknown; they only tell what is worth looking at.
        let has_expired = claims.exp.is_some_and(|end| end.saturating_mul(1_000) <= now.millis());
        let outcome = if has_expired { Outcome::Expired } else { Outcome::Invalid };
        let credential =
            if service.openid_provider.is_some() { Credential::OpenIdToken } else { Credential::Other };
        Self::new(credential, outcome, token)
    }

    fn with_access_token(service: &Service, token: &str, now: Timestamp) -> Self {
        let attempt = Self::new(Credential::AccessToken, Outcome::Invalid, token);
        let Some(claims) = service.access_tokens.issued(token) else { return attempt };
        let outcome = if claims.expires_at <= now { Outcome::Expired } else { Outcome::Revoked };
        Self { outcome, holder: Some(claims.application_id.to_string().into()), ..attempt }
    }

    /// The attempt with a secret that nobody has.
    #[must_use]
    pub(crate) fn with_secret(credential: Credential, kind: SecretKind, secret: &str) -> Self {
        let outcome = match PresentedToken::parse_secret(kind, secret) {
            Ok(_) => Outcome::Unknown,
            Err(_) => Outcome::Malformed,
        };
        Self::new(credential, outcome, secret)
    }

    /// The attempt with a wrong secret of an application, if there is one with the id.
    #[must_use]
    pub(crate) fn with_client_secret(id: &str, application: Option<&Application>, secret: &str) -> Self {
        let attempt = Self::with_secret(Credential::ClientSecret, SecretKind::ClientSecret, secret);
        let outcome = match application {
            Some(application) if application.deleted_at.is_some() => Outcome::Revoked,
            _ => attempt.outcome,
        };
        let holder = application.map(|_| id.into());
        Self { outcome, holder, ..attempt }
    }

    /// The attempt to sign in at the OpenID provider.
    #[must_use]
    pub(crate) fn at_provider() -> Self {
        Self::new(Credential::OpenIdToken, Outcome::Invalid, "")
    }

    fn new(credential: Credential, outcome: Outcome, presented: &str) -> Self {
        Self { credential, outcome, hint: hint(presented), holder: None }
    }
}

fn is_secret(kind: SecretKind, token: &str) -> bool {
    token.strip_prefix(kind.word()).is_some_and(|rest| rest.starts_with('_'))
}

/// Returns the start and the last four characters of a token. The start is four characters, after the word
/// that says what it is for.
fn hint(presented: &str) -> Option<Box<str>> {
    if presented.len() < HINTED_LEN_MIN || !presented.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let word = SecretKind::ALL.into_iter().find(|kind| is_secret(*kind, presented));
    let start = presented.get(..word.map_or(0, |kind| kind.word().len() + 1) + SHOWN_LEN)?;
    let end = presented.get(presented.len() - SHOWN_LEN..)?;
    Some(format!("{start}…{end}").into())
}

/// What a JWT says about itself, unchecked.
#[derive(Deserialize)]
struct Claimed {
    iss: Option<String>,
    exp: Option<i64>,
}

fn claimed(token: &str) -> Option<Claimed> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    parts.next().is_none().then(|| serde_json::from_slice(&payload).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_a_small_part_of_a_long_token() {
        let secret = format!("klroot_{}Zz09", "aB3".repeat(15));
        assert_eq!(hint(&secret).as_deref(), Some("klroot_aB3a…Zz09"));
        assert_eq!(hint(&format!("sk_live_{}wxyz", "a".repeat(40))).as_deref(), Some("sk_l…wxyz"));
        for text in ["", "hunter2", &"a".repeat(39), &"ä".repeat(40), &format!("{}\n", "a".repeat(50))] {
            assert_eq!(hint(text), None, "{text}");
        }
    }

    #[test]
    fn a_jwt_has_three_parts() {
        let payload = URL_SAFE_NO_PAD.encode(br#"{"iss":"https://a.example","exp":5}"#);
        assert_eq!(claimed(&format!("a.{payload}.c")).unwrap().exp, Some(5));
        for token in ["", "a", "a.b.c", &format!("a.{payload}"), &format!("a.{payload}.c.d")] {
            assert!(claimed(token).is_none(), "{token}");
        }
    }
}
