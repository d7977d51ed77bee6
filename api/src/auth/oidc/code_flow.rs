//! Signing in at the provider: the authorization code flow (OpenID Connect Core 1.0 §3.1) with PKCE (RFC
//! 7636).

use std::sync::{Arc, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use keyledger_engine::crypto::sha256::sha256;
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Error, OpenIdProvider, User, check_address, looks_like_token};

/// The console as a client of the provider.
#[derive(Clone)]
pub(crate) struct ConsoleClient {
    /// The client id.
    pub id: String,
    /// The client secret; none for a public client, which relies on PKCE.
    pub secret: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for ConsoleClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleClient").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The secrets of a sign-in in progress, which tie the provider's answer to the browser and the request.
pub(crate) struct Proofs {
    /// Binds the answer to the browser (RFC 6749 §10.12).
    pub state: String,
    /// Binds the ID token to the request (OpenID Connect Core 1.0 §3.1.2.1).
    pub nonce: String,
    /// Binds the code to the client that requested it (RFC 7636).
    pub verifier: Zeroizing<String>,
}

/// The provider's answer to a code.
#[derive(Deserialize)]
struct Granted {
    id_token: Zeroized,
}

#[derive(Deserialize)]
#[serde(from = "String")]
struct Zeroized(Zeroizing<String>);

impl From<String> for Zeroized {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl OpenIdProvider {
    /// Returns the provider's host, if users can sign in to the console there.
    #[must_use]
    pub(crate) fn signs_in(&self) -> Option<&str> {
        self.options.client.as_ref()?;
        let (_, rest) = self.options.issuer.split_once("://")?;
        rest.split('/').next()
    }

    /// Returns the address where the browser signs in. The provider sends it back to `redirect_uri` with a
    /// code (RFC 6749 §4.1).
    ///
    /// # Errors
    /// When the console is not a client of the provider, or the provider does not answer.
    pub(crate) async fn authorization_url(
        self: &Arc<Self>,
        proofs: &Proofs,
        redirect_uri: &str,
    ) -> Result<String, Error> {
        let client = self.options.client.as_ref().ok_or_else(no_client)?;
        let endpoint = self.metadata().await?.authorization_endpoint.clone().ok_or_else(no_code)?;
        check_address("authorization_endpoint", &endpoint)?;
        let challenge = URL_SAFE_NO_PAD.encode(sha256(proofs.verifier.as_bytes()));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", "openid")
            .append_pair("state", &proofs.state)
            .append_pair("nonce", &proofs.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{joint}{}", query.finish()))
    }

    /// Exchanges a code for an ID token and returns the token's user.
    ///
    /// # Errors
    /// When the provider issues no token, or the token is not signed by it, not for the console, or not for
    /// this sign-in.
    pub(crate) async fn redeem(
        self: &Arc<Self>,
        code: &str,
        proofs: &Proofs,
        redirect_uri: &str,
    ) -> Result<User, Error> {
        let client = self.options.client.as_ref().ok_or_else(no_client)?;
        let endpoint = self.metadata().await?.token_endpoint.clone().ok_or_else(no_code)?;
        check_address("token_endpoint", &endpoint)?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", &proofs.verifier),
        ];
        let mut request = Request::post(&endpoint)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(secret) = &client.secret {
            // RFC 6749 §2.3.1: both are form-encoded before they are joined.
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = Zeroizing::new(format!("{}:{}", encoded(&client.id), encoded(secret)));
            let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            let mut value = HeaderValue::from_str(&basic).map_err(|error| Error(error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        } else {
            fields.push(("client_id", &client.id));
        }
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let body = Full::new(Bytes::from(form));
        let request = request.body(body).map_err(|error| Error(format!("{endpoint}: {error}")))?;
        let granted: Granted = self.answer(&endpoint, request).await?;
        let token = granted.id_token.0;
        let foreign = || {
            Error(
                "the ID token is not signed by the provider, not for this client, or not for this sign-in"
                    .into(),
            )
        };
        if !looks_like_token(&token) {
            return Err(foreign());
        }
        self.fetch_keys_for(&token).await;
        let claims = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            self.check_claims(&keys, &token, &client.id).ok_or_else(foreign)?
        };
        let is_for_this_sign_in = claims.others.get("nonce").and_then(Value::as_str) == Some(&proofs.nonce);
        if !is_for_this_sign_in || !is_issued_to(&claims.others, &client.id) {
            return Err(foreign());
        }
        self.user_of(claims).ok_or_else(foreign)
    }
}

/// Whether an ID token was issued to the client, and not to another of its audiences (OpenID Connect Core 1.0
/// §3.1.3.7): `azp` names the client, and may be absent only if the client is the only audience.
pub(super) fn is_issued_to(claims: &Map<String, Value>, client_id: &str) -> bool {
    match claims.get("azp") {
        Some(azp) => azp.as_str() == Some(client_id),
        None => claims.get("aud").and_then(Value::as_array).is_none_or(|audiences| audiences.len() <= 1),
    }
}

fn no_client() -> Error {
    Error("the console has no client id at the provider; set --oidc-client-id".into())
}

fn no_code() -> Error {
    Error("the provider's metadata lacks the endpoints for signing in".into())
}
