//! The options for connections.

use clap::Args;

use crate::http::server::ConnectionLimits;

/// One address may take one of so many parts of a listener's connections.
const PART_OF_ADDRESS: u32 = 4;

#[derive(Args)]
pub(super) struct Connections {
    /// Maximum number of open connections of each address that is listened on. Further connections are
    /// answered with 503, or closed if they use TLS. Each connection needs one open file.
    #[arg(long, env = "KEYLEDGER_MAX_CONNECTIONS", default_value_t = 8_192, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Maximum number of open connections from one IPv4 address or one IPv6 network of 64 bits. Trusted
    /// proxies and clients of Unix sockets are exempt. 0 sets no limit. The default is a quarter of
    /// --max-connections.
    #[arg(long, env = "KEYLEDGER_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    max_connections_per_address: Option<u32>,
}

impl Connections {
    pub(super) fn limits(&self) -> ConnectionLimits {
        let of_address = match self.max_connections_per_address {
            Some(0) => u32::MAX,
            Some(max) => max,
            None => self.max_connections.div_ceil(PART_OF_ADDRESS),
        };
        ConnectionLimits { of_listener: self.max_connections, of_address }
    }

    /// The open files that the connections of so many listeners need.
    pub(super) fn files_max(&self, listeners: usize) -> u64 {
        u64::from(self.max_connections).saturating_mul(listeners as u64)
    }
}
