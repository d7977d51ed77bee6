//! Console sessions of users who signed in with a root key or at the OpenID provider. They are in memory
//! only: a restart signs all users out. The log does not mention sessions, because the commands issued in
//! them name the root key or the user.
//!
//! A session holds the root key's id, not its token, and looks the root key up at every use, so that deleting
//! the root key ends its sessions at once. A user's organization and role are those at sign-in, for as long
//! as the session lasts, so it is short, and the provider is asked again.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyledger_engine::value::id::{OrganizationId, RootKeyId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, PresentedToken, SecretKind, Token};
use keyledger_projections::verification::VerificationIndex;
use ulid::Ulid;

use crate::auth::oidc::User;
use crate::auth::principal::Principal;
use crate::auth::session_limits::{SessionLimits, millis};
use crate::auth::session_use::Visit;

/// Beyond this number, the least recently used session ends.
const SESSIONS_MAX: usize = 10_000;

/// All console sessions.
pub(crate) struct ConsoleSessions {
    limits: SessionLimits,
    /// By the digest of their secret.
    sessions: Mutex<HashMap<Digest, ConsoleSession>>,
}

/// The id of a console session: `cs_<ULID>`. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConsoleSessionId(Ulid);

impl ConsoleSessionId {
    const PREFIX: &str = "cs_";
}

impl From<Ulid> for ConsoleSessionId {
    fn from(ulid: Ulid) -> Self {
        Self(ulid)
    }
}

impl fmt::Display for ConsoleSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0)
    }
}

impl FromStr for ConsoleSessionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = text.strip_prefix(Self::PREFIX).and_then(|ulid| Ulid::from_string(ulid).ok()).map(Self);
        // The decoder also accepts lower case and look-alike letters.
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| "must be an id of the form cs_<26 characters of a ULID>".into())
    }
}

/// The owner of a session.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    RootKey(RootKeyId),
    /// A user who signed in at the OpenID provider.
    User(Box<User>),
}

/// Where a person signed in.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignInPlace {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<Arc<str>>,
}

/// A console session.
#[derive(Debug, Clone)]
pub(crate) struct ConsoleSession {
    pub id: ConsoleSessionId,
    pub holder: Holder,
    pub place: SignInPlace,
    pub started_at: Timestamp,
    pub used_at: Timestamp,
    /// When it expires unless it is used before.
    pub expires_at: Timestamp,
}

impl ConsoleSession {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

impl ConsoleSessions {
    #[must_use]
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self { limits, sessions: Mutex::default() }
    }

    /// How long a holder is signed in at most, in seconds, for the cookie.
    #[must_use]
    pub(crate) fn lifetime_seconds(&self, holder: &Holder) -> u32 {
        u32::try_from(self.lifetime_millis(holder) / 1_000).unwrap_or(u32::MAX)
    }

    fn lifetime_millis(&self, holder: &Holder) -> i64 {
        let longest = millis(SessionLimits::CONSOLE_MAX);
        match holder {
            Holder::RootKey(_) => longest,
            Holder::User(_) => millis(self.limits.openid).min(longest),
        }
    }

    /// Returns the end of a session that was used at `used_at`.
    fn end_of(&self, holder: &Holder, started_at: Timestamp, used_at: Timestamp) -> Timestamp {
        let end = started_at.saturating_add_millis(self.lifetime_millis(holder));
        used_at.saturating_add_millis(millis(self.limits.console_idle)).min(end)
    }

