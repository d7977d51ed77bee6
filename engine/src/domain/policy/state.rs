//! The state of a policy, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::value::environment::Environment;
use crate::value::text::{Scope, is_same_set};

/// An organization's requirements on its keys in one environment. The default requires nothing. A policy
/// applies to new keys, to the fields that an edit changes, and to reactivations; existing keys stay as they
/// are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The longest lifetime of a key, in seconds from its creation to its expiry. A key that never expires
    /// breaches it.
    pub max_lifetime_seconds: Option<u64>,
    /// Whether keys must expire.
    pub expiry_required: bool,
    /// The most active keys that a user may have.
    pub max_keys_per_user: Option<u32>,
    /// The only scopes that keys may have.
    pub allowed_scopes: Option<Vec<Scope>>,
    /// Whether keys must have a name.
    pub name_required: bool,
}

impl Policy {
    /// Whether another policy requires the same. The order of allowed scopes does not matter.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_scopes = match (&self.allowed_scopes, &other.allowed_scopes) {
            (Some(these), Some(those)) => is_same_set(these, those),
            (these, those) => these.is_none() && those.is_none(),
        };
        same_scopes && Self { allowed_scopes: other.allowed_scopes.clone(), ..self.clone() } == *other
    }

    /// Whether keys may have a scope.
    #[must_use]
    pub fn allows_scope(&self, scope: &str) -> bool {
        self.allowed_scopes.as_ref().is_none_or(|allowed| allowed.iter().any(|it| it.as_str() == scope))
    }
}

/// The policies of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policies {
    preview: Option<Arc<Policy>>,
    production: Option<Arc<Policy>>,
}

impl Policies {
    /// The policy for an environment; none if nothing is required.
    #[must_use]
    pub const fn get(&self, environment: Environment) -> Option<&Arc<Policy>> {
        match environment {
            Environment::Preview => self.preview.as_ref(),
            Environment::Production => self.production.as_ref(),
        }
    }

    pub(crate) fn set(&mut self, environment: Environment, policy: Option<Policy>) {
        let policy = policy.map(Arc::new);
        match environment {
            Environment::Preview => self.preview = policy,
            Environment::Production => self.production = policy,
        }
    }

    /// All policies with their environments.
    pub fn iter(&self) -> impl Iterator<Item = (Environment, &Arc<Policy>)> {
        let all = [Environment::Preview, Environment::Production];
        all.into_iter().filter_map(|environment| Some((environment, self.get(environment)?)))
    }

    /// Whether a policy bounds the number of a user's keys.
    #[must_use]
    pub fn count_keys_of_users(&self) -> bool {
        self.iter().any(|(_, policy)| policy.max_keys_per_user.is_some())
    }
}
