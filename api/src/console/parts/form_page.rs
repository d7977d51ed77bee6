//! The page of a form, which scripts show as a dialog.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

use super::field::Field;
use super::field_errors::FieldErrors;
use crate::console::frame::icon::Icon;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::visit::submission::Form;
use crate::console::visit::visitor::Visitor;

/// The page.
#[derive(Template)]
#[template(path = "form.html")]
pub(crate) struct FormPage {
    frame: Frame,
    title: &'static str,
    /// What it is about.
    subject: Option<String>,
    texts: Vec<String>,
    /// What cannot be undone.
    warning: Option<String>,
    /// Where it is sent.
    action: String,
    /// Where those go who cancel.
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
    /// A form that is sent to `action`, and that leads back to `back`.
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

    /// The same about something with a name.
    #[must_use]
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same with a sentence before the fields.
    #[must_use]
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.texts.push(text.into());
        self
    }

    /// The same for what stops something: it is said what, and the button that does it is not the first.
    #[must_use]
    pub(crate) fn danger(mut self, warning: impl Into<String>) -> Self {
        self.warning = Some(warning.into());
        self.is_danger = true;
        self
    }

    /// The same with other words on its button.
    #[must_use]
    pub(crate) const fn submit(mut self, submit: &'static str) -> Self {
        self.submit = submit;
        self
    }

    /// The same with a field that nobody sees.
    #[must_use]
    pub(crate) fn hidden(mut self, name: &'static str, value: &str) -> Self {
        self.hidden.push((name, value.into()));
        self
    }

    /// The same, named so that it is carried out once.
    #[must_use]
    pub(crate) fn once(self, form: &Form) -> Self {
        let request = form.filled("request").map(ToOwned::to_owned);
        let request = request.unwrap_or_else(|| RequestId::draw().as_str().into());
        self.hidden("request", &request)
    }

    /// The same with its fields, as they were filled in and with what is wrong with them.
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

    /// The page as an answer.
    pub(crate) fn show(self) -> Response {
        self.answer(self.status)
    }
}

/// What is wrong with a form whose call answered a problem: also where the problem is about one field as a whole.
///
/// # Errors
/// The problem itself, when it is not about fields: then the form cannot be corrected.
pub(crate) fn field_errors(problem: Problem, fields: &[(Code, &str)]) -> Result<FieldErrors, Problem> {
    match fields.iter().find(|(code, _)| *code == problem.code) {
        Some((_, field)) => Ok(FieldErrors::one(field, problem.detail)),
        None => FieldErrors::of(problem),
    }
}

/// Whether what had to be typed was.
///
/// # Errors
/// What is wrong with the field.
pub(crate) fn confirmed(form: &Form, expected: &str) -> Result<(), FieldErrors> {
    if form.text("confirmation").trim() == expected.trim() {
        return Ok(());
    }
    Err(FieldErrors::one("confirmation", "is not what is asked for"))
}

/// What has to be typed to confirm: a name, if everybody can see and type it; else what stands for it.
pub(crate) fn confirmation(name: Option<&str>, otherwise: &str) -> String {
    let is_typable = |it: char| it == ' ' || it.is_alphanumeric() || it.is_ascii_punctuation();
    match name {
        Some(name) if name.chars().count() <= 60 && name.chars().all(is_typable) => name.into(),
        _ => otherwise.into(),
    }
}
