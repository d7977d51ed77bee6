//! Texts that clients provide. Every rule about what a text may contain is here and nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Reason why a text was refused. The message completes a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(String);

impl InvalidText {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

fn check_chars(text: &str, chars_max: usize, line_breaks: bool) -> Result<(), InvalidText> {
    if text.trim().is_empty() {
        return Err(InvalidText::new("must not be blank; leave it out or send null for none"));
    }
    if text.chars().count() > chars_max {
        return Err(InvalidText::new(format!("must have at most {chars_max} characters")));
    }
    let allowed = |c: char| !c.is_control() || (line_breaks && matches!(c, '\n' | '\r' | '\t'));
    if text.chars().all(allowed) {
        Ok(())
    } else {
        Err(InvalidText::new("must not contain control characters"))
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $chars_max:literal, line_breaks: $line_breaks:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Maximum length, in Unicode scalar values.
            pub const CHARS_MAX: usize = $chars_max;

            /// Validates a text.
            ///
            /// # Errors
            /// When it is blank, too long, or contains control characters.
            pub fn new(text: &str) -> Result<Self, InvalidText> {
                check_chars(text, $chars_max, $line_breaks)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text!(
    /// Display name of a key, an organization, an API or a root key.
    Name, 1_000, line_breaks: false);
text!(
    /// Description of what a key is for.
    Description, 4_000, line_breaks: true);
text!(
    /// Id of a user within an organization, in the organization's own naming. Opaque to Keyledger.
    UserId, 255, line_breaks: false);
text!(
    /// Free-text reason why a key was revoked.
    Note, 1_000, line_breaks: true);
text!(
    /// Audience of an API: a URI or a name that its tokens are issued for.
    Audience, 255, line_breaks: false);

/// JSON object that clients attach to a key. Stored as compact JSON text with members in the order given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(Box<str>);

impl Metadata {
    /// Maximum length of the compact JSON, in bytes: 16 KiB.
    pub const LEN_MAX: usize = 16 * 1024;
    /// Maximum nesting of arrays and objects, the outermost object included. JSON parsers bound nesting, many
    /// at 128, and answers and exports embed the object a few levels down.
    pub const DEPTH_MAX: usize = 64;

    /// Validates a JSON value.
    ///
    /// # Errors
    /// When it is not an object, is nested deeper than [`Metadata::DEPTH_MAX`], or its compact form is longer
    /// than [`Metadata::LEN_MAX`].
    pub fn new(value: &serde_json::Value) -> Result<Self, InvalidText> {
        if !value.is_object() {
            return Err(InvalidText::new("must be a JSON object"));
        }
        if depth(value) > Self::DEPTH_MAX {
            return Err(InvalidText::new("must be nested at most 64 deep"));
        }
        let text = value.to_string();
        if text.len() > Self::LEN_MAX {
            return Err(InvalidText::new("must be at most 16 KiB of JSON"));
        }
        Ok(Self(text.into()))
    }

    /// Whether two objects are equal. The order of an object's members does not count (RFC 8259 §4).
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        self == other || value(&self.0).is_some_and(|this| value(&other.0) == Some(this))
    }

    /// The compact JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// Whether two lists contain the same elements, in any order.
#[must_use]
pub fn is_same_set<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    let within = |these: &[T], those: &[T]| these.iter().all(|it| those.contains(it));
    within(one, other) && within(other, one)
}

/// Nesting of arrays and objects in a value, itself included; 0 for a scalar.
fn depth(value: &serde_json::Value) -> usize {
    use serde_json::Value::{Array, Object};
    match value {
        Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Permission that an API defines, such as `read:users`: a scope-token of RFC 6749 §3.3.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(Box<str>);

impl Scope {
    /// Maximum length of a scope, in bytes.
    pub const LEN_MAX: usize = 128;
    /// Maximum number of scopes of a key or an API.
    pub const COUNT_MAX: usize = 100;

    /// Validates a scope.
    ///
    /// # Errors
    /// When it is empty, too long, or contains a character that RFC 6749 §3.3 does not allow.
    pub fn new(text: &str) -> Result<Self, InvalidText> {
        let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.bytes().all(allowed) {
            return Err(InvalidText::new(
                "must be 1 to 128 printable ASCII characters without space, quote and backslash",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_cannot_be_shown() {
        for valid in ["a", "Production Integration", "naïve 🔑", "<script>", &"x".repeat(1_000)] {
            assert_eq!(Name::new(valid).unwrap().as_str(), valid);
        }
        for invalid in ["", "  ", "a\nb", "a\u{0}", "\u{7f}x", &"x".repeat(1_001)] {
            assert!(Name::new(invalid).is_err(), "{invalid:?}");
        }
        assert!(Description::new("two\nlines").is_ok());
    }

    #[test]
    fn metadata_is_an_object_of_at_most_16_kib() {
        let fits = serde_json::json!({ "k": "v".repeat(Metadata::LEN_MAX - 8) });
        let over = serde_json::json!({ "k": "v".repeat(Metadata::LEN_MAX - 7) });
        assert_eq!(Metadata::new(&fits).unwrap().as_json().len(), Metadata::LEN_MAX);
        assert!(Metadata::new(&over).is_err());
        assert!(Metadata::new(&serde_json::json!([])).is_err());
        let nested =
            |depth| (1..depth).fold(serde_json::json!({}), |inner, _| serde_json::json!({ "k": inner }));
        assert!(Metadata::new(&nested(Metadata::DEPTH_MAX)).is_ok());
        assert!(Metadata::new(&nested(Metadata::DEPTH_MAX + 1)).is_err());
    }

    proptest::proptest! {
        /// A number comes back exactly as it was written, if it was written in its shortest form.
        #[test]
        fn metadata_keeps_numbers(float in proptest::num::f64::NORMAL, integer: i64, large: u64) {
            let text = serde_json::json!({ "float": float, "integer": integer, "large": large }).to_string();
            let metadata = Metadata::new(&serde_json::from_str(&text).unwrap()).unwrap();
            proptest::prop_assert_eq!(metadata.as_json(), text);
        }
    }

    #[test]
    fn the_order_of_members_says_nothing() {
        let metadata = |text| Metadata::new(&serde_json::from_str(text).unwrap()).unwrap();
        let one = metadata(r#"{"a":{"x":1,"y":[1,2]},"b":null}"#);
        assert!(one.is_same(&metadata(r#"{"b":null,"a":{"y":[1,2],"x":1}}"#)));
        for other in [r#"{"a":{"x":1,"y":[2,1]},"b":null}"#, r#"{"a":{"x":1,"y":[1,2]}}"#, "{}"] {
            assert!(!one.is_same(&metadata(other)), "{other}");
        }
        assert!(is_same_set(&["a", "b"], &["b", "a"]) && is_same_set::<&str>(&[], &[]));
        assert!(!is_same_set(&["a", "b"], &["a"]) && !is_same_set(&["a"], &["a", "b"]));
        assert!(!is_same_set(&["a"], &["b"]));
    }

    #[test]
    fn scopes_are_scope_tokens() {
        assert!(Scope::new("read:users").is_ok());
        for invalid in ["", "a b", "a\"b", "a\\b", "ä"] {
            assert!(Scope::new(invalid).is_err(), "{invalid}");
        }
    }
}
