//! Portal sessions that can still be used: links not followed yet, and started sessions. An expired one is
//! removed with the next event of any session; the log keeps it.
//!
//! A session ends with the credential that minted it: it is removed when that root key is revoked, that
//! application deleted, or that session over, and with it everything that it minted itself. A session whose
//! minter has already ended never gets here. So one lookup decides, however long the chain of minters is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::portal_session::{Minter, PortalSession, PortalSessionStatus};
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

    /// Inserts a session that is not in the index.
    pub(super) fn put(&self, writer: &mut WriterState, session: PortalSession) {
        writer.portal_session_ends.insert((session.expires_at.millis(), session.id));
        if let Some(minter) = session.minter() {
            writer.minted_sessions.insert((minter, session.id));
        }
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
                self.end(writer, session.id);
            }
        }
    }

    /// Ends a session, and the sessions that it minted.
    fn end(&self, writer: &mut WriterState, id: PortalSessionId) {
        self.take(writer, id);
        self.end_minted_by(writer, Minter::PortalSession(id));
    }

    /// Ends the sessions that a credential minted, those that they minted, and so on.
    pub(super) fn end_minted_by(&self, writer: &mut WriterState, minter: Minter) {
        let mut ending = writer.minted_by(minter);
        while let Some(id) = ending.pop() {
            ending.extend(writer.minted_by(Minter::PortalSession(id)));
            self.take(writer, id);
        }
    }

    /// Removes a session, and keeps those that it minted.
    fn take(&self, writer: &mut WriterState, id: PortalSessionId) {
        if let Some(session) = self.by_id.get(&id) {
            self.by_digest.pin().remove(&current_digest(&session));
            self.by_id.remove(&id);
            writer.portal_session_ends.remove(&(session.expires_at.millis(), id));
            if let Some(minter) = session.minter() {
                writer.minted_sessions.remove(&(minter, id));
            }
        }
    }

    fn find(&self, digest: &Digest) -> Option<Arc<PortalSession>> {
        let id = self.by_digest.pin().get(&DigestKey::new(digest)).copied()?;
        self.by_id.get(&id)
    }
}

impl WriterState {
    fn minted_by(&self, minter: Minter) -> Vec<PortalSessionId> {
        let (first, last) = (PortalSessionId::from_u128(0), PortalSessionId::from_u128(u128::MAX));
        self.minted_sessions.range((minter, first)..=(minter, last)).map(|(_, id)| *id).collect()
    }
}

fn current_digest(session: &PortalSession) -> DigestKey<32> {
    DigestKey::new(session.digest.as_ref().unwrap_or(&session.link_digest))
}

impl VerificationIndex {
    pub(super) fn apply_to_portal_session(
        &self,
        writer: &mut WriterState,
        id: PortalSessionId,
        record: &Record,
    ) -> Result<(), Reason> {
        let sessions = &self.portal_sessions;
        let before = sessions.by_id.get(&id).map(Arc::unwrap_or_clone);
        let is_new = before.is_none();
        // It was removed when it or its minter ended. Events that were decided before that may follow.
        if is_new && !matches!(record.event, Event::PortalSessionCreated(..)) {
            return Ok(());
        }
        let after = PortalSession::apply(before, record).ok_or_else(|| does_not_follow(record))?;
        let after = if is_new { self.within_its_minter(after) } else { Some(after) };
        match after.filter(|session| session.ended_at.is_none() && !session.is_erased) {
            Some(session) => {
                sessions.take(writer, id);
                sessions.put(writer, session);
            }
            None => sessions.end(writer, id),
        }
        while let Some((end, id)) = writer.portal_session_ends.first().copied() {
            if end > record.time.millis() {
                break;
            }
            sessions.end(writer, id);
        }
        Ok(())
    }

    /// Returns a new session with an end no later than its minter's; none if the minter has ended already.
    fn within_its_minter(&self, session: PortalSession) -> Option<PortalSession> {
        match session.minter() {
            Some(Minter::PortalSession(id)) => {
                let minter = self.portal_sessions.by_id.get(&id)?;
                // Events of schema 1 do not say when the minter ends.
                Some(session.ending_by(minter.expires_at))
            }
            Some(Minter::RootKey(id)) => {
                self.root_keys.get(&id).filter(|it| it.revoked_at.is_none()).map(|_| session)
            }
            Some(Minter::Application(id)) => {
                self.applications.get(&id).filter(|it| it.deleted_at.is_none()).map(|_| session)
            }
            None => Some(session),
        }
    }

    /// Returns the portal session that a link's secret starts, if the link can be followed at `now`.
    #[must_use]
    pub fn portal_link(&self, secret: &str, now: Timestamp) -> Option<Arc<PortalSession>> {
        self.portal_session_with(SecretKind::PortalLink, secret, PortalSessionStatus::Pending, now)
    }

    /// Returns the portal session with this secret. Returns `None` when the secret is unknown, the session or
    /// its minter has ended at `now` or its organization is deleted, and always in a
    /// [poisoned](Self::poisoned) index.
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

    /// Returns the portal session with this id if neither it nor its minter was ended. It may have expired,
    /// or belong to a deleted organization.
    #[must_use]
    pub fn portal_session(&self, id: PortalSessionId) -> Option<Arc<PortalSession>> {
        self.portal_sessions.by_id.get(&id)
    }

    /// Whether a session was minted by the session `ancestor`, or by one that `ancestor` minted, and so on.
    #[must_use]
    pub fn is_minted_below(&self, session: &PortalSession, ancestor: PortalSessionId) -> bool {
        let mut minter = session.minter();
        while let Some(Minter::PortalSession(id)) = minter {
            if id == ancestor {
                return true;
            }
            minter = self.portal_sessions.by_id.get(&id).and_then(|session| session.minter());
        }
        false
    }

    /// Returns at most `limit` portal sessions after the id `after`, in id order, that were not ended, nor
    /// their minter. Some may have expired, or belong to a deleted organization.
    #[must_use]
    pub fn portal_sessions(&self, after: Option<&PortalSessionId>, limit: usize) -> Vec<Arc<PortalSession>> {
        self.portal_sessions.directory().page(after, limit)
    }
}
