//! Light or dark: what somebody chose, in a cookie, or what their system says.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use super::toast::Notice;
use crate::console::visit::sign_in::safe_path;
use crate::console::visit::submission::Submission;

const COOKIE: &str = "keyledger_theme";

/// The colours of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Theme {
    /// As the system has it.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// All, in the order in which they are offered.
    pub(crate) const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|theme| theme.as_str() == name).unwrap_or_default()
    }

    /// What a browser was told before.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        cookie(headers, COOKIE).map_or_else(Self::default, Self::from_name)
    }
}

/// The value of a cookie of the console's own.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(it, _)| *it == name).map(|(_, value)| value)
}

/// Keeps what somebody chose, and leads back to where they were.
pub(crate) async fn choose(Submission { visitor, form }: Submission) -> Response {
    let theme = Theme::from_name(form.text("theme"));
    let mut response = visitor.go_to(safe_path(form.text("to")).unwrap_or("/console"), &Notice::default());
    let text = format!("{COOKIE}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax", theme.as_str());
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
