//! Arguments about sessions.

use std::time::Duration;

use clap::Args;

use crate::auth::session_limits::SessionLimits;
use crate::cli::duration;

/// How long people stay signed in.
#[derive(Args)]
pub(super) struct Sessions {
    /// End a console session that is unused for this long. It ends after 8 hours in any case.
    #[arg(long, env = "KEYLEDGER_CONSOLE_IDLE", value_name = "DURATION", value_parser = span,
        default_value = "1h")]
    console_idle: Duration,
    /// End a portal session that is unused for this long.
    #[arg(long, env = "KEYLEDGER_PORTAL_IDLE", value_name = "DURATION", value_parser = span,
        default_value = "2h")]
    portal_idle: Duration,
    /// Time after which a user who signed in to the console at the OpenID provider has to sign in there
    /// again, at most 8 hours.
    #[arg(long, env = "KEYLEDGER_OIDC_SESSION", value_name = "DURATION", value_parser = openid_span,
        default_value = "1h")]
    oidc_session: Duration,
}

impl Sessions {
    pub(super) const fn limits(self) -> SessionLimits {
        SessionLimits {
            console_idle: self.console_idle,
            portal_idle: self.portal_idle,
            openid: self.oidc_session,
        }
    }
}

/// Reads a duration of at least a second: nobody could use a shorter session.
fn span(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        span if span < Duration::from_secs(1) => Err("must be at least 1s".into()),
        span => Ok(span),
    }
}

fn openid_span(text: &str) -> Result<Duration, String> {
    match span(text)? {
        span if span > SessionLimits::CONSOLE_MAX => Err("must be at most 8h".into()),
        span => Ok(span),
    }
}
