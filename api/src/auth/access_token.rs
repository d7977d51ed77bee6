//! Access tokens, which applications get in exchange for their secret: signed JWTs (RFC 9068) that are valid
//! for some minutes. Every use looks up the token's application, so that deleting an application invalidates
//! its tokens at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::{Header, Validation};
use keyledger_engine::crypto::sha256::sha256;
use keyledger_engine::domain::application::Application;
use keyledger_engine::value::id::ApplicationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::Version;
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::auth::signing_keys::{self, ALGORITHM, KeySet, SigningKeys};

/// The `typ` header (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";
/// A longer text is not an access token of this service, in bytes.
const LEN_MAX: usize = 4_096;
/// Cached tokens. When the cache is full it is emptied.
const CHECKED_MAX: usize = 16_384;

/// How access tokens are issued.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The service's address as clients see it, which is the issuer. No trailing slash.
    pub public_url: String,
    /// The lifetime of a token, in seconds.
    pub lifetime_seconds: u32,
}

/// Issues and checks access tokens.
pub(crate) struct AccessTokens {
    /// The keys that sign tokens.
    pub keys: SigningKeys,
    options: Options,
    audiences: [String; 2],
    /// Valid tokens by digest: checking a signature takes longer than all other work of a verification.
    checked: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

/// Whether an expired token is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Checked,
    Ignored,
}

/// The claims of a valid access token.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The application that the token was issued to.
    pub application_id: ApplicationId,
    /// The application's version at which the exchanged secret was created.
    pub secret_version: Version,
    /// The permissions that were granted.
    pub scope: Vec<Permission>,
    pub audience: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The token's `jti`.
    pub id: String,
}

/// The claims as encoded in the token.
#[derive(Serialize, Deserialize)]
struct WireClaims {
    iss: String,
    sub: ApplicationId,
    aud: String,
    client_id: ApplicationId,
    iat: i64,
    exp: i64,
    jti: String,
    scope: String,
    secret_version: Version,
}

impl AccessTokens {
    #[must_use]
    pub(crate) fn new(keys: SigningKeys, options: Options) -> Self {
        let audiences = [options.public_url.clone(), format!("{}/api", options.public_url)];
        Self { keys, options, audiences, checked: Mutex::default() }
    }

    /// Reloads the keys and empties the cache of valid tokens.
    ///
    /// # Errors
    /// When the keys cannot be read. The previous keys stay in use.
    pub(crate) fn reload(&self) -> Result<(), signing_keys::Error> {
        self.keys.reload()?;
        self.checked().clear();
        Ok(())
    }

    /// The issuer: the service's address as clients see it.
    #[must_use]
    pub(crate) fn issuer(&self) -> &str {
        &self.options.public_url
    }

    /// The lifetime of a token, in seconds.
    #[must_use]
    pub(crate) const fn lifetime_seconds(&self) -> u32 {
        self.options.lifetime_seconds
    }

    /// Returns the requested audience if it is valid, and the service itself for a request without one.
    #[must_use]
    pub(crate) fn audience(&self, asked: Option<&str>) -> Option<&str> {
        let [default, _] = &self.audiences;
        let Some(asked) = asked else { return Some(default) };
        // A trailing slash does not change a base address.
        let asked = asked.strip_suffix('/').unwrap_or(asked);
        self.audiences.iter().map(String::as_str).find(|audience| *audience == asked)
    }

    /// Issues a token to an application.
    ///
    /// # Errors
    /// When the token cannot be signed.
    pub(crate) fn issue(
        &self,
        keys: &KeySet,
        application: &Application,
        scope: &[Permission],
        audience: &str,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, jsonwebtoken::errors::Error> {
        let key = keys.current().ok_or(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat)?;
        let issued_at = now.millis() / 1_000;
        let millis = u64::try_from(now.millis()).unwrap_or(0);
        let claims = WireClaims {
            iss: self.options.public_url.clone(),
            sub: application.id,
            aud: audience.into(),
            client_id: application.id,
            iat: issued_at,
            exp: issued_at + i64::from(self.options.lifetime_seconds),
            jti: format!("at_{}", Ulid::from_parts(millis, rand::random())),
            scope: Permission::to_scope(scope),
            secret_version: application.secret_version,
        };
        let header = Header { typ: Some(TYPE.into()), kid: Some(key.id.clone()), ..Header::new(ALGORITHM) };
        jsonwebtoken::encode(&header, &claims, &key.private).map(Zeroizing::new)
    }

    /// Returns the claims of a token that this service issued for itself and that is valid at `now`. The
    /// caller has to check that the application still exists.
    #[must_use]
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Option<Arc<Claims>> {
        // Root keys and other texts that are not JWTs are rejected without the cost of a digest.
        if token.len() > LEN_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return None;
        }
        let digest = sha256(token.as_bytes());
        let known = self.checked().get(&digest).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.read_signed(token, Expiry::Checked)?);
                let mut checked = self.checked();
                if checked.len() >= CHECKED_MAX {
                    checked.clear();
                }
                checked.insert(digest, Arc::clone(&claims));
                claims
            }
        };
        (now < claims.expires_at).then_some(claims)
    }

    /// Returns the claims of a token that this service issued for itself, even if it has expired. For the
    /// security log: the token may not be valid any more.
    #[must_use]
    pub(crate) fn issued(&self, token: &str) -> Option<Claims> {
        (token.len() <= LEN_MAX).then(|| self.read_signed(token, Expiry::Ignored)).flatten()
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<Claims>>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_signed(&self, token: &str, expiry: Expiry) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let is_typed = header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(TYPE));
        if header.alg != ALGORITHM || !is_typed {
            return None;
        }
        let keys = self.keys.keys();
        let key = keys.find(header.kid.as_deref()?)?;
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.options.public_url]);
        validation.set_audience(&self.audiences);
        validation.leeway = 0;
        validation.validate_exp = expiry == Expiry::Checked;
        let claims = jsonwebtoken::decode::<WireClaims>(token, &key.public, &validation).ok()?.claims;
        Some(Claims {
            application_id: claims.client_id,
            secret_version: claims.secret_version,
            scope: Permission::of_scope(&claims.scope).ok()?,
            audience: claims.aud,
            issued_at: Timestamp::from_millis(claims.iat.checked_mul(1_000)?),
            expires_at: Timestamp::from_millis(claims.exp.checked_mul(1_000)?),
            id: claims.jti,
        })
    }
}

/// Why a token could not be issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    #[error(transparent)]
    Keys(#[from] signing_keys::Error),
    #[error("could not sign an access token: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}
