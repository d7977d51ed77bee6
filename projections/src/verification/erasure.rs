//! Drops the personal text of an erased subject. The log only names the destroyed keys, so the ledger says
//! whose they were. The result equals a replay of the log without those keys.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::UserId;
use keyledger_engine::vault::Subject;

use super::VerificationIndex;
use super::token_map::Token;
use super::writer_state::WriterState;

impl VerificationIndex {
    /// Drops the personal text of a subject. Its keys stay as valid as they were. Its portal sessions end,
    /// because their user is no longer known. Records wait meanwhile; verification does not.
    pub fn erase(&self, subject: &Subject) {
        let (organization_id, user_id) = match subject {
            Subject::Installation => return,
            Subject::Organization(organization_id) => (organization_id, None),
            Subject::User(organization_id, user_id) => (organization_id, Some(user_id)),
        };
        let mut writer = self.writer();
        // A snapshot in progress may already hold the text.
        writer.walk = None;
        let groups = writer.groups.iter().filter(|group| group.id == *organization_id);
        for group in groups.map(|group| group.number).collect::<Vec<_>>() {
            self.erase_keys(&mut writer, group, user_id);
        }
        self.portal_sessions.erase(&mut writer, organization_id, user_id);
        if user_id.is_none() {
            self.erase_organization(&mut writer, organization_id);
        }
        self.end_authentication_epoch();
        self.erasures.fetch_add(1, Ordering::Release);
    }

    /// Number of erasures since the start. Text read at a lower number may have been erased since.
    #[must_use]
    pub fn erasures(&self) -> u64 {
        self.erasures.load(Ordering::Acquire)
    }

    fn erase_keys(&self, writer: &mut WriterState, group: u32, user_id: Option<&UserId>) {
        let guard = self.tokens.guard();
        for digest in writer.digests_of(group) {
            let Some(before) = self.tokens.get(&digest, &guard).map(Token::key) else { continue };
            let is_concerned = match user_id {
                Some(user_id) => before.user_id() == Some(user_id),
                None => before.text().is_some(),
            };
            if !is_concerned {
                continue;
            }
            let mut after = before.clone();
            after.edit_text(|text| *text = Default::default());
            writer.remove_from_user(before);
            let previous = writer.previous_tokens.get(&after.key_id()).map_or(&[][..], Vec::as_slice);
            self.put_key(after, &digest, previous);
        }
    }

    /// Drops the organization's own name and the names of its root keys and applications.
    fn erase_organization(&self, writer: &mut WriterState, id: &OrganizationId) {
        if let Some(organization) = self.organizations.get(id) {
            let mut organization = Arc::unwrap_or_clone(organization);
            organization.name = None;
            self.organizations.insert(id.clone(), organization);
        }
        for root_key in self.root_keys.page(None, usize::MAX) {
            if root_key.organization_id.as_ref() == Some(id) {
                let mut root_key = Arc::unwrap_or_clone(root_key);
                root_key.name = None;
                // Cannot fail: the organization already has a group, so no new one is allocated.
                let _ = self.put_root_token(writer, &root_key);
                self.root_keys.insert(root_key.id, root_key);
            }
        }
        for application in self.applications.page(None, usize::MAX) {
            if application.organization_id.as_ref() == Some(id) {
                let mut application = Arc::unwrap_or_clone(application);
                application.name = None;
                self.applications.insert(application.id, application);
            }
        }
    }
}
