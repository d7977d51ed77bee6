//! The state of a policy, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::value::environment::Environment;
use crate::value::text::{Scope, is_same_set};

/// What an organization demands of its keys in one environment. Nothing is demanded by default. It is looked at when a key
/// is created, in what an edit changes, and when a key is reactivated; what existed before stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The longest life of a key, in seconds from its creation to its end. A key without an end breaks it.
    pub max_lifetime_seconds: Option<u64>,
    /// Whether keys must have an end.
    pub expiry_required: bool,
    /// How many active keys a user may have.
    pub max_keys_per_user: Option<u32>,
    /// The only scopes that keys may carry.
    pub allowed_scopes: Option<Vec<Scope>>,
    /// Whether keys must have a name.
    pub name_required: bool,
}

impl Policy {
    /// Whether another demands the same: the scopes that it allows have no order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_scopes = match (&self.allowed_scopes, &other.allowed_scopes) {
            (Some(these), Some(those)) => is_same_set(these, those),
            (these, those) => these.is_none() && those.is_none(),
        };
        same_scopes && Self { allowed_scopes: other.allowed_scopes.clone(), ..self.clone() } == *other
    }

    /// Whether keys may carry a scope.
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
    /// The policy for an environment, if there is one.
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

    /// Every policy with its environment.
    pub fn iter(&self) -> impl Iterator<Item = (Environment, &Arc<Policy>)> {
        let all = [Environment::Preview, Environment::Production];
        all.into_iter().filter_map(|environment| Some((environment, self.get(environment)?)))
    }

    /// Whether one of them bounds how many keys a user may have.
    #[must_use]
    pub fn count_keys_of_users(&self) -> bool {
        self.iter().any(|(_, policy)| policy.max_keys_per_user.is_some())
    }
}
