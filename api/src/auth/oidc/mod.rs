//! Users of an OpenID Connect provider. Whoever runs Keyledger may name one whose signed tokens (JWTs) it accepts as bearer
//! tokens: the provider vouches for who somebody is, and two claims say in which organization they are and what they are
//! there. The provider's keys are found by discovery, kept, and looked for again when a token names one that is not known.

pub(crate) mod code_flow;

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
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::sha256::sha256;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Number, Value};
use tokio::time::Instant;

use crate::outbound::http_client::HttpClient;

/// Longer texts are no tokens of a provider.
const TOKEN_LEN_MAX: usize = 8_192;
/// Tokens that were checked and are remembered; past that, all are forgotten and checked again.
const CHECKED_MAX: usize = 16_384;
/// No answer of the provider is larger.
const ANSWER_LEN_MAX: usize = 256 * 1024;
/// More keys than this are not looked at.
const KEYS_MAX: usize = 64;
/// The provider gets this long for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// However many unknown keys tokens name, the provider is asked once in this time.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// Keys are looked for again after this time, so that one that the provider gave up is given up here.
const KEYS_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// The provider's clock and this one may differ by this many seconds.
const LEEWAY_SECONDS: u64 = 5;
/// Signatures with a secret that both sides know, and none at all, are not among them.
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

/// Which provider, and what its tokens say.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Its issuer, as its tokens name it.
    pub issuer: String,
    /// The audience that its tokens for Keyledger have.
    pub audience: String,
    /// The claim that says what somebody is in their organization: a role, or several.
    pub role_claim: String,
    /// The claim that says which organization.
    pub organization_claim: String,
    /// What Keyledger's console is to the provider, if people are to sign in to it there.
    pub client: Option<code_flow::ConsoleClient>,
}

/// Why a provider cannot be used, or does not answer; one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// Somebody whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The provider's name for them.
    pub id: UserId,
    /// Their organization, if the token says one.
    pub organization_id: Option<OrganizationId>,
    /// What they are there.
    pub role: Option<Role>,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// One provider.
pub(crate) struct OpenIdProvider {
    options: Options,
    client: HttpClient,
    keys: RwLock<Keys>,
    /// Held while the provider is asked; when it was asked last.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// By the digest of the token, as long as the keys stay the same.
    checked: Mutex<HashMap<[u8; 32], Arc<User>>>,
}

#[derive(Default)]
struct Keys {
    keys: Vec<(Jwk, DecodingKey)>,
    learnt_at: Option<Instant>,
}

