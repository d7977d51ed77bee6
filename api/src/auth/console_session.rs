//! Sessions of people who signed in to the console with a root key or at an OpenID provider. They are in memory only: a restart signs everybody out,
//! and nothing of them is in the log, as the commands that they issue name the root key or the user.
//!
//! A session holds the root key's id, never its token, and looks the root key up at every use: what ends the root key ends
//! its sessions at that moment. What a user is to their organization was said when they signed in, and holds as long as the
//! session.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyledger_engine::value::id::{OrganizationId, RootKeyId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, PresentedToken, SecretKind, Token};
use keyledger_projections::verification::VerificationIndex;

use crate::auth::oidc::User;
use crate::auth::principal::Principal;

/// A session that is not used for this long, in milliseconds, has ended.
const IDLE_MILLIS_MAX: i64 = 60 * 60 * 1_000;
/// However much it is used, a session ends after this many milliseconds.
const LIFETIME_MILLIS_MAX: i64 = 8 * 60 * 60 * 1_000;
/// The same in seconds, for the cookie.
pub(crate) const LIFETIME_SECONDS_MAX: u32 = (LIFETIME_MILLIS_MAX / 1_000) as u32;
/// With more sessions than this the one that was not used for longest ends.
const SESSIONS_MAX: usize = 10_000;

/// The sessions there are, by the digest of their secret.
#[derive(Default)]
pub(crate) struct ConsoleSessions(Mutex<HashMap<Digest, Session>>);

/// Whose a session is.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    /// A root key.
    RootKey(RootKeyId),
    /// Somebody whom the OpenID provider vouched for.
    User(Box<User>),
}

struct Session {
    holder: Holder,
    started_at: Timestamp,
    used_at: Timestamp,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        self.started_at.saturating_add_millis(LIFETIME_MILLIS_MAX) <= now
            || self.used_at.saturating_add_millis(IDLE_MILLIS_MAX) <= now
    }
}

impl ConsoleSessions {
    /// Begins a session under a secret that nobody had before.
    pub(crate) fn start(&self, secret: &Token, holder: Holder, now: Timestamp) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| !session.is_over(now));
        }
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used_at);
            if let Some(digest) = oldest.map(|(digest, _)| *digest) {
                sessions.remove(&digest);
            }
        }
        sessions.insert(secret.digest(), Session { holder, started_at: now, used_at: now });
    }

    /// Who has a session's secret, if the session is still there, and its root key.
    #[must_use]
    pub(crate) fn holder(
        &self,
        index: &VerificationIndex,
        secret: &str,
        now: Timestamp,
    ) -> Option<Principal> {
        let digest = digest(secret)?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&digest)?;
        if session.is_over(now) {
            sessions.remove(&digest);
            return None;
        }
        session.used_at = now;
        let holder = session.holder.clone();
        drop(sessions);
        match holder {
            Holder::RootKey(id) => {
                index.active_root_key(id).map(|root_key| Principal::of_root_key(&root_key))
            }
            Holder::User(user) => {
                let is_active = |id: &OrganizationId| {
                    index.organization(id).is_some_and(|organization| organization.deleted_at.is_none())
                };
                index.poisoned().is_none().then(|| Principal::of_user(&user, is_active))
            }
        }
    }

    /// Ends the session that has a secret, if there is one.
    pub(crate) fn end(&self, secret: &str) {
        if let Some(digest) = digest(secret) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        }
    }
}

fn digest(secret: &str) -> Option<Digest> {
    PresentedToken::parse_secret(SecretKind::PortalSession, secret).ok().map(|secret| secret.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_unused_and_in_the_end() {
        let session = |started_at, used_at| Session {
            holder: Holder::RootKey(
                RootKeyId::generate(Timestamp::default(), &mut rand::rngs::SysRng).unwrap(),
            ),
            started_at: Timestamp::from_millis(started_at),
            used_at: Timestamp::from_millis(used_at),
        };
        let is_over =
            |started_at, used_at, now| session(started_at, used_at).is_over(Timestamp::from_millis(now));
        assert!(!is_over(0, 0, IDLE_MILLIS_MAX - 1));
        assert!(is_over(0, 0, IDLE_MILLIS_MAX));
        assert!(!is_over(0, LIFETIME_MILLIS_MAX - 2, LIFETIME_MILLIS_MAX - 1));
        assert!(is_over(0, LIFETIME_MILLIS_MAX - 1, LIFETIME_MILLIS_MAX));
    }
}
