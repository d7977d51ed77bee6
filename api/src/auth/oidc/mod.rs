//! Users of an OpenID Connect provider. The operator may name one provider, whose signed tokens (JWTs) are
//! accepted as bearer tokens: the provider authenticates the user, and two claims name the user's
//! organization and role. The provider's keys are found by discovery, cached, and fetched again when a token
//! names an unknown key.

pub(crate) mod code_flow;
mod known_issuer;
mod shared_answer;
#[cfg(test)]
mod tests;
mod token_type;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use keyledger_engine::crypto::sha256::sha256;
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::{ApplicationId, KeyId, OrganizationId, PortalSessionId, RootKeyId};
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Number, Value};
use tokio::time::Instant;

use self::shared_answer::SharedAnswer;
use self::token_type::is_accepted;
use crate::outbound::http_client::HttpClient;

pub(crate) use self::known_issuer::check as check_issuer;

/// A longer text is not a token of the provider, in bytes.
const TOKEN_LEN_MAX: usize = 8_192;
/// Cached tokens. When the cache is full it is emptied.
const CHECKED_MAX: usize = 16_384;
/// A longer answer of the provider is an error, in bytes.
const ANSWER_LEN_MAX: usize = 256 * 1024;
/// Further keys of the provider are ignored.
const KEYS_MAX: usize = 64;
/// How long the provider may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// The provider's keys are fetched at most once in this time, however many unknown keys tokens name.
const FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// Keys are fetched again after this time, so that a key that the provider revoked is dropped.
const KEYS_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// The provider's metadata is fetched again after this time.
const METADATA_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// The tolerated difference between the provider's clock and this one.
const LEEWAY_SECONDS: u64 = 5;
/// Asymmetric signatures only: a token with a shared secret, or without a signature, proves nothing.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The provider, and the claims of its tokens.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The issuer, exactly as in the provider's tokens.
    pub issuer: String,
    /// The audience of tokens for Keyledger.
    pub audience: String,
    /// The claim with the user's role, or a list that contains it.
    pub role_claim: String,
    /// The claim with the id of the user's organization.
    pub organization_claim: String,
    /// The console as a client of the provider, if users can sign in to it there.
    pub client: Option<code_flow::ConsoleClient>,
}

/// Why the provider cannot be used, or does not answer: one line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// A user whom the provider has authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The token's `sub`. It is not the id of another kind of caller.
    pub id: UserId,
    /// The user's organization, if the token names one.
    pub organization_id: Option<OrganizationId>,
    /// The user's role in the organization.
    pub role: Option<Role>,
    /// The token's expiry.
    pub expires_at: Timestamp,
}

/// The OpenID provider.
pub(crate) struct OpenIdProvider {
    options: Options,
    client: HttpClient,
    keys: RwLock<Keys>,
    metadata: SharedAnswer<Metadata>,
    /// The last time that the keys were fetched.
    fetched: SharedAnswer<()>,
    /// Valid tokens by digest. Emptied when the keys change.
    checked: Mutex<HashMap<[u8; 32], Arc<User>>>,
}

#[derive(Default)]
struct Keys {
    keys: Vec<(Jwk, DecodingKey)>,
    fetched_at: Option<Instant>,
}

