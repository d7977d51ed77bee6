//! The page that shows a secret, once: the token of a key or a root key, the secret of an application, a link that lets
//! somebody in.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::page_frame::{Frame, Page, page};
use crate::console::parts::icon::Icon;
use crate::console::visit::notice::Notice;

/// A secret on its way to the page that shows it.
pub(crate) struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// What a page with a secret says.
pub(crate) struct Words {
    /// The title.
    pub title: &'static str,
    /// What the secret is of, as people call it.
    pub subject: String,
    /// What else there is to say of that.
    pub under: Option<String>,
    /// What the secret is: `token`.
    pub noun: &'static str,
    /// What to do with it.
    pub advice: &'static str,
    /// What else there is to know.
    pub note: Option<String>,
    /// What cannot be done without it.
    pub loss: &'static str,
    /// What to do if nobody has it.
    pub remedy: &'static str,
}

/// What stands around a secret in an example.
pub(crate) struct Example {
    /// What it shows.
    pub lead: &'static str,
    /// What stands before the secret.
    pub before: String,
    /// What stands after it.
    pub after: &'static str,
}

/// The page.
#[derive(Template)]
#[template(path = "secret.html")]
pub(crate) struct SecretPage {
    frame: Frame,
    words: Words,
    /// None when the same form was sent before: its first answer had the secret.
    secret: Option<Secret>,
    /// What goes with it and is no secret: a name and a text.
    beside: Option<(&'static str, String)>,
    example: Option<Example>,
    done: String,
}

page!(SecretPage);

impl SecretPage {
    /// The page of a secret, which leads on to `done`.
    pub(crate) const fn new(frame: Frame, words: Words, secret: Option<Secret>, done: String) -> Self {
        Self { frame, words, secret, beside: None, example: None, done }
    }

    /// The same with what goes with the secret.
    #[must_use]
    pub(crate) fn beside(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.beside = Some((name, text.into()));
        self
    }

    /// The same with an example.
    #[must_use]
    pub(crate) fn example(mut self, example: Example) -> Self {
        self.example = Some(example);
        self
    }

    /// The page as an answer; the page after it knows the log up to a position.
    pub(crate) fn show(self, position: Option<u64>) -> Response {
        let mut response = self.answer(StatusCode::OK);
        Notice { position, toast: None }.keep(response.headers_mut());
        response
    }

    fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.0.as_str())
    }
}
