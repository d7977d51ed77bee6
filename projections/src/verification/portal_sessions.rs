//! Portal sessions that can still be used: links not followed yet, and started sessions. An expired one is
//! removed with the next event of any session; the log keeps it.

use std::sync::Arc;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::portal_session::{PortalSession, PortalSessionStatus};
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::id::{OrganizationId, PortalSessionId};
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, PresentedToken, SecretKind};

use super::VerificationIndex;
use super::apply::{Reason, does_not_follow};
use super::directory::Directory;
use super::token_map::{DigestKey, DigestMap};
use super::writer_state::WriterState;
use std::sync::atomic::Ordering;

pub(super) struct PortalSessions {
    by_id: Directory<PortalSessionId, PortalSession>,
    /// By the secret that currently works: the link's, or the session's once it has started.
    by_digest: DigestMap<32, PortalSessionId>,
}

impl PortalSessions {
    pub(super) fn new() -> Self {
        Self { by_id: Directory::new(), by_digest: DigestMap::default() }
    }

    pub(super) const fn directory(&self) -> &Directory<PortalSessionId, PortalSession> {
        &self.by_id
    }

    pub(super) fn apply(
        &self,
        writer: &mut WriterState,
        id: PortalSessionId,
        record: &Record,
    ) -> Result<(), Reason> {
        let before = self.by_id.get(&id).map(Arc::unwrap_or_clone);
        // It was removed when it expired. Only a clock that went back lets an event follow.
        if before.is_none() && !matches!(record.event, Event::PortalSessionCreated(..)) {
            return Ok(());
        }
        let after = PortalSession::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        self.forget(writer, id);
        if after.ended_at.is_none() && !after.is_erased {
            self.put(writer, after);
        }
        while let Some((end, id)) = writer.portal_session_ends.first().copied() {
            if end > record.time.millis() {
                break;
            }
            self.forget(writer, id);
        }
        Ok(())
    }

    /// Inserts a session that is not in the index.
    pub(super) fn put(&self, writer: &mut WriterState, session: PortalSession) {
        writer.portal_session_ends.insert((session.expires_at.millis(), session.id));
        let (id, digest) = (session.id, current_digest(&session));
        // The session first, so that a reader that finds its digest also finds the session.
        self.by_id.insert(id, session);
        self.by_digest.pin().insert(digest, id);
    }

    /// Ends the sessions of a user of an organization, or all sessions of the organization.
    pub(super) fn erase(
        &self,
        writer: &mut WriterState,
        organization_id: &OrganizationId,
        user_id: Option<&UserId>,
    ) {
        for session in self.by_id.page(None, usize::MAX) {
            let is_concerned = user_id.is_none_or(|user_id| session.user_id.as_ref() == Some(user_id));
            if session.organization_id == *organization_id && is_concerned {
                self.forget(writer, session.id);
            }
        }
    }

    fn forget(&self, writer: &mut WriterState, id: PortalSessionId) {
        if let Some(session) = self.by_id.get(&id) {
            self.by_digest.pin().remove(&current_digest(&session));
            self.by_id.remove(&id);
            writer.portal_session_ends.remove(&(session.expires_at.millis(), id));
        }
    }

    fn find(&self, digest: &Digest) -> Option<Arc<PortalSession>> {
        let id = self.by_digest.pin().get(&DigestKey::new(digest)).copied()?;
        self.by_id.get(&id)
    }
}

fn current_digest(session: &PortalSession) -> DigestKey<32> {
    DigestKey::new(session.digest.as_ref().unwrap_or(&session.link_digest))
}

impl VerificationIndex {
    /// Returns the portal session that a link's secret starts, if the link can be followed at `now`.
    #[must_use]
    pub fn portal_link(&self, secret: &str, now: Timestamp) -> Option<Arc<PortalSession>> {
        self.portal_session_with(SecretKind::PortalLink, secret, PortalSessionStatus::Pending, now)
    }

    /// Returns the portal session with this secret. Returns `None` when the secret is unknown, the session
    /// has ended at `now` or its organization is deleted, and always in a [poisoned](Self::poisoned) index.
    #[must_use]
    pub fn authenticate_portal_session(&self, secret: &str, now: Timestamp) -> Option<Arc<PortalSession>> {
        self.portal_session_with(SecretKind::PortalSession, secret, PortalSessionStatus::Active, now)
    }

    fn portal_session_with(
        &self,
        kind: SecretKind,
        secret: &str,
        status: PortalSessionStatus,
        now: Timestamp,
    ) -> Option<Arc<PortalSession>> {
        let digest = PresentedToken::parse_secret(kind, secret).ok()?.digest();
        if self.is_poisoned.load(Ordering::Acquire) {
            return None;
        }
        let session = self.portal_sessions.find(&digest)?;
        (session.status(now) == status && self.is_active(&session.organization_id)).then_some(session)
    }

    /// Returns at most `limit` portal sessions after the id `after`, in id order, that were not ended. Some
    /// may have expired, or belong to a deleted organization.
    #[must_use]
    pub fn portal_sessions(&self, after: Option<&PortalSessionId>, limit: usize) -> Vec<Arc<PortalSession>> {
        self.portal_sessions.directory().page(after, limit)
    }
}
