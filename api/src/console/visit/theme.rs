//! The colour theme: the visitor's choice from a cookie, or the system's setting.

use http::HeaderMap;

use super::cookie;

const COOKIE: &str = "keyledger_theme";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Theme {
    /// Follows the operating system.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// All themes, in the order of the switch.
    pub(crate) const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Returns the theme with this name, or the default.
    pub(crate) fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|theme| theme.as_str() == name).unwrap_or_default()
    }

    /// Reads the choice from the cookie.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        cookie::read(headers, COOKIE).map_or_else(Self::default, Self::from_name)
    }

    /// Stores the choice in a cookie for a year.
    pub(crate) fn keep(self, headers: &mut HeaderMap) {
        cookie::set(
            headers,
            &format!("{COOKIE}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax", self.as_str()),
        );
    }
}
