//! Warnings about what an operator may have exposed without knowing it.

use std::net::SocketAddr;

use ipnet::IpNet;

/// How clients reach the service, from the command line.
pub(super) struct Exposure<'a> {
    /// The network addresses that the service listens on.
    pub(super) addresses: &'a [SocketAddr],
    /// Whether the service ends TLS at them.
    pub(super) is_tls: bool,
    /// `--public-url`, if given.
    pub(super) public_url: Option<&'a str>,
    /// `--trusted-proxy`.
    pub(super) trusted_proxies: &'a [IpNet],
}

impl Exposure<'_> {
    /// Logs what is exposed.
    pub(super) fn warn(&self) {
        // An operator who gives an https:// address has TLS in front.
        let is_plain = !self.is_tls && !self.public_url.is_some_and(|url| url.starts_with("https://"));
        let open = self.addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
        if let (true, Some(address)) = (is_plain, open) {
            tracing::warn!(
                %address,
                "credentials and tokens cross the network in clear: set --tls-cert and --tls-key, or let a proxy \
                 with TLS connect over --listen unix:PATH or 127.0.0.1 and set --public-url to its https:// address"
            );
        }
        if let (None, false) = (self.public_url, self.trusted_proxies.is_empty()) {
            tracing::warn!(
                "--trusted-proxy is set and --public-url is not: access tokens, links and cookies assume the address \
                 that the service listens on; set --public-url to the address that clients of the proxy use"
            );
        }
    }
}
