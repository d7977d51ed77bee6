//! Console sessions of users who signed in with a root key or at the OpenID provider. They are in memory
//! only: a restart signs all users out. The log does not mention sessions, because the commands issued in
//! them name the root key or the user.
//!
//! A session holds the root key's id, not its token, and looks the root key up at every use, so that deleting
//! the root key ends its sessions at once. A user's organization and role are those at sign-in, for as long
//! as the session lasts.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyledger_engine::value::id::{OrganizationId, RootKeyId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, PresentedToken, SecretKind, Token};
use keyledger_projections::verification::VerificationIndex;

use crate::auth::oidc::User;
use crate::auth::principal::Principal;

/// A session expires when it is unused for this long, in milliseconds.
const IDLE_MILLIS_MAX: i64 = 60 * 60 * 1_000;
/// A session expires after this time even if it is in use, in milliseconds.
const LIFETIME_MILLIS_MAX: i64 = 8 * 60 * 60 * 1_000;
/// The same in seconds, for the cookie.
pub(crate) const LIFETIME_SECONDS_MAX: u32 = (LIFETIME_MILLIS_MAX / 1_000) as u32;
/// Beyond this number, the least recently used session ends.
const SESSIONS_MAX: usize = 10_000;

/// All console sessions, by the digest of their secret.
#[derive(Default)]
pub(crate) struct ConsoleSessions(Mutex<HashMap<Digest, Session>>);

/// The owner of a session.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    RootKey(RootKeyId),
    /// A user who signed in at the OpenID provider.
    User(Box<User>),
}

struct Session {
    holder: Holder,
    started_at: Timestamp,
    used_at: Timestamp,
}

impl Session {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.started_at.saturating_add_millis(LIFETIME_MILLIS_MAX) <= now
            || self.used_at.saturating_add_millis(IDLE_MILLIS_MAX) <= now
    }
}

impl ConsoleSessions {
    /// Starts a session with a new secret.
    pub(crate) fn start(&self, secret: &Token, holder: Holder, now: Timestamp) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| !session.is_expired(now));
        }
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used_at);
            if let Some(digest) = oldest.map(|(digest, _)| *digest) {
                sessions.remove(&digest);
            }
        }
        sessions.insert(secret.digest(), Session { holder, started_at: now, used_at: now });
    }

    /// Returns the principal of a session; none when the session or its root key has ended.
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
        if session.is_expired(now) {
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

    /// Ends a session, if it exists.
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
    fn a_session_ends_when_unused_and_at_its_lifetime() {
        let session = |started_at, used_at| Session {
            holder: Holder::RootKey(
                RootKeyId::generate(Timestamp::default(), &mut rand::rngs::SysRng).unwrap(),
            ),
            started_at: Timestamp::from_millis(started_at),
            used_at: Timestamp::from_millis(used_at),
        };
        let is_expired =
            |started_at, used_at, now| session(started_at, used_at).is_expired(Timestamp::from_millis(now));
        assert!(!is_expired(0, 0, IDLE_MILLIS_MAX - 1));
        assert!(is_expired(0, 0, IDLE_MILLIS_MAX));
        assert!(!is_expired(0, LIFETIME_MILLIS_MAX - 2, LIFETIME_MILLIS_MAX - 1));
        assert!(is_expired(0, LIFETIME_MILLIS_MAX - 1, LIFETIME_MILLIS_MAX));
    }
}
