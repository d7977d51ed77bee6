//! The fields of forms: one look, one way to say what is wrong.

use askama::Template;

use super::field_errors::FieldErrors;
use super::form::Form;
use super::icon::Icon;

/// A field. Its name is that of the call's field, so that it shows what the call finds wrong with that.
#[derive(Template)]
#[template(path = "field.html")]
pub(crate) struct Field {
    /// Its name.
    pub name: &'static str,
    label: String,
    control: Control,
    value: String,
    hint: Option<String>,
    is_optional: bool,
    has_focus: bool,
    error: Option<String>,
}

/// It escapes what it shows.
impl askama::filters::HtmlSafe for Field {}

enum Control {
    /// A line of text, with texts that may be offered.
    Line { placeholder: &'static str, is_mono: bool, offers: Option<Offers> },
    /// A number from one on.
    Number,
    /// Several lines of text.
    Lines { placeholder: &'static str },
    /// One of some.
    OneOf(Vec<Choice>),
    /// Any of some.
    AnyOf(Vec<Choice>),
    /// What has to be typed to confirm.
    Confirmation(String),
}

/// Texts that are offered while somebody types; any other can be typed too.
struct Offers {
    /// Some, each with what it means.
    first: Vec<(String, String)>,
    /// The call that finds others.
    call: &'static str,
}

/// Something to choose.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    value: String,
    name: String,
    hint: String,
    is_chosen: bool,
}

impl Choice {
    /// What is sent, what people read, and what there is to know about it.
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

    /// A line of text.
    pub(crate) fn line(name: &'static str, label: &'static str, placeholder: &'static str) -> Self {
        Self::new(name, label, Control::Line { placeholder, is_mono: false, offers: None })
    }

    /// An id, an address or the like.
    pub(crate) fn code(name: &'static str, label: &'static str, placeholder: &'static str) -> Self {
        Self::new(name, label, Control::Line { placeholder, is_mono: true, offers: None })
    }

    /// An id, with some that are offered, each with what it means, and a call that finds others by what is typed.
    pub(crate) fn offering(
        name: &'static str,
        label: &'static str,
        first: Vec<(String, String)>,
        call: &'static str,
    ) -> Self {
        let placeholder = "Type a name or an id";
        Self::new(
            name,
            label,
            Control::Line { placeholder, is_mono: true, offers: Some(Offers { first, call }) },
        )
    }

    /// A whole number from one on.
    pub(crate) fn number(name: &'static str, label: &'static str) -> Self {
        Self::new(name, label, Control::Number)
    }

    /// Words with spaces or line breaks between them.
    pub(crate) fn words(name: &'static str, label: &'static str, placeholder: &'static str) -> Self {
        Self::new(name, label, Control::Lines { placeholder })
    }

    /// One of some.
    pub(crate) fn one_of(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Self {
        Self::new(name, label, Control::OneOf(choices))
    }

    /// Any of some.
    pub(crate) fn any_of(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Self {
        Self::new(name, label, Control::AnyOf(choices))
    }

    /// What has to be typed to confirm.
    pub(crate) fn confirmation(expected: String) -> Self {
        Self::new("confirmation", "", Control::Confirmation(expected))
    }

    /// The same with what there is to know.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same for what need not be filled in.
    #[must_use]
    pub(crate) const fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// The same with the cursor in it.
    #[must_use]
    pub(crate) const fn focused(mut self) -> Self {
        self.has_focus = true;
        self
    }

    /// The same with what a form has in it, and with what is wrong with that.
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
    fn a_field_keeps_what_was_typed_and_says_what_is_wrong() {
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
