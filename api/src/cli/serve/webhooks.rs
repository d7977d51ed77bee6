//! Arguments about webhooks.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::cli::duration;
use crate::jobs::webhooks;

/// How webhooks are delivered.
#[derive(Args)]
pub(super) struct Webhooks {
    /// Allow webhooks at http:// addresses, without TLS.
    #[arg(long, env = "KEYLEDGER_WEBHOOK_ALLOW_HTTP")]
    webhook_allow_http: bool,
    /// Allow webhooks in this internal network, such as 10.1.0.0/16. Repeat for several.
    #[arg(
        long = "webhook-allow-network",
        env = "KEYLEDGER_WEBHOOK_ALLOW_NETWORK",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    webhook_allow_networks: Vec<IpNet>,
    /// Delay after each failed attempt to deliver a message. The message becomes a dead letter when the
    /// attempt after the last delay fails.
    #[arg(long, env = "KEYLEDGER_WEBHOOK_RETRIES", value_name = "DURATIONS", value_delimiter = ',',
        value_parser = duration::parse, default_value = "5s,5m,30m,2h,5h,10h,14h,20h,24h")]
    webhook_retries: Vec<Duration>,
    /// Disable a webhook when every delivery to it has failed for this long.
    #[arg(long, env = "KEYLEDGER_WEBHOOK_DISABLE_AFTER", value_name = "DURATION",
        value_parser = duration::parse, default_value = "5d")]
    webhook_disable_after: Duration,
    /// How long before a key's expiry webhooks are notified.
    #[arg(long, env = "KEYLEDGER_EXPIRY_NOTICES", value_name = "DURATIONS", value_delimiter = ',',
        value_parser = duration::parse, default_value = "30d,7d,1d")]
    expiry_notices: Vec<Duration>,
}

impl Webhooks {
    pub(super) fn options(self) -> webhooks::Options {
        webhooks::Options {
            allow_http: self.webhook_allow_http,
            allowed_networks: self.webhook_allow_networks,
            retry_delays: self.webhook_retries,
            disable_after: self.webhook_disable_after,
            expiry_notices: self.expiry_notices,
        }
    }
}
