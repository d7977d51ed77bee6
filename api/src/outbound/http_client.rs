//! The client for services that the operator has named: the OpenID provider and the witnesses. It follows no
//! redirect and bounds every answer in size and time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::dns::GaiResolver;

use crate::outbound::connector::{self, HttpsClient, NoTrustRoots, TrustRoots};

/// An HTTP client with limits for its answers. Idle connections are reused.
pub(crate) struct HttpClient {
    client: HttpsClient<GaiResolver>,
    answer_len_max: usize,
    answer_time_max: Duration,
}

/// Why a request got no answer: words to follow an address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

impl HttpClient {
    /// Makes a client that reads at most `answer_len_max` bytes of a body and waits at most `answer_time_max`
    /// for a whole answer, connecting included.
    ///
    /// # Errors
    /// When the system has no certificate authorities.
    pub(crate) fn new(answer_len_max: usize, answer_time_max: Duration) -> Result<Self, NoTrustRoots> {
        let client = connector::client(GaiResolver::new(), TrustRoots::system()?);
        Ok(Self { client, answer_len_max, answer_time_max })
    }

    /// Sends a request and returns its answer, whatever the status.
    ///
    /// # Errors
    /// When the connection fails, or the answer exceeds a limit.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Error> {
        let failed = |reason: &dyn fmt::Display| Error(reason.to_string());
        let answering = async {
            let response = self.client.request(request).await.map_err(|error| failed(&cause(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.answer_len_max).collect().await;
            Ok(Response::from_parts(head, body.map_err(|error| failed(&error))?.to_bytes()))
        };
        let answer = tokio::time::timeout(self.answer_time_max, answering).await;
        answer.map_err(|_| failed(&format!("no answer within {:?}", self.answer_time_max)))?
    }
}

/// Returns the innermost cause: the outer ones only say that a request failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
