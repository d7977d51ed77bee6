//! Arguments about the data directory, and the options that they set.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use keyledger_engine::kek::{Kek, provider};
use keyledger_engine::storage::data_directory::FIRST_ROOT_KEY;
use keyledger_engine::transparency::note::KeyName;

use super::kek::KekSource;
use crate::admission;
use crate::auth::access_token;
use crate::auth::session_limits::SessionLimits;
use crate::auth::trusted_proxies::TrustedProxies;
use crate::evidence::destination::Destination;
use crate::jobs::webhooks;
use crate::service::log_signer;
use crate::service::options::Options;

/// The data directory alone.
#[derive(Args)]
pub(super) struct DataPath {
    /// Data directory.
    #[arg(long, env = "KEYLEDGER_DATA", default_value = "./data", value_name = "DIR")]
    pub(super) data: PathBuf,
}

/// What opening the data directory for writing needs.
#[derive(Args)]
pub(super) struct Data {
    /// Data directory, created if it does not exist.
    #[arg(long, env = "KEYLEDGER_DATA", default_value = "./data", value_name = "DIR")]
    data: PathBuf,
    /// Memory for caching the event log's pages, in MiB.
    #[arg(long, env = "KEYLEDGER_LOG_CACHE_MIB", default_value_t = 64, value_name = "MIB")]
    log_cache_mib: usize,
    /// Name under which the event log's checkpoints are signed, such as keys.example.com/log. Used at the
    /// first start only; the default contains the log's id.
    #[arg(long, env = "KEYLEDGER_LOG_ORIGIN", value_name = "NAME", value_parser = str::parse::<KeyName>)]
    log_origin: Option<KeyName>,
    /// File with the private key that signs checkpoints. The default is a file in the data directory, created
    /// at the first start.
    #[arg(long, env = "KEYLEDGER_LOG_KEY_FILE", value_name = "FILE")]
    log_key_file: Option<PathBuf>,
    /// Serve a log that is known to be an older copy or altered. Without it such a log is opened, but every
    /// request is refused.
    #[arg(long, env = "KEYLEDGER_SERVE_INCONSISTENT_LOG")]
    serve_inconsistent_log: bool,
    #[command(flatten)]
    kek: KekSource,
}

impl Data {
    /// Fetches the key-encryption key, if there is one.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub(super) fn kek(&self) -> Result<Option<Arc<Kek>>, provider::Error> {
        self.kek.fetch(&self.data)
    }

    /// The file for the token of the first root key.
    pub(super) fn first_root_key(&self) -> PathBuf {
        self.data.join(FIRST_ROOT_KEY)
    }

    /// Returns options for a service without proxies, witnesses, an OpenID provider and settings of webhooks
    /// and admission.
    pub(super) fn options(self, access_tokens: access_token::Options) -> Options {
        let log_cache_bytes = self.log_cache_mib.saturating_mul(1024 * 1024);
        let log_signer = log_signer::Options { key_file: self.log_key_file, origin: self.log_origin };
        Options {
            data: self.data,
            log_cache_bytes,
            log_signer,
            serve_inconsistent_log: self.serve_inconsistent_log,
            witnesses: Vec::new(),
            has_admin_listener: false,
            is_tls: false,
            access_tokens,
            trusted_proxies: TrustedProxies::default(),
            openid_provider: None,
            sessions: SessionLimits::default(),
            webhooks: webhooks::Options::default(),
            security_log: Destination::default(),
            admission: admission::Options::default(),
        }
    }
}
