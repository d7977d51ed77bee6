//! A page with a form. Scripts show it as a dialog.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

use super::navigation::Section;
use super::page_frame::{Frame, Page, page};
use crate::console::parts::field::Field;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::visit::visitor::Visitor;

#[derive(Template)]
#[template(path = "frame/form.html")]
pub(crate) struct FormPage {
    frame: Frame,
    title: &'static str,
    /// The object that the form is about.
    subject: Option<String>,
    texts: Vec<String>,
    /// The consequences of a destructive form.
    warning: Option<String>,
    /// The path that the form is submitted to.
    action: String,
    /// The path of the Cancel button.
    back: String,
    hidden: Vec<(&'static str, String)>,
    fields: Vec<Field>,
    submit: &'static str,
    is_danger: bool,
    other_errors: Vec<String>,
    status: StatusCode,
}

page!(FormPage);

impl FormPage {
    /// A form that is submitted to `action` and whose Cancel button leads to `back`.
    pub(crate) async fn new(
        visitor: &Visitor,
        section: Section,
        organization: Option<&str>,
        title: &'static str,
        action: impl Into<String>,
        back: impl Into<String>,
    ) -> Self {
        Self {
            frame: Frame::of(visitor, title, Some(section), organization).await,
            title,
            subject: None,
            texts: Vec::new(),
            warning: None,
            action: action.into(),
            back: back.into(),
            hidden: Vec::new(),
            fields: Vec::new(),
            submit: title,
            is_danger: false,
            other_errors: Vec::new(),
            status: StatusCode::OK,
        }
    }

    /// Names the object that the form is about.
    #[must_use]
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Adds a paragraph before the fields.
    #[must_use]
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.texts.push(text.into());
        self
    }

    /// Marks the form as destructive and states the consequences. Its button is not the default one.
    #[must_use]
    pub(crate) fn danger(mut self, warning: impl Into<String>) -> Self {
        self.warning = Some(warning.into());
        self.is_danger = true;
        self
    }

    /// Sets the label of the submit button. Default: the title.
    #[must_use]
    pub(crate) const fn submit(mut self, submit: &'static str) -> Self {
        self.submit = submit;
        self
    }

    /// Adds a hidden field.
    #[must_use]
    pub(crate) fn hidden(mut self, name: &'static str, value: &str) -> Self {
        self.hidden.push((name, value.into()));
        self
    }

    /// Adds a request name, so that a form submitted twice takes effect once.
    #[must_use]
    pub(crate) fn once(self, form: &Form) -> Self {
        let request = form.filled("request").map(ToOwned::to_owned);
        let request = request.unwrap_or_else(|| RequestId::draw().as_str().into());
        self.hidden("request", &request)
    }

    /// Adds the fields with their values and errors.
    #[must_use]
    pub(crate) fn fields(mut self, fields: Vec<Field>, form: &Form, errors: &FieldErrors) -> Self {
        let shown: Vec<&str> = fields.iter().map(|field| field.name).collect();
        self.other_errors = errors.others(&shown);
        self.fields = fields.into_iter().map(|field| field.filled(form, errors)).collect();
        if errors.any() {
            self.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        self
    }

    pub(crate) fn show(self) -> Response {
        self.answer(self.status)
    }
}

/// Turns the problem of a submitted form into field errors. `fields` maps problem codes to the field they are
/// about.
///
/// # Errors
/// The problem itself if it is not about fields, because correcting the form would not help.
pub(crate) fn field_errors(problem: Problem, fields: &[(Code, &str)]) -> Result<FieldErrors, Problem> {
    match fields.iter().find(|(code, _)| *code == problem.code) {
        Some((_, field)) => Ok(FieldErrors::one(field, problem.detail)),
        None => FieldErrors::of(problem),
    }
}

/// Checks that the expected text was typed to confirm.
///
/// # Errors
/// An error in the field `confirmation`.
pub(crate) fn confirmed(form: &Form, expected: &str) -> Result<(), FieldErrors> {
    if form.text("confirmation").trim() == expected.trim() {
        return Ok(());
    }
    Err(FieldErrors::one("confirmation", "That doesn't match. Type the text exactly as shown."))
}

/// Returns the text to type to confirm: the name if it is short and consists of typable characters, else
/// `otherwise`.
pub(crate) fn confirmation(name: Option<&str>, otherwise: &str) -> String {
    let is_typable = |it: char| it == ' ' || it.is_alphanumeric() || it.is_ascii_punctuation();
    match name {
        Some(name) if name.chars().count() <= 60 && name.chars().all(is_typable) => name.into(),
        _ => otherwise.into(),
    }
}
