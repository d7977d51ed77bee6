//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is repeated with the same key takes place
//! once. The log remembers which commands took place; here is how a request becomes a command's name, and the watch
//! over those that still run.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use keyledger_engine::log::{CommandId, CommandKey};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::sha256::Sha256;

use crate::answer::problem::{Code, Problem};

/// The header that names a call.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const LEN_MAX: usize = 255;

/// Marks an answer that was given before.
pub(crate) const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

/// The commands that run now.
#[derive(Debug, Default, Clone)]
pub(crate) struct Running(Arc<Mutex<HashSet<CommandId>>>);

/// A named command while it runs.
pub(crate) struct Named {
    /// Its name, for the log.
    pub key: CommandKey,
    running: Running,
}

impl Drop for Named {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key.id);
    }
}

impl Running {
    /// Names the command of a request by its `Idempotency-Key`, if it has one. The key is the caller's own: the same one
    /// sent by another caller names another command.
    ///
    /// # Errors
    /// `malformed_request` for a key of the wrong form, `idempotency_key_in_use` while the first request runs.
    pub(crate) fn name(
        &self,
        headers: &HeaderMap,
        actor: &Actor,
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
        let key = CommandKey {
            id: CommandId(hash(&[actor.id.as_bytes(), key.as_bytes()])),
            fingerprint: hash(&[path.as_bytes(), body]),
        };
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id) {
            return Err(Problem::of(Code::IdempotencyKeyInUse));
        }
        Ok(Some(Named { key, running: self.clone() }))
    }
}

/// The draft says that the value is a quoted string; most clients send it bare.
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