    /// Starts a session with a new secret. A user is authenticated for as long as the session lasts.
    pub(crate) fn start(
        &self,
        id: ConsoleSessionId,
        secret: &Token,
        mut holder: Holder,
        place: SignInPlace,
        now: Timestamp,
    ) {
        let lifetime_millis = self.lifetime_millis(&holder);
        if let Holder::User(user) = &mut holder {
            // The ID token only proves who the user is.
            user.expires_at = now.saturating_add_millis(lifetime_millis);
        }
        let expires_at = self.end_of(&holder, now, now);
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| !session.is_expired(now));
        }
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used_at);
            if let Some(digest) = oldest.map(|(digest, _)| *digest) {
                sessions.remove(&digest);
            }
        }
        let session = ConsoleSession { id, holder, place, started_at: now, used_at: now, expires_at };
        sessions.insert(secret.digest(), session);
    }

    /// Returns the principal of a session; none when the session or its root key has ended. An attended
    /// request counts as a use.
    #[must_use]
    pub(crate) fn holder(
        &self,
        index: &VerificationIndex,
        secret: &str,
        visit: Visit,
        now: Timestamp,
    ) -> Option<Principal> {
        let digest = digest(secret)?;
        let mut sessions = self.sessions();
        let session = sessions.get_mut(&digest)?;
        if session.is_expired(now) {
            sessions.remove(&digest);
            return None;
        }
        if visit == Visit::Attended {
            session.used_at = now;
            session.expires_at = self.end_of(&session.holder, session.started_at, now);
        }
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
            self.sessions().remove(&digest);
        }
    }

    /// Returns the sessions at `now`, oldest first. Those whose root key was revoked are among them until
    /// they are used.
    #[must_use]
    pub(crate) fn all(&self, now: Timestamp) -> Vec<ConsoleSession> {
        let sessions = self.sessions();
        let mut all: Vec<_> = sessions.values().filter(|session| !session.is_expired(now)).cloned().collect();
        drop(sessions);
        all.sort_by_key(|session| session.id);
        all
    }

    /// Returns the id of the session with this secret, if it exists.
    #[must_use]
    pub(crate) fn id_of(&self, secret: &str) -> Option<ConsoleSessionId> {
        self.sessions().get(&digest(secret)?).map(|session| session.id)
    }

    /// Ends the session with this id, if it exists.
    pub(crate) fn end_by_id(&self, id: ConsoleSessionId) {
        self.sessions().retain(|_, session| session.id != id);
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Digest, ConsoleSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(secret: &str) -> Option<Digest> {
    PresentedToken::parse_secret(SecretKind::PortalSession, secret).ok().map(|secret| secret.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Token {
        Token::generate_secret(SecretKind::PortalSession, &mut rand::rngs::SysRng).unwrap()
    }

    fn user() -> Holder {
        Holder::User(Box::new(User {
            id: keyledger_engine::value::text::UserId::new("olga").unwrap(),
            organization_id: None,
            role: None,
            expires_at: Timestamp::from_millis(5),
        }))
    }

    fn id(number: u128) -> ConsoleSessionId {
        Ulid(number).into()
    }

    #[test]
    fn a_session_ends_when_unused_and_at_its_lifetime() {
        let hour = 60 * 60 * 1_000;
        let sessions = ConsoleSessions::new(SessionLimits {
            openid: std::time::Duration::from_secs(3 * 60 * 60),
            ..SessionLimits::default()
        });
        let index = VerificationIndex::new();
        let start = |number, place| {
            let secret = secret();
            sessions.start(id(number), &secret, user(), place, Timestamp::default());
            secret
        };
        let (used, watched) = (start(1, SignInPlace::default()), start(2, SignInPlace::default()));
        let holds = |secret: &Token, visit, now| {
            sessions.holder(&index, secret.expose(), visit, Timestamp::from_millis(now)).is_some()
        };
        for now in [hour - 1, hour * 2 - 2, hour * 3 - 3] {
            assert!(holds(&used, Visit::Attended, now), "{now}");
        }
        assert!(!holds(&used, Visit::Attended, hour * 3), "its lifetime is over");
        // A stream that is open while nobody is there does not keep it alive.
        assert!(holds(&watched, Visit::Unattended, hour - 1));
        assert!(!holds(&watched, Visit::Unattended, hour));
    }

    #[test]
    fn a_session_is_listed_and_ended_by_its_id() {
        let sessions = ConsoleSessions::new(SessionLimits::default());
        let (now, first, second) = (Timestamp::default(), secret(), secret());
        sessions.start(id(2), &second, user(), SignInPlace::default(), now);
        sessions.start(id(1), &first, user(), SignInPlace::default(), now);
        let ids = || sessions.all(now).iter().map(|session| session.id).collect::<Vec<_>>();
        assert_eq!(ids(), [id(1), id(2)]);
        sessions.end_by_id(id(1).to_string().parse().unwrap());
        assert_eq!(ids(), [id(2)]);
        assert!(sessions.holder(&VerificationIndex::new(), first.expose(), Visit::Attended, now).is_none());
        assert!(sessions.all(Timestamp::from_millis(i64::MAX)).is_empty());
        for text in ["", "cs_", "cs_x", "cs_01kajx7q5m3j6s2y9w8v4t1r0p", "01KAJX7Q5M3J6S2Y9W8V4T1R0P"] {
            assert!(text.parse::<ConsoleSessionId>().is_err(), "{text}");
        }
    }
}
