//! Sends one message as one POST. Redirects are not followed, and the body of an answer is discarded.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::Failure;
use tokio_rustls::rustls;

use super::address_guard::{AddressGuard, GuardedResolver, NameError};
use super::name_lookups::on_behalf_of;
use super::secret::SecretKey;
use crate::outbound::connector::{self, HttpsClient, TrustRoots};

/// How long a receiver may take to answer, connecting included.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// A connection whose answer has a longer body is not reused.
const ANSWER_LEN_MAX: usize = 16 * 1024;
/// How long to read an answer's body to its end, so that the connection can be reused.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
const USER_AGENT: &str = concat!("Keyledger/", env!("CARGO_PKG_VERSION"));

/// A failed delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The reason.
    pub failure: Failure,
    /// The `Retry-After` that the receiver sent.
    pub retry_after: Option<Duration>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None }
    }
}

/// The client that delivers messages.
pub(crate) struct Sender {
    guard: AddressGuard,
    client: HttpsClient<GuardedResolver>,
}

impl Sender {
    /// Makes a sender that connects only to addresses that `guard` allows.
    #[must_use]
    pub(crate) fn new(guard: AddressGuard) -> Self {
        let roots = TrustRoots::system().unwrap_or_else(|error| {
            tracing::warn!(%error, "webhooks at https:// addresses cannot be delivered");
            TrustRoots::none()
        });
        let client = connector::client(GuardedResolver::new(guard.clone()), roots);
        Self { guard, client }
    }

    /// Delivers a message, signed with every secret of the webhook that signs at `now`. Gives up after 15
    /// seconds.
    ///
    /// # Errors
    /// When the answer has a status outside 200 to 299, or none arrives.
    pub(crate) async fn send(
        &self,
        webhook: &Webhook,
        keys: &SecretKey,
        id: &str,
        body: Bytes,
        now: Timestamp,
    ) -> Result<StatusCode, Refused> {
        // The operator may have changed the allowed networks since the webhook was registered.
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
        let delivery = on_behalf_of(webhook.organization_id.clone(), self.client.request(request));
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, delivery).await;
        let answer = answer.map_err(|_| Failure::Timeout)?.map_err(|error| failure_of(&error))?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), now);
        let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX);
        // A body that is read to its end leaves the connection usable.
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
        // An I/O error does not return the error inside it from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    Failure::Connection
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
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
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_millis(784_111_777_000);
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(of("Sun, 06 Nov 1994 08:48:37 GMT"), None, "a date in the past");
        assert_eq!(of("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
