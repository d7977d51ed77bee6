//! The URL of a webhook.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value::text::InvalidText;

/// The URL of a receiver: `http://` or `https://`, a host, and no user. Whether the host may be called is
/// checked at each delivery, not here.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WebhookUrl(Box<str>);

impl WebhookUrl {
    /// The maximum length in bytes.
    pub const LEN_MAX: usize = 2_048;

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or_else(|| InvalidText::new("must begin with https:// or http://"))?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if text.len() > Self::LEN_MAX {
            return Err(InvalidText::new("must have at most 2048 characters"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidText::new("must be of printable ASCII characters; encode others"));
        }
        if text.contains('#') {
            return Err(InvalidText::new("must not have a fragment: it would not be sent"));
        }
        if authority.is_empty() || authority.starts_with(':') || authority.contains('\\') {
            return Err(InvalidText::new("must name a host"));
        }
        if authority.contains('@') {
            return Err(InvalidText::new("must not name a user; messages are signed instead"));
        }
        let after_host =
            authority.rfind(']').map_or(authority, |end| authority.get(end + 1..).unwrap_or_default());
        if authority.contains('%') {
            return Err(InvalidText::new("must name a host without %: neither encoded, nor with a zone"));
        }
        if let Some((_, port)) = after_host.split_once(':')
            && !(port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0))
        {
            return Err(InvalidText::new("must have a port from 1 to 65535, or none"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
