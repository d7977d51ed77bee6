//! The principal: somebody whose credential was found good, and what they may do.

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

/// An authenticated caller, whatever kind of credential they came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The kind of caller.
    pub kind: ActorKind,
    /// The caller's id, as the log names them.
    pub id: Box<str>,
    /// The only organization that the caller may see, if bound to one.
    pub organization_id: Option<OrganizationId>,
    /// The only user whose keys the caller may see, if there is such a one.
    pub user_id: Option<UserId>,
    /// What the caller may do.
    pub permissions: Vec<Permission>,
    /// When the credential ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// Whoever has a root key's token.
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

    /// An application with an access token for `scope`. It may do what the token was given for and the application itself
    /// may do still.
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

    /// Whoever is signed in to the portal.
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

    /// Somebody whom an OpenID provider vouches for. Who has no role in an organization that is there may do nothing.
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

    /// Whether the caller may see what belongs to an organization and, in it, to a user or to nobody in particular.
    #[must_use]
    pub(crate) fn sees(&self, organization_id: &OrganizationId, user_id: Option<&UserId>) -> bool {
        self.organization_id.as_ref().is_none_or(|bound| bound == organization_id)
            && self.user_id.as_ref().is_none_or(|own| user_id == Some(own))
    }

    /// Whether the caller may do what a permission allows.
    #[must_use]
    pub(crate) fn may(&self, permission: Permission) -> bool {
        permission.is_granted_by(&self.permissions)
    }

    /// Whether the credential is good still at `now`, as far as time goes.
    #[must_use]
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}
