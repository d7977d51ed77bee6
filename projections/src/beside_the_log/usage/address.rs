//! Where a verification came from, in 16 bytes.

use std::net::{IpAddr, Ipv6Addr};

/// An IP address, or none. IPv4 addresses are stored in their IPv6-mapped form; the unspecified address means
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Address(u128);

impl Address {
    /// Creates an address; `None` if it is unknown.
    #[must_use]
    pub const fn of(ip: Option<IpAddr>) -> Self {
        match ip {
            None => Self(0),
            Some(IpAddr::V4(ip)) => Self(ip.to_ipv6_mapped().to_bits()),
            Some(IpAddr::V6(ip)) => Self(ip.to_bits()),
        }
    }

    /// Returns the IP address, if known. An IPv4-mapped address is returned as IPv4.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        (self.0 != 0).then(|| IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical())
    }

    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u128 {
        self.0
    }

    pub(super) const fn from_halves(high: u64, low: u64) -> Self {
        Self((high as u128) << 64 | low as u128)
    }

    pub(super) const fn halves(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["127.0.0.1", "203.0.113.9", "::1", "2001:db8:85a3::8a2e:370:7334"] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::of(Some(ip));
            let (high, low) = address.halves();
            assert_eq!(Address::from_halves(high, low).ip(), Some(ip));
            assert_eq!(Address::from_bits(address.bits()).ip(), Some(ip));
        }
        assert_eq!(Address::of(None).ip(), None);
    }
}
