//! Closed sets of words. Each word has a number, which is stored, and a name, which is shown.

/// Implements the conversions of an enum that has a `TABLE` of `(value, stored number, name)`. Binary formats
/// carry the number, human-readable formats the name.
macro_rules! stored_enum {
    ($name:ident, $what:literal) => {
        impl $name {
            /// The name, as shown to people.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                Self::TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.2)
            }

            /// The number, as stored.
            #[must_use]
            pub fn code(self) -> u8 {
                Self::TABLE.iter().find(|row| row.0 == self).map_or(u8::MAX, |row| row.1)
            }

            /// The value with this stored number; `None` when there is none.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                Self::TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
            }

            /// All names, in the order of their numbers.
            pub fn names() -> impl Iterator<Item = &'static str> {
                Self::TABLE.iter().map(|row| row.2)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::TABLE
                    .iter()
                    .find(|row| row.2 == text)
                    .map(|row| row.0)
                    .ok_or_else(|| format!("must be one of {}", Self::names().collect::<Vec<_>>().join(", ")))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.as_str())
                } else {
                    serializer.serialize_u8(self.code())
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                if deserializer.is_human_readable() {
                    <String as serde::Deserialize>::deserialize(deserializer)?
                        .parse()
                        .map_err(D::Error::custom)
                } else {
                    let code = <u8 as serde::Deserialize>::deserialize(deserializer)?;
                    Self::from_code(code).ok_or_else(|| D::Error::custom(format!("unknown {} {code}", $what)))
                }
            }
        }
    };
}

pub(crate) use stored_enum;
