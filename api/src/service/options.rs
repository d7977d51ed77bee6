//! How the service is to run.

use std::path::PathBuf;

use crate::admission;
use crate::auth::access_token;
use crate::auth::oidc;
use crate::auth::session_limits::SessionLimits;
use crate::auth::trusted_proxies::TrustedProxies;
use crate::evidence::destination::Destination;
use crate::jobs::webhooks;
use crate::jobs::witness::Witness;
use crate::service::log_signer;

/// The settings of a service, from the command line.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The cache for the log's pages, in bytes.
    pub log_cache_bytes: usize,
    /// How checkpoints of the log are signed.
    pub log_signer: log_signer::Options,
    /// Whether a log that is known to be an older copy or altered is served all the same.
    pub serve_inconsistent_log: bool,
    /// The witnesses that cosign checkpoints.
    pub witnesses: Vec<Witness>,
    /// Whether metrics and the details of readiness have a listener of their own.
    pub has_admin_listener: bool,
    /// Whether the service ends TLS itself.
    pub is_tls: bool,
    /// How access tokens are issued.
    pub access_tokens: access_token::Options,
    /// The proxies that are trusted to forward a client's address.
    pub trusted_proxies: TrustedProxies,
    /// The OpenID provider whose users may call the API, if there is one.
    pub openid_provider: Option<oidc::Options>,
    /// How long sessions last.
    pub sessions: SessionLimits,
    /// How webhooks are delivered.
    pub webhooks: webhooks::Options,
    /// Where the security log is written.
    pub security_log: Destination,
    /// What callers may take.
    pub admission: admission::Options,
}
