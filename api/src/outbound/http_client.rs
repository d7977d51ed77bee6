//! Asks other services, such as those that the operator has named: over HTTP/1.1, with TLS by the system's certificate
//! authorities. No redirect is followed, and what comes back is bounded in size and time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Asks. Connections are kept for the next request.
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    answer_len_max: usize,
    answer_time_max: Duration,
}

/// Why there is no answer; some words that follow an address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

impl HttpClient {
    /// A client that waits for an answer for so long and reads so many bytes of it.
    ///
    /// # Errors
    /// When the machine trusts no certificate authority.
    pub(crate) fn new(answer_len_max: usize, answer_time_max: Duration) -> Result<Self, Error> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| {
                Error(format!("no certificate authority is trusted: {error}; install ca-certificates"))
            })?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, answer_len_max, answer_time_max })
    }

    /// What is answered to a request, whatever its status.
    ///
    /// # Errors
    /// When nothing is, in time, or too much.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Error> {
        let failed = |reason: &dyn fmt::Display| Error(reason.to_string());
        let answering = async {
            let response = self.client.request(request).await.map_err(|error| failed(&cause(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.answer_len_max).collect().await;
            Ok(Response::from_parts(head, body.map_err(|error| failed(&error))?.to_bytes()))
        };
        let answer = tokio::time::timeout(self.answer_time_max, answering).await;
        answer.map_err(|_| failed(&"no answer in time"))?
    }
}

/// The innermost cause says most; the outermost only that something failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