/// The used part of the provider's metadata (OpenID Connect Discovery 1.0 §3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// A `NumericDate`: seconds, possibly with a fraction (RFC 7519 §2).
    exp: Number,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl OpenIdProvider {
    /// Prepares a provider without sending it a request.
    ///
    /// # Errors
    /// When the issuer's address is not allowed, or the system has no certificate authorities.
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        check_address("--oidc-issuer", &options.issuer)?;
        let client =
            HttpClient::new(ANSWER_LEN_MAX, ANSWER_TIME_MAX).map_err(|error| Error(error.to_string()))?;
        Ok(Self {
            options,
            client,
            keys: RwLock::default(),
            metadata: SharedAnswer::default(),
            fetched: SharedAnswer::default(),
            checked: Mutex::default(),
        })
    }

    /// Returns the user of a token, checked with the cached keys. Returns none when the token is not the
    /// provider's, not for Keyledger, or expired.
    #[must_use]
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Option<Arc<User>> {
        if !looks_like_token(token) {
            return None;
        }
        let digest = sha256(token.as_bytes());
        let known = self.checked().get(&digest).cloned();
        let user = match known {
            Some(user) => user,
            None => {
                let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
                let user = Arc::new(self.check_signature(&keys, token)?);
                let mut checked = self.checked();
                if checked.len() >= CHECKED_MAX {
                    checked.clear();
                }
                // The read lock on the keys is still held, so that a change of keys empties the cache after
                // this.
                checked.insert(digest, Arc::clone(&user));
                user
            }
        };
        (now < user.expires_at).then_some(user)
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<User>>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_signature(&self, keys: &Keys, token: &str) -> Option<User> {
        self.user_of(self.check_claims(keys, token, &self.options.audience)?)
    }

    /// Returns the claims of a token that the provider signed for `audience`.
    fn check_claims(&self, keys: &Keys, token: &str, audience: &str) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let is_typed = is_accepted(header.typ.as_deref());
        if !ALGORITHMS.contains(&header.alg) || !is_typed || has_critical_extensions(token) {
            return None;
        }
        let (_, key) = keys.find(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).ok()?.claims;
        // It reports something that happened, such as a sign-out, and lets nobody in (RFC 8417 §2.2, OpenID
        // Connect Back-Channel Logout 1.0 §2.4).
        (!claims.others.contains_key("events")).then_some(claims)
    }

    /// Returns the user whom the claims describe.
    fn user_of(&self, claims: Claims) -> Option<User> {
        let leeway = i64::try_from(LEEWAY_SECONDS).unwrap_or(0).checked_mul(1_000)?;
        Some(User {
            id: UserId::new(&claims.sub).ok().filter(|id| !is_own_id(id.as_str()))?,
            organization_id: claims
                .others
                .get(&self.options.organization_claim)
                .and_then(Value::as_str)
                .and_then(|id| id.parse().ok()),
            role: claims.others.get(&self.options.role_claim).and_then(role_of),
            expires_at: Timestamp::from_millis(millis_of(&claims.exp)?.checked_add(leeway)?),
        })
    }

    /// Fetches the provider's keys if the token names an unknown one. Returns whether the key is known now.
    /// Concurrent calls share one fetch.
    pub(crate) async fn fetch_keys_for(self: &Arc<Self>, token: &str) -> bool {
        let Some(header) = looks_like_token(token).then(|| jsonwebtoken::decode_header(token).ok()).flatten()
        else {
            return false;
        };
        let is_known = || {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.find(header.kid.as_deref(), header.alg).is_some()
        };
        if !ALGORITHMS.contains(&header.alg) || is_known() {
            return false;
        }
        self.refresh_keys().await;
        is_known()
    }

    /// Whether the keys are due to be fetched again.
    #[must_use]
    pub(crate) fn is_stale(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.fetched_at.is_some_and(|at| at.elapsed() > KEYS_AGE_MAX)
    }

    /// Fetches the provider's keys, unless an attempt ended within the last [`FETCH_INTERVAL`].
    pub(crate) async fn refresh_keys(self: &Arc<Self>) {
        let fetch = || {
            let provider = Arc::clone(self);
            async move {
                match provider.fetch_keys().await {
                    Ok(found) => {
                        let mut keys = provider.keys.write().unwrap_or_else(PoisonError::into_inner);
                        *keys = Keys { keys: found, fetched_at: Some(Instant::now()) };
                        provider.checked().clear();
                    }
                    Err(error) => {
                        let issuer = &provider.options.issuer;
                        tracing::warn!(%error, issuer, "could not fetch the OpenID provider's keys");
                        // The provider may have moved its keys.
                        provider.metadata.forget().await;
                    }
                }
                Ok(())
            }
        };
        let _ = self.fetched.get(FETCH_INTERVAL, fetch).await;
    }

    async fn fetch_keys(self: &Arc<Self>) -> Result<Vec<(Jwk, DecodingKey)>, Error> {
        let metadata = self.metadata().await?;
        check_address("jwks_uri", &metadata.jwks_uri)?;
        let jwks: Jwks = self.fetch(&metadata.jwks_uri).await?;
        let usable = |key: Value| {
            let key: Jwk = serde_json::from_value(key).ok()?;
            let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
            let public = DecodingKey::from_jwk(&key).ok()?;
            signs.then_some((key, public))
        };
        Ok(jwks.keys.into_iter().take(KEYS_MAX).filter_map(usable).collect())
    }

    /// Returns the provider's metadata, which is kept for an hour.
    async fn metadata(self: &Arc<Self>) -> Result<Arc<Metadata>, Error> {
        let provider = Arc::clone(self);
        self.metadata.get(METADATA_AGE_MAX, || async move { provider.fetch_metadata().await }).await
    }

    async fn fetch_metadata(&self) -> Result<Metadata, Error> {
        let issuer = self.options.issuer.strip_suffix('/').unwrap_or(&self.options.issuer);
        let metadata: Metadata = self.fetch(&format!("{issuer}/.well-known/openid-configuration")).await?;
        if metadata.issuer != self.options.issuer {
            return Err(Error("the provider's metadata names another issuer; check --oidc-issuer".into()));
        }
        Ok(metadata)
    }

    async fn fetch<T: DeserializeOwned>(&self, address: &str) -> Result<T, Error> {
        let request = Request::get(address)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|error| Error(format!("{address}: {error}")))?;
        self.answer(address, request).await
    }

    /// Sends a request and parses the JSON of its answer.
    async fn answer<T: DeserializeOwned>(
        &self,
        address: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<T, Error> {
        let failed = |reason: &dyn std::fmt::Display| Error(format!("{address}: {reason}"));
        let answer = self.client.send(request).await.map_err(|error| failed(&error))?;
        if answer.status() != http::StatusCode::OK {
            return Err(failed(&answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| failed(&error))
    }
}

impl Keys {
    /// Returns the key that a token names. A token without a key id gets the only key, if there is just one.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&(Jwk, DecodingKey)> {
        let key = match (id, self.keys.as_slice()) {
            (Some(id), keys) => keys.iter().find(|(key, _)| key.common.key_id.as_deref() == Some(id))?,
            (None, [key]) => key,
            (None, _) => return None,
        };
        let fits = key.0.common.key_algorithm.is_none_or(|stated| stated == KeyAlgorithm::from(algorithm));
        (fits && key.1.family() == algorithm.family()).then_some(key)
    }
}

/// Whether a user's id looks like the id of another kind of caller, for whom the log and `created_by` would
/// let the user pass.
fn is_own_id(text: &str) -> bool {
    text == &*Actor::system().id
        || text.parse::<RootKeyId>().is_ok()
        || text.parse::<ApplicationId>().is_ok()
        || text.parse::<PortalSessionId>().is_ok()
        || text.parse::<KeyId>().is_ok()
}

/// Whether a text has the three parts of a JWT and a plausible length.
fn looks_like_token(text: &str) -> bool {
    text.len() <= TOKEN_LEN_MAX && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Converts a `NumericDate` to milliseconds.
fn millis_of(seconds: &Number) -> Option<i64> {
    if let Some(seconds) = seconds.as_i64() {
        return seconds.checked_mul(1_000);
    }
    let millis = (seconds.as_f64()? * 1_000.0).floor();
    // Integers beyond this are not exact in a double.
    (millis.abs() <= 9e15).then_some(millis as i64)
}

/// Whether a token's header has `crit`, which lists extensions that must be understood (RFC 7515 §4.1.11).
/// None is supported here, and an empty list or another type is invalid too.
fn has_critical_extensions(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Header {
        #[serde(default, deserialize_with = "is_there")]
        crit: bool,
    }
    fn is_there<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
        IgnoredAny::deserialize(value).map(|_| true)
    }
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Header>(&header).ok());
    header.is_none_or(|header| header.crit)
}

/// Reads a role from a claim: a word, or the most privileged role of a list.
fn role_of(claim: &Value) -> Option<Role> {
    match claim {
        Value::String(word) => word.parse().ok(),
        Value::Array(words) => words.iter().filter_map(|word| word.as_str()?.parse().ok()).min(),
        _ => None,
    }
}

/// Requires TLS, without which the keys could come from an attacker. The loopback address is exempt.
fn check_address(name: &str, address: &str) -> Result<(), Error> {
    let uri: Option<Uri> = address.parse().ok();
    let is_allowed = uri.is_some_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => matches!(host, "127.0.0.1" | "localhost" | "[::1]"),
        _ => false,
    });
    if is_allowed {
        return Ok(());
    }
    Err(Error(format!("{name} {address}: must be an https:// address, or http:// at the loopback address")))
}
