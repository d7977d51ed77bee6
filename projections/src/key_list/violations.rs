//! Keys that break the policies of their organization, as far as the columns show.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use keyledger_engine::domain::key::KeyStatus;
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;

use super::chunk::{Chunk, NEVER};
use super::query::KeyQuery;

/// The policies of a query, and the violations that depend on several keys.
pub(super) struct Violations<'a> {
    policies: &'a [(Environment, Arc<Policy>)],
    pub(super) over_user_limit: HashSet<KeyId>,
}

impl<'a> Violations<'a> {
    /// Evaluates the policies of a query; `chunks` must hold all keys of the organization.
    pub(super) fn of(query: &'a KeyQuery, chunks: &[Arc<Chunk>]) -> Self {
        let policies = query.breaks.as_slice();
        let limits = policies.iter().filter_map(|(environment, policy)| {
            policy.max_keys_per_user.map(|max| (*environment, max as usize))
        });
        let over = limits
            .flat_map(|(environment, max)| over_user_limit(chunks, environment, max, query.now.millis()));
        Self { policies, over_user_limit: over.collect() }
    }

    /// Whether the key of a row breaks its policy.
    pub(super) fn has(&self, chunk: &Chunk, row: usize) -> bool {
        let environment = chunk.environment(row);
        let Some((_, policy)) = self.policies.iter().find(|it| it.0 == environment) else { return false };
        let created_at = Timestamp::from_millis(chunk.created_at.get(row).copied().unwrap_or_default());
        let end = chunk.expires_at.get(row).copied().filter(|end| *end != NEVER).map(Timestamp::from_millis);
        let allows = |scope| std::str::from_utf8(scope).is_ok_and(|scope| policy.allows_scope(scope));
        policy.breach_of_expiry(created_at, end).is_some()
            || policy.name_required && chunk.folded_name(row).is_empty()
            || policy.allowed_scopes.is_some() && !chunk.scopes(row).all(allows)
            || chunk.ids.get(row).is_some_and(|id| self.over_user_limit.contains(id))
    }
}

/// Returns the active keys of each user beyond the user's `max` oldest ones.
fn over_user_limit(chunks: &[Arc<Chunk>], environment: Environment, max: usize, now: i64) -> Vec<KeyId> {
    let mut users: HashMap<&[u8], Vec<(i64, KeyId)>> = HashMap::new();
    for chunk in chunks {
        for row in 0..chunk.len() {
            let counts = chunk.environment(row) == environment && chunk.status(row, now) == KeyStatus::Active;
            if !counts {
                continue;
            }
            let key = chunk.created_at.get(row).copied().zip(chunk.ids.get(row).copied());
            if let (Some(user), Some(key)) = (chunk.user(row), key) {
                users.entry(user).or_default().push(key);
            }
        }
    }
    let over = users.into_values().flat_map(|mut keys| {
        keys.sort_unstable();
        keys.into_iter().skip(max)
    });
    over.map(|(_, id)| id).collect()
}
