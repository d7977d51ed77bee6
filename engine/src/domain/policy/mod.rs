//! The policy: what an organization demands of its keys in one environment.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::key::{CreateKey, EditKey, Key};
use crate::value::environment::Environment;
use crate::value::text::{Scope, is_same_set};
use crate::value::time::Timestamp;

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

/// A way in which a key breaks a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Breach {
    /// It has no end.
    ExpiryRequired,
    /// It ends too late, or never.
    LifetimeTooLong {
        /// The longest life, in seconds.
        max_seconds: u64,
    },
    /// It carries a scope that is not allowed, by its index.
    ScopeNotAllowed(usize),
    /// It has no name.
    NameRequired,
    /// Its user has too many active keys.
    TooManyKeysOfUser {
        /// How many they may have.
        max: u32,
    },
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ExpiryRequired => f.write_str("the policy demands an end"),
            Self::LifetimeTooLong { max_seconds } => {
                write!(f, "the policy demands an end at most {max_seconds} seconds after the creation")
            }
            Self::ScopeNotAllowed(_) => f.write_str("the policy does not allow this scope"),
            Self::NameRequired => f.write_str("the policy demands a name"),
            Self::TooManyKeysOfUser { max } => {
                write!(f, "the policy allows a user {max} active keys; revoke or delete one first")
            }
        }
    }
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

    /// How a key that is to be created at `now` breaks the policy. `keys_of_user` says how many active keys its user has.
    #[must_use]
    pub fn breaches_of_new(&self, new: &CreateKey, now: Timestamp, keys_of_user: u32) -> Vec<Breach> {
        let expiry = self.breach_of_expiry(now, new.expires_at);
        let scopes = self.breaches_of_scopes(&new.scopes);
        let name = (self.name_required && new.name.is_none()).then_some(Breach::NameRequired);
        let keys = self.breach_of_keys(keys_of_user).filter(|_| new.user_id.is_some());
        expiry.into_iter().chain(scopes).chain(name).chain(keys).collect()
    }

    /// How what an edit changes of a key breaks the policy.
    #[must_use]
    pub fn breaches_of_edit(&self, key: &Key, edit: &EditKey) -> Vec<Breach> {
        let expiry = edit.expires_at.filter(|end| *end != key.expires_at);
        let expiry = expiry.and_then(|end| self.breach_of_expiry(key.created_at, end));
        let scopes = edit.scopes.as_ref().filter(|scopes| !is_same_set(scopes, &key.scopes));
        let scopes = scopes.into_iter().flat_map(|scopes| self.breaches_of_scopes(scopes));
        let name = edit.name.as_ref().is_some_and(|name| name.is_none() && key.name.is_some());
        let name = (self.name_required && name).then_some(Breach::NameRequired);
        expiry.into_iter().chain(scopes).chain(name).collect()
    }

    /// How a key as it is breaks the policy by itself; how many others its user has is not looked at.
    #[must_use]
    pub fn breaches_of(&self, key: &Key) -> Vec<Breach> {
        let expiry = self.breach_of_expiry(key.created_at, key.expires_at);
        let name = (self.name_required && key.name.is_none()).then_some(Breach::NameRequired);
        expiry.into_iter().chain(self.breaches_of_scopes(&key.scopes)).chain(name).collect()
    }

    /// Whether a user who has that many active keys may have no other.
    #[must_use]
    pub fn breach_of_keys(&self, keys_of_user: u32) -> Option<Breach> {
        let max = self.max_keys_per_user.filter(|max| keys_of_user >= *max)?;
        Some(Breach::TooManyKeysOfUser { max })
    }

    /// How a key breaks the policy that was created at one time and ends at another, or never.
    #[must_use]
    pub fn breach_of_expiry(&self, created_at: Timestamp, expires_at: Option<Timestamp>) -> Option<Breach> {
        let max = self.max_lifetime_seconds.map(|max_seconds| Breach::LifetimeTooLong { max_seconds });
        let Some(end) = expires_at else {
            return max.or_else(|| self.expiry_required.then_some(Breach::ExpiryRequired));
        };
        let max_millis =
            self.max_lifetime_seconds.and_then(|max| i64::try_from(max.saturating_mul(1_000)).ok());
        let lifetime = end.millis().saturating_sub(created_at.millis());
        max.filter(|_| max_millis.is_some_and(|max| lifetime > max))
    }

    /// Whether keys may carry a scope.
    #[must_use]
    pub fn allows_scope(&self, scope: &str) -> bool {
        self.allowed_scopes.as_ref().is_none_or(|allowed| allowed.iter().any(|it| it.as_str() == scope))
    }

    fn breaches_of_scopes(&self, scopes: &[Scope]) -> impl Iterator<Item = Breach> {
        let scopes = scopes.iter().enumerate();
        scopes
            .filter(|(_, scope)| !self.allows_scope(scope.as_str()))
            .map(|(index, _)| Breach::ScopeNotAllowed(index))
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

/// An organization demands this of its keys in an environment from now on, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySet {
    /// The environment.
    pub environment: Environment,
    /// What it demands.
    pub policy: Policy,
}

/// An organization demands nothing of its keys in an environment any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRemoved {
    /// The environment.
    pub environment: Environment,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[track_caller]
    fn check(policy: &Policy, lives_millis: Option<i64>, expected: Option<Breach>) {
        let created = Timestamp::from_millis(1_790_000_000_000);
        let end = lives_millis.map(|millis| created.saturating_add_millis(millis));
        assert_eq!(policy.breach_of_expiry(created, end), expected);
    }

    #[test]
    fn a_life_is_measured_to_the_millisecond() {
        let policy = Policy { max_lifetime_seconds: Some(DAY), ..Policy::default() };
        let too_long = Some(Breach::LifetimeTooLong { max_seconds: DAY });
        check(&policy, Some(86_400_000), None);
        check(&policy, Some(86_400_001), too_long);
        check(&policy, None, too_long);
        check(&Policy { max_lifetime_seconds: Some(u64::MAX), ..Policy::default() }, Some(i64::MAX), None);
        let required = Policy { expiry_required: true, ..Policy::default() };
        check(&required, None, Some(Breach::ExpiryRequired));
        check(&required, Some(i64::MAX), None);
        check(&Policy::default(), None, None);
    }

    #[test]
    fn a_user_may_have_as_many_keys_as_the_policy_says() {
        let policy = Policy { max_keys_per_user: Some(2), ..Policy::default() };
        assert_eq!(policy.breach_of_keys(1), None);
        assert_eq!(policy.breach_of_keys(2), Some(Breach::TooManyKeysOfUser { max: 2 }));
        assert_eq!(Policy::default().breach_of_keys(u32::MAX), None);
    }

    #[test]
    fn allowed_scopes_have_no_order() {
        let of = |scopes: &[&str]| Policy {
            allowed_scopes: Some(scopes.iter().map(|it| Scope::new(it).unwrap()).collect()),
            ..Policy::default()
        };
        assert!(of(&["a", "b"]).is_same(&of(&["b", "a"])));
        assert!(!of(&["a", "b"]).is_same(&of(&["a"])) && !of(&[]).is_same(&Policy::default()));
        assert!(!of(&["a"]).is_same(&Policy { name_required: true, ..of(&["a"]) }));
    }

    #[test]
    fn no_scopes_at_all_can_be_allowed() {
        let policy = Policy { allowed_scopes: Some(Vec::new()), ..Policy::default() };
        assert!(!policy.allows_scope("read:users"));
        assert!(Policy::default().allows_scope("read:users"));
    }
}
