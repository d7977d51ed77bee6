//! Whose personal text a record holds, and the name of the key that seals it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::id::OrganizationId;
use crate::value::text::UserId;

/// Whose personal text it is. Everything of one subject is sealed with one key, and erased with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Whoever runs Keyledger: records that concern no organization. It is never erased.
    Installation,
    /// An organization as such.
    Organization(OrganizationId),
    /// A user of an organization.
    User(OrganizationId, UserId),
}

impl Subject {
    /// The user where one is concerned, else the organization, else the installation.
    #[must_use]
    pub fn of(organization_id: Option<&OrganizationId>, user_id: Option<&UserId>) -> Self {
        match (organization_id, user_id) {
            (Some(organization_id), Some(user_id)) => Self::User(organization_id.clone(), user_id.clone()),
            (Some(organization_id), None) => Self::Organization(organization_id.clone()),
            (None, _) => Self::Installation,
        }
    }

    pub(super) const fn organization_id(&self) -> Option<&OrganizationId> {
        match self {
            Self::Installation => None,
            Self::Organization(id) | Self::User(id, _) => Some(id),
        }
    }

    pub(super) const fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::User(_, user_id) => Some(user_id),
            _ => None,
        }
    }
}

/// Names the key of a subject; drawn at random, so that it tells nothing of whose it is. Sixteen bytes, shown as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKeyId([u8; Self::LEN]);

impl SubjectKeyId {
    /// How many bytes it has.
    pub const LEN: usize = 16;

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for SubjectKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SubjectKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A map by these ids that takes their own randomness for a hash: nobody can choose those that are in it.
pub(super) type SubjectKeyMap<V> = HashMap<SubjectKeyId, V, BuildHasherDefault<SubjectKeyHasher>>;

#[derive(Default)]
pub(super) struct SubjectKeyHasher(u64);

impl Hasher for SubjectKeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks().0 {
            self.0 ^= u64::from_le_bytes(*word);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Hex in formats for people, the bytes in binary ones.
impl Serialize for SubjectKeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

/// From binary formats only: nobody names a key to Keyledger.
impl<'de> Deserialize<'de> for SubjectKeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(crate::value::fixed_bytes::FixedBytes::<{ Self::LEN }>).map(Self)
    }
}
