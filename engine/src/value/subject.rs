//! The subject of personal text, and the name of the key that seals it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::id::OrganizationId;
use crate::value::text::UserId;

/// The person or organization that personal text is about. All text of one subject is sealed with one key and
/// erased with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The operator of the installation: the subject of records that concern no organization. It is never
    /// erased.
    Installation,
    /// An organization as such.
    Organization(OrganizationId),
    /// A user of an organization.
    User(OrganizationId, UserId),
}

impl Subject {
    /// The user if one is given with an organization, else the organization, else the installation.
    #[must_use]
    pub fn of(organization_id: Option<&OrganizationId>, user_id: Option<&UserId>) -> Self {
        match (organization_id, user_id) {
            (Some(organization_id), Some(user_id)) => Self::User(organization_id.clone(), user_id.clone()),
            (Some(organization_id), None) => Self::Organization(organization_id.clone()),
            (None, _) => Self::Installation,
        }
    }

    pub(crate) const fn organization_id(&self) -> Option<&OrganizationId> {
        match self {
            Self::Installation => None,
            Self::Organization(id) | Self::User(id, _) => Some(id),
        }
    }

    pub(crate) const fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::User(_, user_id) => Some(user_id),
            _ => None,
        }
    }
}

/// The name of a subject's key: 16 bytes, shown as hex. It is drawn at random, so it reveals nothing about
/// the subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKeyId([u8; Self::LEN]);

impl SubjectKeyId {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
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

/// Serializes as hex in formats for people and as bytes in binary formats.
impl Serialize for SubjectKeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

/// Deserializes from binary formats only: no client names a key to Keyledger.
impl<'de> Deserialize<'de> for SubjectKeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(crate::value::fixed_bytes::FixedBytes::<{ Self::LEN }>).map(Self)
    }
}
