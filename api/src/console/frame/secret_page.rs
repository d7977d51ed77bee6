//! The page that shows a secret once: a token, a client secret, a webhook secret or a portal link.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::page_frame::{Frame, Page, page};
use crate::console::parts::icon::Icon;
use crate::console::visit::notice::Notice;

/// A secret that only [`SecretPage`] can render. It is wiped from memory when dropped.
pub(crate) struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// The texts of the page.
pub(crate) struct Words {
    pub title: &'static str,
    /// The name of the object that the secret belongs to.
    pub subject: String,
    /// A detail beside the subject.
    pub under: Option<String>,
    /// What kind of secret it is, such as `token`.
    pub noun: &'static str,
    /// What to do with the secret.
    pub advice: &'static str,
    /// An additional sentence.
    pub note: Option<String>,
    /// The consequence of losing the secret, as the end of a sentence.
    pub loss: &'static str,
    /// How to replace a lost secret, as the end of a sentence.
    pub remedy: &'static str,
}

/// An example command with the secret in it.
pub(crate) struct Example {
    /// The sentence above the command.
    pub lead: &'static str,
    /// The command up to the secret.
    pub before: String,
    /// The command after the secret.
    pub after: &'static str,
}

#[derive(Template)]
#[template(path = "frame/secret.html")]
pub(crate) struct SecretPage {
    frame: Frame,
    words: Words,
    /// `None` if the form was submitted before; only the first response has the secret.
    secret: Option<Secret>,
    /// A public value shown with the secret: name and text.
    beside: Option<(&'static str, String)>,
    example: Option<Example>,
    done: String,
}

page!(SecretPage);

impl SecretPage {
    /// A page whose Done button leads to `done`.
    pub(crate) const fn new(frame: Frame, words: Words, secret: Option<Secret>, done: String) -> Self {
        Self { frame, words, secret, beside: None, example: None, done }
    }

    /// Adds a public value, such as a client id.
    #[must_use]
    pub(crate) fn beside(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.beside = Some((name, text.into()));
        self
    }

    #[must_use]
    pub(crate) fn example(mut self, example: Example) -> Self {
        self.example = Some(example);
        self
    }

    /// Renders the page. The next page reads the log at least up to `position`.
    pub(crate) fn show(self, position: Option<u64>) -> Response {
        let mut response = self.answer(StatusCode::OK);
        Notice { position, toast: None }.keep(response.headers_mut());
        response
    }

    fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.0.as_str())
    }
}
