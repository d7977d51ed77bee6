//! Handing on rights: the one rule that decides whether a caller may create or change a credential, or let a
//! person in. What is handed on is part of what the caller has, and ends no later.
//!
//! Rights are handed on by root keys, applications and their secrets, portal sessions and webhooks. Keys are
//! none of these: they are what an organization owns, and no credential of this service.

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::UserId;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::principal::Principal;

/// The permission to see what a webhook receives.
const WEBHOOK_PERMISSIONS: &[Permission] = &[Permission::EventsRead];

/// Rights that a caller is about to hand on, or that a credential has which the caller is about to change or
/// to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub permissions: &'a [Permission],
    /// The only organization that the rights are for; none for all organizations.
    pub organization_id: Option<&'a OrganizationId>,
    /// The only user whose keys the rights are for; none for all keys.
    pub user_id: Option<&'a UserId>,
}

impl<'a> Grant<'a> {
    /// Rights in an organization, or in all for none.
    #[must_use]
    pub(crate) const fn new(
        permissions: &'a [Permission],
        organization_id: Option<&'a OrganizationId>,
    ) -> Self {
        Self { permissions, organization_id, user_id: None }
    }

    #[must_use]
    pub(crate) fn of_root_key(root_key: &'a RootKey) -> Self {
        Self::new(&root_key.permissions, root_key.organization_id.as_ref())
    }

    #[must_use]
    pub(crate) fn of_application(application: &'a Application) -> Self {
        Self::new(&application.permissions, application.organization_id.as_ref())
    }

    /// The rights of a person with a role in an organization.
    #[must_use]
    pub(crate) fn of_role(
        role: Role,
        organization_id: &'a OrganizationId,
        user_id: Option<&'a UserId>,
    ) -> Self {
        let user_id = user_id.filter(|_| role.sees_own_keys_only());
        Self { user_id, ..Self::new(role.permissions(), Some(organization_id)) }
    }

    /// What a webhook receives: the events of an organization, or all for none.
    #[must_use]
    pub(crate) const fn of_receiver(organization_id: Option<&'a OrganizationId>) -> Self {
        Self::new(WEBHOOK_PERMISSIONS, organization_id)
    }

    #[must_use]
    pub(crate) fn of_webhook(webhook: &'a Webhook) -> Self {
        Self::of_receiver(webhook.organization_id.as_ref())
    }

    /// Checks that the rights are part of a caller's own.
    ///
    /// # Errors
    /// `organization_not_found` for rights outside the caller's organization; `forbidden`, naming what the
    /// caller lacks.
    pub(crate) fn check(self, own: &Principal) -> Result<(), Problem> {
        if own.organization_id.is_some() && own.organization_id.as_ref() != self.organization_id {
            return Err(Problem::of(Code::OrganizationNotFound));
        }
        if own.user_id.is_some() && own.user_id.as_ref() != self.user_id {
            return Err(Problem::new(
                Code::Forbidden,
                "the caller sees the keys of one user only, so it cannot grant access to those of others",
            ));
        }
        match self.permissions.iter().find(|permission| !own.may(**permission)) {
            None => Ok(()),
            Some(permission) => Err(Problem::new(
                Code::Forbidden,
                format!(
                    "the caller lacks the permission {permission}, so it can neither grant it nor change or end a \
                     credential that has it"
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use keyledger_engine::value::actor::ActorKind;
    use proptest::prelude::*;

    use super::*;

    fn permissions() -> impl Strategy<Value = Vec<Permission>> {
        let all: Vec<Permission> = Permission::names().map(|name| name.parse().unwrap()).collect();
        proptest::sample::subsequence(all, 0..=6)
    }

    fn organization() -> impl Strategy<Value = Option<OrganizationId>> {
        proptest::option::of(prop_oneof![Just("acme"), Just("zeta")].prop_map(|id| id.parse().unwrap()))
    }

    fn user() -> impl Strategy<Value = Option<UserId>> {
        proptest::option::of(prop_oneof![Just("ada"), Just("bob")].prop_map(|id| UserId::new(id).unwrap()))
    }

    /// Everything that a holder may do: each permission for each user's keys in each organization.
    fn acts(
        held: &[Permission],
        organization_id: Option<&OrganizationId>,
        user_id: Option<&UserId>,
    ) -> Vec<(Permission, &'static str, &'static str)> {
        let mut acts = Vec::new();
        for name in Permission::names() {
            let permission: Permission = name.parse().unwrap();
            for organization in ["acme", "zeta", "another"] {
                for user in ["ada", "bob", "another"] {
                    let is_theirs = permission.is_granted_by(held)
                        && organization_id.is_none_or(|it| it.as_str() == organization)
                        && user_id.is_none_or(|it| it.as_str() == user);
                    acts.extend(is_theirs.then_some((permission, organization, user)));
                }
            }
        }
        acts
    }

    proptest! {
        /// The rule is: everything that the rights allow, the caller may do.
        #[test]
        fn rights_are_part_of_the_callers_own(
            own in (permissions(), organization(), user()),
            granted in (permissions(), organization(), user()),
        ) {
            let principal = Principal {
                kind: ActorKind::RootKey,
                id: "rk_x".into(),
                organization_id: own.1.clone(),
                user_id: own.2.clone(),
                permissions: own.0.clone(),
                expires_at: None,
            };
            let grant = Grant {
                permissions: &granted.0,
                organization_id: granted.1.as_ref(),
                user_id: granted.2.as_ref(),
            };
            let is_allowed = grant.check(&principal).is_ok();
            let own = acts(&own.0, own.1.as_ref(), own.2.as_ref());
            let granted = acts(&granted.0, granted.1.as_ref(), granted.2.as_ref());
            let is_part = granted.iter().all(|act| own.contains(act));
            // Rights that allow nothing are refused all the same outside the caller's organization.
            prop_assert!(is_allowed == is_part || (granted.is_empty() && !is_allowed));
        }
    }
}
