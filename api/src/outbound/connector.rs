//! Connections to other services: HTTP/1.1, over TLS with the system's certificate authorities. Every request
//! that the service sends goes through a client built here.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// An answer's status line and headers, in bytes.
const ANSWER_HEAD_LEN_MAX: usize = 32 * 1024;
const IDLE_CONNECTIONS_MAX: usize = 4;
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// A client that follows no redirects and keeps idle connections for the next request. `R` resolves host
/// names.
pub(crate) type HttpsClient<R> = Client<HttpsConnector<HttpConnector<R>>, Full<Bytes>>;

/// The system has no certificate authorities to trust.
#[derive(Debug, thiserror::Error)]
#[error("no certificate authority is trusted: {0}; install ca-certificates")]
pub(crate) struct NoTrustRoots(#[from] std::io::Error);

/// The certificate authorities that a client trusts.
pub(crate) struct TrustRoots(ClientConfig);

impl TrustRoots {
    /// Loads the system's certificate authorities, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn system() -> Result<Self, NoTrustRoots> {
        Ok(Self(ClientConfig::builder().with_native_roots()?.with_no_client_auth()))
    }

    /// Trusts no certificate authority: every TLS connection fails.
    pub(crate) fn none() -> Self {
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        Self(config.with_no_client_auth())
    }
}

/// Builds a client that connects to the addresses that `resolver` returns for a host name.
pub(crate) fn client<R>(resolver: R, roots: TrustRoots) -> HttpsClient<R>
where
    HttpsConnector<HttpConnector<R>>: Connect + Clone,
{
    let mut http = HttpConnector::new_with_resolver(resolver);
    // The TLS layer above it takes https:// addresses too.
    http.enforce_http(false);
    http.set_nodelay(true);
    let https = HttpsConnectorBuilder::new().with_tls_config(roots.0);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_buf_size(ANSWER_HEAD_LEN_MAX)
        .build(https.https_or_http().enable_http1().wrap_connector(http))
}
