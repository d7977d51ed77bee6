//! The page that shows a token, once: after a key was issued, and after it was rotated.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::problem::Problem;

use super::frame::{Frame, Page, page};
use super::icon::Icon;
use super::key::Key;
use super::navigation::Section;
use super::query_string::QueryString;
use super::toast::Notice;
use super::visitor::Visitor;

/// A token on its way to the page that shows it.
pub struct Token(Zeroizing<String>);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// The page.
#[derive(Template)]
#[template(path = "token.html")]
pub struct TokenPage {
    frame: Frame,
    key: Key,
    /// None when the same form was sent before: its first answer had the token.
    token: Option<Token>,
    title: &'static str,
    public_url: String,
    /// What else there is to know.
    note: Option<String>,
    done: String,
}

page!(TokenPage);

impl TokenPage {
    /// Shows the token of a key that was issued.
    ///
    /// # Errors
    /// None of its own.
    pub async fn answer_created(
        visitor: &Visitor,
        key: Key,
        token: Option<Token>,
        position: Option<u64>,
    ) -> Result<Response, Problem> {
        let organization =
            visitor.principal.organization_id.is_none().then_some(key.organization_id.as_str());
        let done = QueryString::default().with("organization_id", organization).after("/console/keys");
        Self::show(visitor, key, token, position, "Key created", None, done).await
    }

    /// Shows the token that a key got by rotation.
    ///
    /// # Errors
    /// None of its own.
    pub async fn answer_rotated(
        visitor: &Visitor,
        key: Key,
        token: Option<Token>,
        position: Option<u64>,
        note: String,
    ) -> Result<Response, Problem> {
        let done = key.path("");
        Self::show(visitor, key, token, position, "Key rotated", Some(note), done).await
    }

    async fn show(
        visitor: &Visitor,
        key: Key,
        token: Option<Token>,
        position: Option<u64>,
        title: &'static str,
        note: Option<String>,
        done: String,
    ) -> Result<Response, Problem> {
        let page = Self {
            frame: Frame::of(visitor, title, Some(Section::Keys), Some(&key.organization_id)).await,
            key,
            token,
            title,
            public_url: visitor.service.access_tokens.issuer().into(),
            note,
            done,
        };
        let mut response = page.answer(StatusCode::OK);
        // The page after it is to know the key.
        Notice { position, toast: None }.keep(response.headers_mut());
        Ok(response)
    }

    fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.0.as_str())
    }
}
