//! Subjects of personal text, and the ids of their keys.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::id::OrganizationId;
use crate::value::text::UserId;

/// Person or organization that a personal text belongs to. Each subject's texts are sealed with one key and
/// erased with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Keyledger itself, for records that concern no organization. Never erased.
    Installation,
    /// An organization.
    Organization(OrganizationId),
    /// A user of an organization.
    User(OrganizationId, UserId),
}

impl Subject {
    /// The user if there is one, else the organization, else the installation.
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

/// Id of a subject's key: 16 random bytes, which reveal nothing about the subject. Shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKeyId([u8; Self::LEN]);

impl SubjectKeyId {
    /// Length, in bytes.
    pub const LEN: usize = 16;

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
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

/// Map that uses the randomness of these ids as their hash. No client can choose an id, so collisions cannot
/// be provoked.
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

/// Hex in human-readable formats, bytes in binary ones.
impl Serialize for SubjectKeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

/// From binary formats only: no client sends the id of a key.
impl<'de> Deserialize<'de> for SubjectKeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(crate::value::fixed_bytes::FixedBytes::<{ Self::LEN }>).map(Self)
    }
}
