//! The principal: an authenticated caller and what they may do.

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;

use crate::auth::oidc;
use crate::evidence::credential::Credential;

/// An authenticated caller, independent of the kind of credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The kind of caller, as the log records it.
    pub kind: ActorKind,
    /// The caller's id, as the log records it.
    pub id: Box<str>,
    /// The only organization that the caller may see, if bound to one.
    pub organization_id: Option<OrganizationId>,
    /// The only user whose keys the caller may see, if limited to one.
    pub user_id: Option<UserId>,
    pub permissions: Vec<Permission>,
    /// When the credential expires.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    #[must_use]
    pub(crate) fn of_root_key(root_key: &RootKey) -> Self {
        Self {
            kind: ActorKind::RootKey,
            id: root_key.id.to_string().into(),
            organization_id: root_key.organization_id.clone(),
            user_id: None,
            permissions: root_key.permissions.clone(),
            expires_at: None,
        }
    }

    /// Returns the principal of an application with an access token for `scope`. Its permissions are those in
    /// both the scope and the application's current permissions.
    #[must_use]
    pub(crate) fn of_application(
        application: &Application,
        scope: &[Permission],
        expires_at: Timestamp,
    ) -> Self {
        Self {
            kind: ActorKind::Application,
            id: application.id.to_string().into(),
            organization_id: application.organization_id.clone(),
            user_id: None,
            permissions: Permission::in_both(scope, &application.permissions),
            expires_at: Some(expires_at),
        }
    }

    #[must_use]
    pub(crate) fn of_portal_session(session: &PortalSession) -> Self {
        Self {
            kind: ActorKind::PortalSession,
            id: session.id.to_string().into(),
            organization_id: Some(session.organization_id.clone()),
            user_id: session.user_id.clone().filter(|_| session.role.sees_own_keys_only()),
            permissions: session.role.permissions().to_vec(),
            expires_at: Some(session.expires_at),
        }
    }

    /// Returns the principal of an OpenID provider's user. Without a role in an active organization it has no
    /// permissions.
    #[must_use]
    pub(crate) fn of_user(user: &oidc::User, is_active: impl FnOnce(&OrganizationId) -> bool) -> Self {
        let organization_id = user.organization_id.clone().filter(is_active);
        let role = user.role.filter(|_| organization_id.is_some());
        Self {
            kind: ActorKind::User,
            id: user.id.as_str().into(),
            organization_id,
            user_id: Some(user.id.clone()).filter(|_| role.is_none_or(Role::sees_own_keys_only)),
            permissions: role.map_or_else(Vec::new, |role| role.permissions().to_vec()),
            expires_at: Some(user.expires_at),
        }
    }

    /// The kind of credential that the caller sends with each request.
    #[must_use]
    pub(crate) const fn credential(&self) -> Credential {
        match self.kind {
            ActorKind::RootKey => Credential::RootKey,
            ActorKind::Application => Credential::AccessToken,
            ActorKind::User => Credential::OpenIdToken,
            ActorKind::PortalSession => Credential::Session,
            ActorKind::Key | ActorKind::System => Credential::Other,
        }
    }

    /// Whether the caller may see an object of an organization that belongs to `user_id`, or to no user.
    #[must_use]
    pub(crate) fn sees(&self, organization_id: &OrganizationId, user_id: Option<&UserId>) -> bool {
        self.organization_id.as_ref().is_none_or(|bound| bound == organization_id)
            && self.user_id.as_ref().is_none_or(|own| user_id == Some(own))
    }

    /// Whether the caller has a permission.
    #[must_use]
    pub(crate) fn may(&self, permission: Permission) -> bool {
        permission.is_granted_by(&self.permissions)
    }

    /// Whether the credential is unexpired at `now`.
    #[must_use]
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}
