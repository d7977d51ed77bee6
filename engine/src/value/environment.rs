//! The stage of the customer's system that a key is for.

/// A key is valid in its own environment only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Environment {
    /// For trying things.
    Preview,
    /// For the real thing.
    Production,
}

impl Environment {
    const TABLE: [(Self, u8, &'static str); 2] =
        [(Self::Preview, 0, "preview"), (Self::Production, 1, "production")];

    /// The word inside a token.
    #[must_use]
    pub const fn token_word(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Production => "live",
        }
    }

    /// The environment that a token's word names.
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
