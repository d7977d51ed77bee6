//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is repeated with the same key
//! is executed once. The log remembers the executed commands. This file derives a command's key from a
//! request, and tracks the keys of commands that are still running.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName};
use keyledger_engine::crypto::sha256::Sha256;
use keyledger_engine::log::{CommandId, CommandKey};
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::id::OrganizationId;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::principal::Principal;

/// The header with the client's key.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const LEN_MAX: usize = 255;

/// The commands with an idempotency key that are running.
#[derive(Debug, Default, Clone)]
pub(crate) struct Running(Arc<Mutex<HashSet<CommandId>>>);

/// A command with an idempotency key while it runs. Dropping it releases the key.
pub(crate) struct Named {
    /// The key under which the log remembers the command.
    pub key: CommandKey,
    running: Running,
}

impl Drop for Named {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key.id);
    }
}

impl Running {
    /// Reserves the `Idempotency-Key` of a request, if it has one. Keys are scoped to the caller: the same
    /// key from another caller belongs to another command. `path` and `body` are the fingerprint that a
    /// repetition must match.
    ///
    /// # Errors
    /// `malformed_request` for an invalid key, `idempotency_key_in_use` while the first request runs.
    pub(crate) fn name(
        &self,
        headers: &HeaderMap,
        caller: &Principal,
        path: &str,
        body: &[u8],
    ) -> Result<Option<Named>, Problem> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let key = value.to_str().ok().map(unquoted).filter(|key| (1..=LEN_MAX).contains(&key.len()));
        let Some(key) = key else {
            return Err(Problem::new(
                Code::MalformedRequest,
                "Idempotency-Key must be 1 to 255 visible ASCII characters, quoted or not",
            ));
        };
        let key = CommandKey { id: command_id(caller, key), fingerprint: hash(&[path.as_bytes(), body]) };
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id) {
            return Err(Problem::of(Code::IdempotencyKeyInUse));
        }
        Ok(Some(Named { key, running: self.clone() }))
    }
}

/// Returns the id of the command that a caller names with a key. No two callers share an id: those of root
/// keys, applications, sessions and keys are unique, and each of them belongs to one organization for good. A
/// user's id is the provider's choice, and the provider can move a user to another organization.
fn command_id(caller: &Principal, key: &str) -> CommandId {
    let Principal { kind, id, organization_id, .. } = caller;
    CommandId(match kind {
        ActorKind::User => {
            let organization_id = organization_id.as_ref().map_or("", OrganizationId::as_str);
            hash(&[kind.as_str(), organization_id, id, key].map(str::as_bytes))
        }
        _ => hash(&[id, key].map(str::as_bytes)),
    })
}

/// The draft requires a quoted string, but most clients send the bare key.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(hasher.finalize().split_at(16).0);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_callers_share_a_command() {
        let id = |kind, id: &str, organization: Option<&str>| {
            let caller = Principal {
                kind,
                id: id.into(),
                organization_id: organization.map(|id| id.parse().unwrap()),
                user_id: None,
                permissions: Vec::new(),
                expires_at: None,
            };
            command_id(&caller, "k").0
        };
        let root_key = "rk_01KAJX7Q5M3J6S2Y9W8V4T1R0P";
        let ids = [
            id(ActorKind::RootKey, root_key, None),
            id(ActorKind::User, root_key, None),
            id(ActorKind::User, root_key, Some("acme")),
            id(ActorKind::User, root_key, Some("zeta")),
            id(ActorKind::User, "olga", Some("acme")),
            // The parts of an id cannot be moved from one to the next.
            id(ActorKind::User, "golga", Some("acm")),
        ];
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert_eq!(ids[0], id(ActorKind::RootKey, root_key, None));
    }
}
