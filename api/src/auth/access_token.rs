//! Access tokens: what applications get for their secret. They are signed JWTs of the profile in RFC 9068, good for some
//! minutes. Whether the application that one was given to is still there is looked up at every use, so that ending an
//! application ends its tokens too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::{Header, Validation};
use keyledger_engine::domain::application::Application;
use keyledger_engine::value::id::ApplicationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::Version;
use keyledger_engine::value::sha256::sha256;
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::auth::signing_keys::{self, ALGORITHM, KeySet, SigningKeys};

/// RFC 9068 §2.1.
const TYPE: &str = "at+jwt";
/// Longer texts are no access tokens of ours.
const LEN_MAX: usize = 4_096;
/// Tokens that were checked and are remembered; past that, all are forgotten and checked again.
const CHECKED_MAX: usize = 16_384;

/// How access tokens are given.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where the service is reached: the issuer, without a slash at its end.
    pub public_url: String,
    /// How long a token is good, in seconds.
    pub lifetime_seconds: u32,
}

/// Gives access tokens and checks them.
pub(crate) struct AccessTokens {
    /// The keys that sign.
    pub keys: SigningKeys,
    options: Options,
    audiences: [String; 2],
    /// By the digest of the token: checking a signature takes longer than everything else that a verification does.
    checked: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

/// What an access token says, once it was found good.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The application that it was given to.
    pub application_id: ApplicationId,
    /// The version of the application that brought the secret that it was given for.
    pub secret_version: Version,
    /// What it was given for.
    pub scope: Vec<Permission>,
    /// Whom it is for.
    pub audience: String,
    /// When it was given.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Names it.
    pub id: String,
}

/// The claims as they stand in the token.
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
    /// Gives tokens signed with `keys`.
    #[must_use]
    pub(crate) fn new(keys: SigningKeys, options: Options) -> Self {
        let audiences = [options.public_url.clone(), format!("{}/api", options.public_url)];
        Self { keys, options, audiences, checked: Mutex::default() }
    }

    /// Reads the keys again, and forgets which tokens were good.
    ///
    /// # Errors
    /// When the keys cannot be read; they are as they were.
    pub(crate) fn reload(&self) -> Result<(), signing_keys::Error> {
        self.keys.reload()?;
        self.checked().clear();
        Ok(())
    }

    /// The issuer: where the service is reached.
    #[must_use]
    pub(crate) fn issuer(&self) -> &str {
        &self.options.public_url
    }

    /// How long a token is good, in seconds.
    #[must_use]
    pub(crate) const fn lifetime_seconds(&self) -> u32 {
        self.options.lifetime_seconds
    }

    /// The audience that was asked for, if there is such a one; the service itself if none was.
    #[must_use]
    pub(crate) fn audience(&self, asked: Option<&str>) -> Option<&str> {
        let [default, _] = &self.audiences;
        let Some(asked) = asked else { return Some(default) };
        // A base address is the same with a slash after it.
        let asked = asked.strip_suffix('/').unwrap_or(asked);
        self.audiences.iter().map(String::as_str).find(|audience| *audience == asked)
    }

    /// Gives an application a token.
    ///
    /// # Errors
    /// When it cannot be signed.
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

    /// What a token says, if it is one of ours, unchanged, for us, and good at `now`. Whether its application is there
    /// still is not asked here.
    #[must_use]
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Option<Arc<Claims>> {
        // Root keys' tokens and other texts that are no JWTs are not worth a digest.
        if token.len() > LEN_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return None;
        }
        let digest = sha256(token.as_bytes());
        let known = self.checked().get(&digest).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.check_signature(token)?);
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

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<Claims>>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_signature(&self, token: &str) -> Option<Claims> {
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

/// Why no token was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// There is no key.
    #[error(transparent)]
    Keys(#[from] signing_keys::Error),
    /// The key does not sign.
    #[error("an access token was not signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}
