//! Typed identifiers: a prefix that names the kind, then a ULID (<https://github.com/ulid/spec>). The
//! exception is the organization, whose owner may choose its id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::TryCryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::value::time::Timestamp;

/// Text that is not an identifier of the expected kind. Its message completes a sentence that begins with the
/// field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

/// Draws a ULID for `now` from `rng`.
///
/// # Errors
/// When the random number generator fails. The operating system's fails only when it is unusable.
pub fn new_ulid<R: TryCryptoRng>(now: Timestamp, rng: &mut R) -> Result<Ulid, R::Error> {
    let mut random = [0_u8; 16];
    rng.try_fill_bytes(&mut random)?;
    Ok(Ulid::from_parts(u64::try_from(now.millis()).unwrap_or(0), u128::from_be_bytes(random)))
}

/// Source of strictly increasing ULIDs, within a millisecond too and when the clock is set back (ULID spec,
/// "Monotonicity"). Aggregates created one after another are therefore listed in that order.
#[derive(Debug, Default)]
pub struct UlidSequence(Ulid);

impl UlidSequence {
    /// Draws the next ULID. Its time is `now`, or the time of the previous ULID when that is later.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn draw<R: TryCryptoRng>(&mut self, now: Timestamp, rng: &mut R) -> Result<Ulid, R::Error> {
        let drawn = new_ulid(now, rng)?;
        // Incrementing the last ULID of a millisecond yields the first of the next one.
        self.0 = if drawn.timestamp_ms() > self.0.timestamp_ms() { drawn } else { Ulid(self.0.0 + 1) };
        Ok(self.0)
    }
}

fn parse_prefixed(prefix: &str, text: &str) -> Result<Ulid, InvalidId> {
    let expected = || InvalidId(format!("must be an id of the form {prefix}<26 characters of a ULID>"));
    let encoded = text.strip_prefix(prefix).ok_or_else(expected)?;
    let ulid = Ulid::from_string(encoded).map_err(|_| expected())?;
    // The decoder also accepts lower case and look-alike letters, but an id must have exactly one spelling.
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
            /// Prefix of every id of this kind.
            pub const PREFIX: &'static str = $prefix;

            /// Draws a new id for `now`.
            ///
            /// # Errors
            /// When the random number generator fails.
            pub fn generate<R: TryCryptoRng>(now: Timestamp, rng: &mut R) -> Result<Self, R::Error> {
                new_ulid(now, rng).map(Self)
            }

            /// The id with this ULID, given as 128 bits.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(Ulid(bits))
            }

            /// The 128 bits of the ULID. Ids from one [`UlidSequence`] increase.
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

        /// Text in human-readable formats, the 16 bytes of the ULID in binary ones.
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
    /// Id of a key. Rotation keeps it.
    KeyId, "key_");
ulid_id!(
    /// Id of a registered API (resource server).
    ApiId, "api_");
ulid_id!(
    /// Id of a root key, a credential for managing keys.
    RootKeyId, "rk_");
ulid_id!(
    /// Id of an application (OAuth 2.0 client); also its client identifier.
    ApplicationId, "app_");
ulid_id!(
    /// Id of a portal session, assigned when its link is created.
    PortalSessionId, "ps_");
ulid_id!(
    /// Id of an erasure of personal data.
    ErasureId, "era_");
ulid_id!(
    /// Id of a webhook.
    WebhookId, "wh_");
ulid_id!(
    /// Id of an event in the log.
    EventId, "evt_");

/// Id of an organization: `org_<ULID>`, or any `[A-Za-z0-9_-]{1,64}` that its owner chose.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OrganizationId(Arc<str>);

impl OrganizationId {
    /// Prefix of generated ids.
    pub const PREFIX: &'static str = "org_";
    /// Maximum length of an id, in bytes.
    pub const LEN_MAX: usize = 64;

    /// The smallest id in their order; a start for range scans.
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

/// Id of the link between a partner and one of its client organizations: `<partner>/<client>`. Organization
/// ids contain no slash.
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
        // Within one millisecond, in the next one, and after the clock was set back.
        for millis in [7, 7, 7, 8, 8, 5, 5, 9] {
            let Ok(drawn) = sequence.draw(Timestamp::from_millis(millis), &mut rng);
            assert!(drawn > last, "{drawn} after {last}");
            last = drawn;
        }
        assert_eq!(last.timestamp_ms(), 9);
    }

    #[test]
    fn organizations_may_choose_their_ids() {
        for valid in ["acme", "org_01J", "A-b_9", &"x".repeat(64)] {
            assert_eq!(valid.parse::<OrganizationId>().unwrap().as_str(), valid);
        }
        for invalid in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(invalid.parse::<OrganizationId>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_link_is_named_by_its_two_organizations() {
        let id: ClientLinkId = "acme/shop-1".parse().unwrap();
        assert_eq!((id.partner_id.as_str(), id.client_id.as_str()), ("acme", "shop-1"));
        assert_eq!(id.to_string(), "acme/shop-1");
        for invalid in ["acme", "acme/", "/shop", "acme/shop/1", "a b/c"] {
            assert!(invalid.parse::<ClientLinkId>().is_err(), "{invalid}");
        }
    }
}
