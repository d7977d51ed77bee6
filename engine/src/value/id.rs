//! Typed identifiers: a prefix that names the kind and a ULID (<https://github.com/ulid/spec>), except that an
//! organization may carry an id of its owner's choice.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::TryCryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::value::time::Timestamp;

/// An identifier that does not have the form its kind asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

/// Draws a ULID for `now` from `rng`.
///
/// # Errors
/// When the random number generator fails; an operating system's one does so only when it is unusable.
pub fn new_ulid<R: TryCryptoRng>(now: Timestamp, rng: &mut R) -> Result<Ulid, R::Error> {
    let mut random = [0_u8; 16];
    rng.try_fill_bytes(&mut random)?;
    Ok(Ulid::from_parts(u64::try_from(now.millis()).unwrap_or(0), u128::from_be_bytes(random)))
}

/// Draws ULIDs each of which is greater than all that it drew before, also within a millisecond and when the clock is set
/// back (ULID spec, "Monotonicity"). What is made one after the other is so listed one after the other.
#[derive(Debug, Default)]
pub struct UlidSequence(Ulid);

impl UlidSequence {
    /// The next ULID; it tells `now` unless a later time was told before.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn draw<R: TryCryptoRng>(&mut self, now: Timestamp, rng: &mut R) -> Result<Ulid, R::Error> {
        let drawn = new_ulid(now, rng)?;
        // Past the last of a millisecond comes the first of the next.
        self.0 = if drawn.timestamp_ms() > self.0.timestamp_ms() { drawn } else { Ulid(self.0.0 + 1) };
        Ok(self.0)
    }
}

fn parse_prefixed(prefix: &str, text: &str) -> Result<Ulid, InvalidId> {
    let expected = || InvalidId(format!("must be an id of the form {prefix}<26 characters of a ULID>"));
    let encoded = text.strip_prefix(prefix).ok_or_else(expected)?;
    let ulid = Ulid::from_string(encoded).map_err(|_| expected())?;
    // The decoder also takes lower case and look-alike letters; one id has one spelling here.
    if ulid.to_string() == encoded { Ok(ulid) } else { Err(expected()) }
}

/// An id that orders the entries of an index by its bytes.
pub(crate) trait IndexKey {
    fn write_index_key(&self, key: &mut Vec<u8>);
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Draws a new id for `now`.
            ///
            /// # Errors
            /// When the random number generator fails.
            pub fn generate<R: TryCryptoRng>(now: Timestamp, rng: &mut R) -> Result<Self, R::Error> {
                new_ulid(now, rng).map(Self)
            }

            /// The id of a ULID given as its 128 bits.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(Ulid(bits))
            }

            /// The 128 bits of the ULID; of ids out of one [`UlidSequence`] the later have greater ones.
            #[must_use]
            pub const fn to_u128(self) -> u128 {
                self.0.0
            }
        }

        impl IndexKey for $name {
            fn write_index_key(&self, key: &mut Vec<u8>) {
                key.extend(self.0.to_bytes());
            }
        }

        impl From<Ulid> for $name {
            fn from(ulid: Ulid) -> Self {
                Self(ulid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = [0; ulid::ULID_LEN];
                f.write_str($prefix)?;
                f.write_str(self.0.array_to_str(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_prefixed($prefix, text).map(Self)
            }
        }

        /// Text in formats for people, the ULID's 16 bytes in binary ones.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0.to_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    deserializer
                        .deserialize_bytes(crate::value::fixed_bytes::FixedBytes::<16>)
                        .map(|bytes| Self(Ulid::from_bytes(bytes)))
                }
            }
        }
    };
}

ulid_id!(
    /// A key, for its whole life; rotation keeps it.
    KeyId, "key_");
ulid_id!(
    /// A registered API (resource server).
    ApiId, "api_");
ulid_id!(
    /// A root key: a credential of those who manage keys.
    RootKeyId, "rk_");
ulid_id!(
    /// An application: an OAuth 2.0 client; the id is its client identifier.
    ApplicationId, "app_");
