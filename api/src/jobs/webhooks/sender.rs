//! Sends one message: one POST, no redirect followed, the answer hardly read.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::Failure;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::address_guard::{AddressGuard, GuardedResolver, NameError};
use super::secret::SecretKey;

/// A receiver gets this long for its answer, connecting included.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// The answer's body is not used; a longer one costs the connection.
const ANSWER_LEN_MAX: usize = 16 * 1024;
/// How long the body of an answer is waited for, so that the connection can be used again.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
const ANSWER_HEAD_LEN_MAX: usize = 32 * 1024;
const IDLE_CONNECTIONS_MAX: usize = 4;
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("Keyledger/", env!("CARGO_PKG_VERSION"));

/// A message that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Why.
    pub failure: Failure,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None }
    }
}

/// Sends messages.
pub(crate) struct Sender {
    guard: AddressGuard,
    client: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>,
}

impl Sender {
    /// A sender that calls only what `guard` allows.
    #[must_use]
    pub(crate) fn new(guard: AddressGuard) -> Self {
        let mut http = HttpConnector::new_with_resolver(GuardedResolver(guard.clone()));
        http.enforce_http(false);
        http.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new();
        let builder = builder.with_native_roots().unwrap_or_else(|error| {
            tracing::warn!(%error, "no certificate authority is trusted, so webhooks fail; install ca-certificates");
            let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
            HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth())
        });
        let connector = builder.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(ANSWER_HEAD_LEN_MAX)
            .build(connector);
        Self { guard, client }
    }

    /// Sends a message to a webhook, signed with all secrets that sign now. Gives up after 15 seconds.
    ///
    /// # Errors
    /// Why it did not arrive: anything but a status of 200 to 299.
    pub(crate) async fn send(
        &self,
        webhook: &Webhook,
        keys: &SecretKey,
        id: &str,
        body: Bytes,
        now: Timestamp,
    ) -> Result<StatusCode, Refused> {
        // Once more: what may be called may be other than when the webhook was registered.
        let uri = self.guard.check(&webhook.url).map_err(|_| Failure::AddressNotAllowed)?;
        let timestamp = now.millis().div_euclid(1_000);
        let secrets = webhook.generations(now).map(|generation| keys.secret(webhook.id, generation));
        let signatures: Vec<String> = secrets.map(|secret| secret.sign(id, timestamp, &body)).collect();
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, USER_AGENT)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures.join(" "))
            .body(Full::new(body))
            .map_err(|_| Failure::Connection)?;
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, self.client.request(request)).await;
        let answer = answer.map_err(|_| Failure::Timeout)?.map_err(|error| failure_of(&error))?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), now);
        let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX);
        // What it says does not matter; read to its end, the connection can be used again.
        let _ = tokio::time::timeout(BODY_TIME_MAX, body.collect()).await;
        if status.is_success() {
            return Ok(status);
        }
        Err(Refused { failure: Failure::Status(status.as_u16()), retry_after })
    }
}

fn failure_of(error: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<NameError>() {
            Some(NameError::NotAllowed) => return Failure::AddressNotAllowed,
            Some(NameError::Unresolved(_)) => return Failure::Name,
            None => {}
        }
        if error.is::<rustls::Error>() {
            return Failure::Tls;
        }
        // What an I/O error was made of is not its source, but itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    Failure::Connection
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a time.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = httpdate::parse_http_date(text).ok()?;
    let since_epoch = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    since_epoch.checked_sub(Duration::from_millis(u64::try_from(now.millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_receiver_says_when_to_come_back_in_two_ways() {
        let now = Timestamp::from_millis(784_111_777_000);
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(of("Sun, 06 Nov 1994 08:48:37 GMT"), None, "it is over");
        assert_eq!(of("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
