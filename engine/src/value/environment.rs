//! The deployment stage that a key is valid in.

/// Deployment stage of the customer's system. A key is valid in its own environment only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Environment {
    /// Test and staging systems.
    Preview,
    /// Live systems.
    Production,
}

impl Environment {
    const TABLE: [(Self, u8, &'static str); 2] =
        [(Self::Preview, 0, "preview"), (Self::Production, 1, "production")];

    /// The word for this environment inside a token: `preview` or `live`.
    #[must_use]
    pub const fn token_word(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Production => "live",
        }
    }

    /// The environment for a token's word; `None` for any other word.
    #[must_use]
    pub fn from_token_word(word: &str) -> Option<Self> {
        match word {
            "preview" => Some(Self::Preview),
            "live" => Some(Self::Production),
            _ => None,
        }
    }
}

crate::value::stored_enum::stored_enum!(Environment, "environment");