/// What is needed of a provider's metadata (OpenID Connect Discovery 1.0 §3).
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
    /// A `NumericDate`: seconds, which may have a fraction (RFC 7519 §2).
    exp: Number,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl OpenIdProvider {
    /// Takes a provider's settings. It is not asked for anything yet.
    ///
    /// # Errors
    /// When the issuer's address cannot be used, or the machine trusts no certificate authority.
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        check_address("--oidc-issuer", &options.issuer)?;
        let client =
            HttpClient::new(ANSWER_LEN_MAX, ANSWER_TIME_MAX).map_err(|error| Error(error.to_string()))?;
        Ok(Self {
            options,
            client,
            keys: RwLock::default(),
            asked: tokio::sync::Mutex::new(None),
            checked: Mutex::default(),
        })
    }

    /// Who has a token; none when it is not the provider's, not for Keyledger, or has ended. Looks at the keys that are known.
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
                // While the keys are held: those who bring others clear what was checked with these.
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

    /// What a token of the provider's for an audience claims.
    fn check_claims(&self, keys: &Keys, token: &str, audience: &str) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if !ALGORITHMS.contains(&header.alg) || has_critical_extensions(token) {
            return None;
        }
        let (_, key) = keys.find(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        jsonwebtoken::decode::<Claims>(token, key, &validation).ok().map(|token| token.claims)
    }

    /// Whom claims are about.
    fn user_of(&self, claims: Claims) -> Option<User> {
        let leeway = i64::try_from(LEEWAY_SECONDS).unwrap_or(0).checked_mul(1_000)?;
        Some(User {
            id: UserId::new(&claims.sub).ok()?,
            organization_id: claims
                .others
                .get(&self.options.organization_claim)
                .and_then(Value::as_str)
                .and_then(|id| id.parse().ok()),
            role: claims.others.get(&self.options.role_claim).and_then(role_of),
            expires_at: Timestamp::from_millis(millis_of(&claims.exp)?.checked_add(leeway)?),
        })
    }

    /// Asks the provider for its keys when a token may need one that is not known, and says whether to look again. Callers
    /// that come while it is asked wait for the same answer.
    pub(crate) async fn learn_keys_for(&self, token: &str) -> bool {
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
        self.learn_keys().await;
        is_known()
    }

    /// Whether the keys are due to be looked for again.
    #[must_use]
    pub(crate) fn is_stale(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.learnt_at.is_some_and(|at| at.elapsed() > KEYS_AGE_MAX)
    }

    /// Asks the provider for its keys, unless it was asked a moment ago.
    pub(crate) async fn learn_keys(&self) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < ASK_INTERVAL) {
            return;
        }
        *asked = Some(Instant::now());
        match self.fetch_keys().await {
            Ok(found) => {
                let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                *keys = Keys { keys: found, learnt_at: Some(Instant::now()) };
                self.checked().clear();
            }
            Err(error) => {
                tracing::warn!(%error, issuer = self.options.issuer, "the OpenID provider's keys were not got");
            }
        }
    }

    async fn fetch_keys(&self) -> Result<Vec<(Jwk, DecodingKey)>, Error> {
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

    async fn metadata(&self) -> Result<Metadata, Error> {
        let issuer = self.options.issuer.strip_suffix('/').unwrap_or(&self.options.issuer);
        let metadata: Metadata = self.fetch(&format!("{issuer}/.well-known/openid-configuration")).await?;
        if metadata.issuer != self.options.issuer {
            return Err(Error("its metadata names another issuer; check --oidc-issuer".into()));
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

    /// What the provider answers to a request.
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
    /// The key that a token names; where it names none, the only one there is.
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

/// Two dots between three parts, and no more than fits a header.
fn looks_like_token(text: &str) -> bool {
    text.len() <= TOKEN_LEN_MAX && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The milliseconds of a `NumericDate`.
fn millis_of(seconds: &Number) -> Option<i64> {
    if let Some(seconds) = seconds.as_i64() {
        return seconds.checked_mul(1_000);
    }
    let millis = (seconds.as_f64()? * 1_000.0).floor();
    // What a double holds exactly.
    (millis.abs() <= 9e15).then_some(millis as i64)
}

/// Whether a token's header says that it must be understood in ways beyond the specification (RFC 7515 §4.1.11). None of them
/// is understood here, and a list that is empty or no list is not allowed either.
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

/// The role in a claim: a word, or the one of several that allows most.
fn role_of(claim: &Value) -> Option<Role> {
    match claim {
        Value::String(word) => word.parse().ok(),
        Value::Array(words) => words.iter().filter_map(|word| word.as_str()?.parse().ok()).min(),
        _ => None,
    }
}

/// Keys that come without TLS could be anybody's; only on this machine itself that does not matter.
fn check_address(name: &str, address: &str) -> Result<(), Error> {
    let uri: Option<Uri> = address.parse().ok();
    let is_good = uri.is_some_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => matches!(host, "127.0.0.1" | "localhost" | "[::1]"),
        _ => false,
    });
    if is_good {
        return Ok(());
    }
    Err(Error(format!("{name} {address}: must be an https:// address, or http:// on this machine itself")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_may_have_a_fraction() {
        let millis = |text: &str| millis_of(&serde_json::from_str(text).unwrap());
        assert_eq!(millis("1700000000"), Some(1_700_000_000_000));
        assert_eq!(millis("1700000000.5"), Some(1_700_000_000_500));
        assert_eq!(millis("1.7e9"), Some(1_700_000_000_000));
        for text in ["9223372036854775807", "18446744073709551615", "1e300"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn only_addresses_that_can_be_trusted() {
        for good in [
            "https://id.example.com/realms/a",
            "http://127.0.0.1:8080",
            "http://localhost/",
            "http://[::1]:1",
        ] {
            assert!(check_address("x", good).is_ok(), "{good}");
        }
        for bad in
            ["http://id.example.com", "ftp://localhost", "id.example.com", "", "http://localhost.example.com"]
        {
            assert!(check_address("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_extension_is_understood() {
        for (header, has_extensions) in [
            (r#"{"alg":"RS256","kid":"1"}"#, false),
            (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, true),
            (r#"{"alg":"RS256","crit":[]}"#, true),
            (r#"{"alg":"RS256","crit":null}"#, true),
            ("no JSON", true),
        ] {
            let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(has_critical_extensions(&token), has_extensions, "{header}");
        }
    }

    #[test]
    fn a_role_is_a_word_or_the_greatest_of_several() {
        for (claim, role) in [
            (serde_json::json!("auditor"), Some(Role::Auditor)),
            (serde_json::json!(["everyone", "member", "admin"]), Some(Role::Admin)),
            (serde_json::json!(["everyone"]), None),
            (serde_json::json!("Owner"), None),
            (serde_json::json!(7), None),
        ] {
            assert_eq!(role_of(&claim), role, "{claim}");
        }
    }
}
