//! The fields of a submitted form.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::answer::problem::Problem;
use crate::request::body::read_body;

use super::query_string::safe_path;

/// The fields of a form, in the order they were sent.
#[derive(Default)]
pub(crate) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads a URL-encoded body.
    ///
    /// # Errors
    /// `body_too_large`, or `malformed_request` if the body is cut off.
    pub(crate) async fn read(body: axum::body::Body) -> Result<Self, Problem> {
        let bytes = read_body(body).await?;
        let pairs = form_urlencoded::parse(&bytes);
        Ok(Self(pairs.map(|(name, value)| (name.into_owned(), lines(value.into_owned()))).collect()))
    }

    /// A form with prefilled fields.
    pub(crate) fn of(fields: impl Iterator<Item = (String, String)>) -> Self {
        Self(fields.map(|(name, value)| (name, Zeroizing::new(value))).collect())
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn and(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.into(), Zeroizing::new(value.into())));
        self
    }

    /// The console page that the form was opened on.
    pub(crate) fn return_path(&self) -> Option<String> {
        safe_path(self.text("to")).map(ToOwned::to_owned)
    }

    /// A field's text, or an empty string.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value.as_str())
    }

    /// A field's trimmed text, if any is left.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty())
    }

    /// A field's trimmed text as JSON, or `null` if it is empty.
    pub(crate) fn json(&self, name: &str) -> Value {
        self.filled(name).map_or(Value::Null, Value::from)
    }

    /// A field's new value as JSON. A field that comes back as it was shown keeps its current value byte for
    /// byte.
    pub(crate) fn edited(&self, name: &str, current: Option<&str>) -> Value {
        match current {
            Some(current) if self.is_as_shown(name, current) => current.into(),
            _ => self.json(name),
        }
    }

    /// Returns whether a field comes back as it was shown, ignoring the line endings that browsers normalize.
    pub(crate) fn is_as_shown(&self, name: &str, shown: &str) -> bool {
        *lines(shown.to_owned()) == self.text(name)
    }

    /// All values of a field that may occur more than once.
    pub(crate) fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// All words of a field as a JSON array; white space and line breaks separate them.
    pub(crate) fn json_lines(&self, name: &str) -> Value {
        self.texts(name).flat_map(str::split_whitespace).map(Value::from).collect()
    }
}

/// Converts the line endings of a submitted text to LF; browsers send CRLF (HTML §4.10.21.7).
fn lines(text: String) -> Zeroizing<String> {
    let text = Zeroizing::new(text);
    if !text.contains('\r') {
        return text;
    }
    let lines = Zeroizing::new(text.replace("\r\n", "\n"));
    Zeroizing::new(lines.replace('\r', "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_comes_back_as_shown_keeps_its_value() {
        let form = Form(vec![("it".to_owned(), lines("\r\n a\r\nb\rc ".to_owned()))]);
        assert_eq!(form.text("it"), "\n a\nb\nc ");
        for current in ["\n a\nb\nc ", "\r\n a\r\nb\rc ", "\r a\nb\r\nc "] {
            assert_eq!(form.edited("it", Some(current)), current);
        }
        for current in [None, Some("a\nb\nc"), Some("\n a\n\nb\nc ")] {
            assert_eq!(form.edited("it", current), "a\nb\nc");
        }
        assert_eq!(form.edited("other", Some("it")), Value::Null);
    }
}
