//! The fields of a submitted form.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::answer::problem::Problem;
use crate::request::body::read_body;

use super::query_string::safe_path;

/// The fields of a form, in order.
#[derive(Default)]
pub(crate) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// `body_too_large`, or `malformed_request` when it breaks off.
    pub(crate) async fn read(body: axum::body::Body) -> Result<Self, Problem> {
        let bytes = read_body(body).await?;
        let pairs = form_urlencoded::parse(&bytes);
        Ok(Self(pairs.map(|(name, value)| (name.into_owned(), lines(value.into_owned()))).collect()))
    }

    /// A form with fields that are filled already.
    pub(crate) fn of(fields: impl Iterator<Item = (String, String)>) -> Self {
        Self(fields.map(|(name, value)| (name, Zeroizing::new(value))).collect())
    }

    /// The same with one more field.
    #[must_use]
    pub(crate) fn and(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.into(), Zeroizing::new(value.into())));
        self
    }

    /// The page that the form was opened on, to go back to.
    pub(crate) fn return_path(&self) -> Option<String> {
        safe_path(self.text("to")).map(ToOwned::to_owned)
    }

    /// A field's text; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value.as_str())
    }

    /// A field's text without white space around it; none if nothing is left.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty())
    }

    /// A field's text as JSON: `null` if it was left empty.
    pub(crate) fn json(&self, name: &str) -> Value {
        self.filled(name).map_or(Value::Null, Value::from)
    }

    /// A field's text as JSON; what was there before, to the letter, where it comes back as it was shown.
    pub(crate) fn edited(&self, name: &str, present: Option<&str>) -> Value {
        match present {
            Some(present) if self.is_as_shown(name, present) => present.into(),
            _ => self.json(name),
        }
    }

    /// Whether a field comes back as it was shown. A browser sends all its line breaks alike.
    pub(crate) fn is_as_shown(&self, name: &str, shown: &str) -> bool {
        *lines(shown.to_owned()) == self.text(name)
    }

    /// All texts of a field that may be there more than once.
    pub(crate) fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// All texts of a field that may be there more than once, and of which each line is one, as JSON.
    pub(crate) fn json_lines(&self, name: &str) -> Value {
        self.texts(name).flat_map(str::split_whitespace).map(Value::from).collect()
    }
}

/// A text whose lines end as they do elsewhere: forms are sent with CRLF (HTML §4.10.21.7).
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
    fn what_comes_back_as_it_was_shown_is_what_was_there() {
        let form = Form(vec![("it".to_owned(), lines("\r\n a\r\nb\rc ".to_owned()))]);
        assert_eq!(form.text("it"), "\n a\nb\nc ");
        for present in ["\n a\nb\nc ", "\r\n a\r\nb\rc ", "\r a\nb\r\nc "] {
            assert_eq!(form.edited("it", Some(present)), present);
        }
        for present in [None, Some("a\nb\nc"), Some("\n a\n\nb\nc ")] {
            assert_eq!(form.edited("it", present), "a\nb\nc");
        }
        assert_eq!(form.edited("other", Some("it")), Value::Null);
    }
}