ulid_id!(
    /// A portal session, from the link that was minted for it on.
    PortalSessionId, "ps_");
ulid_id!(
    /// An erasure of personal text.
    ErasureId, "era_");
ulid_id!(
    /// A webhook: an address outside that is told of events.
    WebhookId, "wh_");
ulid_id!(
    /// An event in the log.
    EventId, "evt_");

/// An organization: `org_<ULID>`, or what its owner chose out of `[A-Za-z0-9_-]{1,64}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OrganizationId(Arc<str>);

impl OrganizationId {
    /// What ids that nobody chose begin with.
    pub const PREFIX: &'static str = "org_";
    /// The most bytes an id may have.
    pub const LEN_MAX: usize = 64;

    /// The first of all ids in their order.
    #[must_use]
    pub fn first() -> Self {
        Self("-".into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IndexKey for OrganizationId {
    fn write_index_key(&self, key: &mut Vec<u8>) {
        key.extend(self.as_str().as_bytes());
    }
}

impl From<Ulid> for OrganizationId {
    fn from(ulid: Ulid) -> Self {
        Self(format!("{}{ulid}", Self::PREFIX).into())
    }
}

impl FromStr for OrganizationId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.bytes().all(allowed) {
            return Err(InvalidId("must be 1 to 64 characters out of A-Z a-z 0-9 _ -".into()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OrganizationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::value::fixed_bytes::parse_text(deserializer)
    }
}

impl std::borrow::Borrow<str> for OrganizationId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A partner and one client organization: `<partner>/<client>` as text. Ids of organizations hold no slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientLinkId {
    /// The partner organization.
    pub partner_id: OrganizationId,
    /// The client organization.
    pub client_id: OrganizationId,
}

impl IndexKey for ClientLinkId {
    fn write_index_key(&self, key: &mut Vec<u8>) {
        key.extend(self.to_string().as_bytes());
    }
}

impl fmt::Display for ClientLinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partner_id, self.client_id)
    }
}

impl FromStr for ClientLinkId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (partner, client) =
            text.split_once('/').ok_or_else(|| InvalidId("must be two ids with a / between".into()))?;
        Ok(Self { partner_id: partner.parse()?, client_id: client.parse()? })
    }
}

impl Serialize for ClientLinkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClientLinkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::value::fixed_bytes::parse_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = KeyId::from_u128(0x0193_5f00_0000_0000_0000_0000_0000_0001);
        let text = id.to_string();
        assert_eq!(text.parse::<KeyId>(), Ok(id));
        assert!(text.to_lowercase().parse::<KeyId>().is_err());
        assert!(text.replace("key_", "org_").parse::<KeyId>().is_err());
        assert!("key_".parse::<KeyId>().is_err());
        assert!("key_8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<KeyId>().is_err());
    }

    #[test]
    fn ids_of_a_sequence_ascend() {
        let mut sequence = UlidSequence::default();
        let mut rng = StdRng::seed_from_u64(1);
        let mut last = Ulid::default();
        // Within a millisecond, in the next one, and with a clock that is set back.
        for millis in [7, 7, 7, 8, 8, 5, 5, 9] {
            let Ok(drawn) = sequence.draw(Timestamp::from_millis(millis), &mut rng);
            assert!(drawn > last, "{drawn} after {last}");
            last = drawn;
        }
        assert_eq!(last.timestamp_ms(), 9);
    }

    #[test]
    fn organizations_may_choose_their_ids() {
        for good in ["acme", "org_01J", "A-b_9", &"x".repeat(64)] {
            assert_eq!(good.parse::<OrganizationId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<OrganizationId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_is_named_by_its_two_organizations() {
        let id: ClientLinkId = "acme/shop-1".parse().unwrap();
        assert_eq!((id.partner_id.as_str(), id.client_id.as_str()), ("acme", "shop-1"));
        assert_eq!(id.to_string(), "acme/shop-1");
        for bad in ["acme", "acme/", "/shop", "acme/shop/1", "a b/c"] {
            assert!(bad.parse::<ClientLinkId>().is_err(), "{bad}");
        }
    }
}
