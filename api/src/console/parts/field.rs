//! Form fields with their label, hint and error.

use askama::Template;

use super::field_errors::FieldErrors;
use super::form::Form;
use super::icon::Icon;

/// A form field. It has the name of the API's field, so that it can show the error the API reports for it.
#[derive(Template)]
#[template(path = "parts/field.html")]
pub(crate) struct Field {
    pub name: &'static str,
    label: String,
    control: Control,
    value: String,
    hint: Option<String>,
    is_optional: bool,
    has_focus: bool,
    error: Option<String>,
}

/// The template escapes every value.
impl askama::filters::HtmlSafe for Field {}

enum Control {
    /// A line of text, with optional suggestions.
    Line {
        placeholder: &'static str,
        is_mono: bool,
        offers: Option<Offers>,
    },
    /// A whole number from 1.
    Number,
    Lines {
        placeholder: &'static str,
    },
    /// Radio buttons.
    OneOf(Vec<Choice>),
    /// Checkboxes.
    AnyOf(Vec<Choice>),
    /// A text that must be typed to confirm.
    Confirmation(String),
}

/// Suggestions shown while typing. Any other text can be typed too.
struct Offers {
    /// The initial suggestions: value and meaning.
    first: Vec<(String, String)>,
    /// The list endpoint that finds others.
    call: &'static str,
}

/// An option of a field.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    value: String,
    name: String,
    hint: String,
    is_chosen: bool,
}

impl Choice {
    /// An option with the value that is sent, its name, and a hint.
    pub(crate) fn new(value: impl Into<String>, name: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { value: value.into(), name: name.into(), hint: hint.into(), is_chosen: false }
    }
}

impl Field {
    fn new(name: &'static str, label: impl Into<String>, control: Control) -> Self {
        Self {
            name,
            label: label.into(),
            control,
            value: String::new(),
            hint: None,
            is_optional: false,
            has_focus: false,
            error: None,
        }
    }

    pub(crate) fn line(name: &'static str, label: &'static str, placeholder: &'static str) -> Self {
        Self::new(name, label, Control::Line { placeholder, is_mono: false, offers: None })
    }

    /// A line in a monospaced font, for ids and addresses.
    pub(crate) fn code(name: &'static str, label: &'static str, placeholder: &'static str) -> Self {
        Self::new(name, label, Control::Line { placeholder, is_mono: true, offers: None })
    }

    /// An id with suggestions: the `first` ones, and those that the endpoint `call` finds for the typed text.
    pub(crate) fn offering(
        name: &'static str,
        label: &'static str,
        first: Vec<(String, String)>,
        call: &'static str,
    ) -> Self {
        let placeholder = "Type a name or an ID";
        Self::new(
            name,
            label,
            Control::Line { placeholder, is_mono: true, offers: Some(Offers { first, call }) },
        )
    }

    pub(crate) fn number(name: &'static str, label: &'static str) -> Self {
        Self::new(name, label, Control::Number)
    }

    /// Words separated by spaces or line breaks.
    pub(crate) fn words(name: &'static str, label: &'static str, placeholder: &'static str) -> Self {
        Self::new(name, label, Control::Lines { placeholder })
    }

    /// Radio buttons.
    pub(crate) fn one_of(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Self {
        Self::new(name, label, Control::OneOf(choices))
    }

    /// Checkboxes.
    pub(crate) fn any_of(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Self {
        Self::new(name, label, Control::AnyOf(choices))
    }

    /// A text that must be typed to confirm.
    pub(crate) fn confirmation(expected: String) -> Self {
        Self::new("confirmation", "", Control::Confirmation(expected))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) const fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    #[must_use]
    pub(crate) const fn focused(mut self) -> Self {
        self.has_focus = true;
        self
    }

    /// Fills the field from a form and adds its error.
    #[must_use]
    pub(crate) fn filled(mut self, form: &Form, errors: &FieldErrors) -> Self {
        self.error = errors.get(self.name).map(ToOwned::to_owned);
        match &mut self.control {
            Control::OneOf(choices) | Control::AnyOf(choices) => {
                for choice in choices {
                    choice.is_chosen = form.texts(self.name).any(|text| text == choice.value);
                }
            }
            Control::Confirmation(_) => {}
            Control::Line { .. } | Control::Number | Control::Lines { .. } => {
                self.value = form.texts(self.name).collect::<Vec<_>>().join("\n");
            }
        }
        self
    }

    fn described_by(&self) -> Option<String> {
        let hint = self.hint.as_ref().map(|_| format!("{}-hint", self.name));
        let error = self.error.as_ref().map(|_| format!("{}-error", self.name));
        let ids: Vec<String> = hint.into_iter().chain(error).collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_keeps_the_typed_text_and_shows_its_error() {
        let form = Form::of([("name".to_owned(), "\"><b>".to_owned())].into_iter());
        let field =
            Field::line("name", "Name", "").hint("A hint").filled(&form, &FieldErrors::one("name", "no"));
        let text = field.to_string();
        assert!(text.contains("aria-describedby=\"name-hint name-error\""), "{text}");
        assert!(text.contains("aria-invalid=\"true\"") && !text.contains("<b>"), "{text}");
    }

    #[test]
    fn choices_are_kept() {
        let form = Form::of([("kind".to_owned(), "b".to_owned())].into_iter());
        let choices = ["a", "b"].map(|it| Choice::new(it, it, "")).to_vec();
        let text = Field::one_of("kind", "Kind", choices).filled(&form, &FieldErrors::default()).to_string();
        assert!(text.contains("value=\"b\" checked") && !text.contains("value=\"a\" checked"), "{text}");
    }
}
