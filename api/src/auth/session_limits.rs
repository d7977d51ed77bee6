//! How long sessions last.

use std::time::Duration;

/// The limits of sessions, from the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    /// A console session ends when it is unused for this long.
    pub console_idle: Duration,
    /// A portal session ends when it is unused for this long.
    pub portal_idle: Duration,
    /// A user who signed in at the OpenID provider is signed in to the console for this long. Then the
    /// provider decides again whether they may enter, and with which role.
    pub openid: Duration,
}

impl SessionLimits {
    /// A console session ends after this time even if it is in use, and no user is signed in for longer.
    pub(crate) const CONSOLE_MAX: Duration = Duration::from_secs(8 * 60 * 60);
}

impl Default for SessionLimits {
    fn default() -> Self {
        let hour = Duration::from_secs(60 * 60);
        Self { console_idle: hour, portal_idle: hour * 2, openid: hour }
    }
}

/// Returns a duration in milliseconds, as times are counted.
#[must_use]
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
