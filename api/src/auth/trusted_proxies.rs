//! Trusted proxies, and the client's address that they forward.

use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// The header in which trusted proxies forward the client's address. Only one is read, because a proxy that
/// writes one header passes the other on as its client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ForwardedHeader {
    /// `X-Forwarded-For`, which most proxies write.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies that are trusted to forward a client's address.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies {
    /// The networks of the proxies. Without any, the client's address is the connection's own.
    pub networks: Vec<IpNet>,
    /// The header that the proxies write.
    pub header: ForwardedHeader,
}

impl TrustedProxies {
    /// Returns the address of the client of a request that came from `peer`: the last address on the way that
    /// is not a trusted proxy's. Addresses before it in the header are not trustworthy.
    #[must_use]
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let hops = if self.trusts(client) { self.hops(headers) } else { Vec::new() };
        for hop in hops.into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            // Addresses behind a proxy that forwards none are unknown.
            let Some(hop) = hop else { break };
            client = hop;
        }
        client
    }

    /// Whether an address belongs to a trusted proxy.
    #[must_use]
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Returns the addresses in the header, the last hop's last; none for a hop whose address cannot be
    /// parsed.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name = match self.header {
            ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let lines = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
        lines
            .flat_map(|line| line.split(','))
            .map(|hop| match self.header {
                ForwardedHeader::XForwardedFor => address_of(hop.trim()),
                ForwardedHeader::Forwarded => forwarded_for(hop).and_then(address_of),
            })
            .collect()
    }
}

/// Returns the value of `for` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pair = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pair.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// Reads an address, with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        TrustedProxies { networks, header }.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let x = |peer: &str, lines: &[&str]| client(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(x("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a stranger may claim anything");
        assert_eq!(x("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(x("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(x("10.0.0.1", &["1.2.3.4, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(x("10.0.0.1", &["1.2.3.4", "198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(x("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all of them are trusted");
        assert_eq!(x("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(x("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(x("::ffff:10.0.0.1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(x("fd00::1", &["[2001:db8::7]:443"]), "2001:db8::7");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        let f = |peer: &str, lines: &[&str]| client(ForwardedHeader::Forwarded, peer, lines);
        assert_eq!(f("10.0.0.1", &["for=192.0.2.43;proto=http;by=203.0.113.43"]), "192.0.2.43");
        assert_eq!(f("10.0.0.1", &["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(f("10.0.0.1", &["for=1.2.3.4, for=198.51.100.17, for=10.0.0.2"]), "198.51.100.17");
        assert_eq!(f("10.0.0.1", &["for=198.51.100.17, for=_hidden"]), "10.0.0.1");
    }
}
