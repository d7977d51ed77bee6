//! The ways in which a key breaks a policy.

use crate::domain::key::{CreateKey, EditKey, Key};
use crate::domain::policy::Policy;
use crate::value::text::{Scope, is_same_set};
use crate::value::time::Timestamp;

/// A way in which a key breaks a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Breach {
    /// It never expires.
    ExpiryRequired,
    /// It expires too late, or never.
    LifetimeTooLong {
        /// The longest lifetime, in seconds.
        max_seconds: u64,
    },
    /// It has a scope that is not allowed, given by its index.
    ScopeNotAllowed(usize),
    /// It has no name.
    NameRequired,
    /// Its user has too many active keys.
    TooManyKeysOfUser {
        /// The most that a user may have.
        max: u32,
    },
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ExpiryRequired => f.write_str("the policy requires an expiry"),
            Self::LifetimeTooLong { max_seconds } => {
                write!(f, "the policy requires an expiry at most {max_seconds} seconds after the creation")
            }
            Self::ScopeNotAllowed(_) => f.write_str("the policy does not allow this scope"),
            Self::NameRequired => f.write_str("the policy requires a name"),
            Self::TooManyKeysOfUser { max } => {
                write!(f, "the policy allows a user {max} active keys; revoke or delete one first")
            }
        }
    }
}

impl Policy {
    /// The breaches of a key that would be created at `now`. `keys_of_user` is the number of active keys that
    /// its user has.
    #[must_use]
    pub fn breaches_of_new(&self, new: &CreateKey, now: Timestamp, keys_of_user: u32) -> Vec<Breach> {
        let expiry = self.breach_of_expiry(now, new.expires_at);
        let scopes = self.breaches_of_scopes(&new.scopes);
        let name = (self.name_required && new.name.is_none()).then_some(Breach::NameRequired);
        let keys = self.breach_of_keys(keys_of_user).filter(|_| new.user_id.is_some());
        expiry.into_iter().chain(scopes).chain(name).chain(keys).collect()
    }

    /// The breaches in what an edit changes of a key.
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

    /// The breaches of a key as it is, regardless of the number of its user's keys.
    #[must_use]
    pub fn breaches_of(&self, key: &Key) -> Vec<Breach> {
        let expiry = self.breach_of_expiry(key.created_at, key.expires_at);
        let name = (self.name_required && key.name.is_none()).then_some(Breach::NameRequired);
        expiry.into_iter().chain(self.breaches_of_scopes(&key.scopes)).chain(name).collect()
    }

    /// The breach in one more key for a user with that many active keys.
    #[must_use]
    pub fn breach_of_keys(&self, keys_of_user: u32) -> Option<Breach> {
        let max = self.max_keys_per_user.filter(|max| keys_of_user >= *max)?;
        Some(Breach::TooManyKeysOfUser { max })
    }

    /// The breach in the lifetime of a key that was created at one time and expires at another, or never.
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

    fn breaches_of_scopes(&self, scopes: &[Scope]) -> impl Iterator<Item = Breach> {
        let scopes = scopes.iter().enumerate();
        scopes
            .filter(|(_, scope)| !self.allows_scope(scope.as_str()))
            .map(|(index, _)| Breach::ScopeNotAllowed(index))
    }
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
