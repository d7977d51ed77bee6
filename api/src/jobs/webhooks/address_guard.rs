//! The addresses to which messages may be delivered. A caller who registers a webhook must not make this
//! service send requests to hosts that only the service can reach (server-side request forgery): names are
//! resolved here, every address is checked, and connections go to exactly the checked addresses.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use keyledger_engine::domain::webhook::WebhookUrl;
use tower_service::Service;

use super::name_lookups::NameLookups;

/// Networks that are not public, from the IANA special-purpose registry (RFC 6890), and the address at which
/// Azure provides virtual machines with their secrets.
const CLOSED_V4: [(&str, &str); 16] = [
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by carriers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud's own service"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "for protocols"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, broadcast"),
];
/// All public IPv6 addresses. Loopback, local, multicast, IPv4-mapped and NAT64 addresses are outside.
const OPEN_V6: &str = "2000::/3";
/// Networks in [`OPEN_V6`] that are not public, or that embed an arbitrary IPv4 address.
const CLOSED_V6: [(&str, &str); 4] = [
    ("2001::/23", "for protocols, Teredo"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
];

/// Checks addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AddressGuard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allow_http: bool,
    opened: Vec<IpNet>,
    closed_v4: Vec<Ipv4Net>,
    open_v6: Vec<Ipv6Net>,
    closed_v6: Vec<Ipv6Net>,
}

/// Why a name gives no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    /// The name has no addresses, or the resolver failed.
    #[error("could not resolve the name: {0}")]
    Unresolved(std::io::Error),
    /// The name resolves to an address that is not allowed.
    #[error("the name resolves to an address that is not allowed")]
    NotAllowed,
}

impl AddressGuard {
    /// Makes a guard that allows public addresses and the networks in `opened`, over TLS only unless
    /// `allow_http`.
    #[must_use]
    pub(crate) fn new(allow_http: bool, opened: Vec<IpNet>) -> Self {
        fn read<T: std::str::FromStr>(texts: impl IntoIterator<Item = &'static str>) -> Vec<T> {
            texts.into_iter().filter_map(|text| text.parse().ok()).collect()
        }
        Self(Arc::new(Rules {
            allow_http,
            opened,
            closed_v4: read(CLOSED_V4.map(|row| row.0)),
            open_v6: read([OPEN_V6]),
            closed_v6: read(CLOSED_V6.map(|row| row.0)),
        }))
    }

    /// Whether messages may be delivered to an address.
    #[must_use]
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let rules = &self.0;
        if rules.opened.iter().any(|network| network.contains(&address)) {
            return true;
        }
        match address {
            IpAddr::V4(address) => !rules.closed_v4.iter().any(|network| network.contains(&address)),
            IpAddr::V6(address) => {
                rules.open_v6.iter().any(|network| network.contains(&address))
                    && !rules.closed_v6.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// Checks a webhook's URL. A host that is a name is checked whenever it is resolved.
    ///
    /// # Errors
    /// What is wrong with the URL, as words to follow the field's name.
    pub(crate) fn check(&self, url: &WebhookUrl) -> Result<Uri, &'static str> {
        let uri: Uri = url.as_str().parse().map_err(|_| "is not a valid URL")?;
        let host = uri.host().ok_or("must name a host")?;
        if uri.scheme_str() != Some("https") && !self.0.allow_http {
            return Err("must begin with https://");
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if literal.is_ok_and(|address| !self.allows(address)) {
            return Err("must not be an address of an internal or reserved network");
        }
        Ok(uri)
    }
}

/// Resolves names to allowed addresses. Fails if one of a name's addresses is not allowed.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver {
    guard: AddressGuard,
    lookups: NameLookups,
}

impl GuardedResolver {
    /// Resolves names with the operating system's resolver.
    #[must_use]
    pub(crate) fn new(guard: AddressGuard) -> Self {
        Self { guard, lookups: NameLookups::system() }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = NameError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NameError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NameError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (guard, finding) = (self.guard.clone(), self.lookups.find(name.as_str().to_owned()));
        Box::pin(async move {
            let found = finding.await.map_err(NameError::Unresolved)?;
            if found.is_empty() {
                return Err(NameError::Unresolved(std::io::ErrorKind::NotFound.into()));
            }
            if found.iter().all(|address| guard.allows(address.ip())) {
                Ok(found.into_iter())
            } else {
                Err(NameError::NotAllowed)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_can_be_read() {
        let rules = AddressGuard::new(false, Vec::new()).0;
        assert_eq!((rules.closed_v4.len(), rules.closed_v6.len(), rules.open_v6.len()), (16, 4, 1));
    }

    #[test]
    fn only_public_addresses() {
        let guard = AddressGuard::new(false, Vec::new());
        for address in
            ["1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.0", "2606:4700::1111", "2a00::1"]
        {
            assert!(guard.allows(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!guard.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn operators_open_networks_of_their_own() {
        let guard = AddressGuard::new(true, vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()]);
        assert!(guard.allows("10.1.2.3".parse().unwrap()) && guard.allows("::1".parse().unwrap()));
        assert!(!guard.allows("10.2.0.1".parse().unwrap()) && !guard.allows("127.0.0.1".parse().unwrap()));
        assert!(guard.check(&"http://10.1.2.3/".parse().unwrap()).is_ok());
    }

    #[test]
    fn addresses_in_a_url_are_checked_too() {
        let guard = AddressGuard::new(false, Vec::new());
        let check = |url: &str| guard.check(&url.parse().unwrap()).is_ok();
        assert!(
            check("https://example.com/hook") && check("https://1.1.1.1:8443") && check("https://localhost")
        );
        for bad in [
            "http://example.com",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]:443/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }

    /// The addresses that a resolver returns for odd spellings are checked like all others.
    #[tokio::test]
    async fn names_of_internal_addresses_are_refused() {
        for name in ["localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"] {
            let mut resolver = GuardedResolver::new(AddressGuard::new(false, Vec::new()));
            let found = resolver.call(name.parse().unwrap()).await;
            assert!(
                matches!(found, Err(NameError::NotAllowed | NameError::Unresolved(_))),
                "{name}: {found:?}"
            );
        }
        let opened =
            AddressGuard::new(false, vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        assert!(GuardedResolver::new(opened).call("localhost".parse().unwrap()).await.is_ok());
    }
}
