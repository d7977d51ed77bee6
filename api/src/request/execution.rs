//! From a request to a command and back to an answer: what all calls that change something share.

use std::sync::Arc;

use http::HeaderMap;
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::ledger::{self, Aggregate, Command, Committed, Ledger, Request};
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::time::Timestamp;

use crate::answer::problem::Problem;
use crate::auth::caller::Caller;
use crate::request::precondition::{expected_versions, version_conflict};
use crate::service::Service;

/// A command's result with the object of the type that the call is about.
pub(crate) struct Outcome<T> {
    /// The object after the command.
    pub object: T,
    /// Its version.
    pub version: Version,
    /// The position to answer.
    pub position: Position,
    /// When the command took place.
    pub time: Timestamp,
    /// Whether it had taken place before.
    pub replayed: bool,
}

/// Carries out a command for a caller. `name` is what the `Idempotency-Key` is bound to beside the caller: method and
/// path, and the body; none where a call takes no such key.
///
/// # Errors
/// What refuses the command, or a header of the wrong form.
pub(crate) async fn execute(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    name: Option<(&str, &[u8])>,
    command: Command,
) -> Result<Committed, Problem> {
    let named = match name {
        Some((path, body)) => service.running.name(headers, &caller.actor, path, body)?,
        None => None,
    };
    let versions = expected_versions(headers)?;
    // No object ever has so many events: it stands for a tag that none has.
    let first = versions.as_deref().map(|it| it.first().copied().unwrap_or(Version::new(u32::MAX)));
    let others: Vec<Version> = versions.iter().flatten().skip(1).copied().collect();
    let refused = |error| match error {
        ledger::Error::Rejected(Rejection::VersionConflict { actual, .. }) => {
            version_conflict(versions.as_deref().unwrap_or_default(), actual)
        }
        error => error.into(),
    };
    let request = Request {
        command,
        actor: caller.actor.clone(),
        request_id: Some(caller.request_id.as_str().into()),
        causation: None,
        command_key: named.as_ref().map(|named| named.key),
        expected_version: first,
    };
    let Some(named) = named else {
        return execute_at_any(&service.ledger, request, others).await.map_err(refused);
    };
    // A task of its own: a client that goes away must not take the name away while the command runs.
    let ledger = service.ledger.clone();
    let running = tokio::spawn(async move {
        let committed = execute_at_any(&ledger, request, others).await;
        drop(named);
        committed
    });
    running.await.map_err(|error| Problem::internal(&error))?.map_err(refused)
}

/// Carries out a command that is for one version of its object, or for one of `others`.
async fn execute_at_any(
    ledger: &Ledger,
    mut request: Request,
    others: Vec<Version>,
) -> Result<Committed, ledger::Error> {
    for version in others {
        match ledger.execute(request.clone()).await {
            Err(ledger::Error::Rejected(Rejection::VersionConflict { .. })) => {}
            done => return done,
        }
        request.expected_version = Some(version);
    }
    ledger.execute(request).await
}

/// Takes the object that a call is about out of what a command led to.
///
/// # Errors
/// `internal`, should the command have led to another kind of object; `idempotency_key_reused` does not reach here.
pub(crate) fn outcome<T>(
    committed: Committed,
    take: impl FnOnce(Aggregate) -> Option<(T, Version)>,
) -> Result<Outcome<T>, Problem> {
    let Committed { aggregate, position, time, replayed } = committed;
    let (object, version) =
        take(aggregate).ok_or_else(|| Problem::internal(&"a command led to another kind of object"))?;
    Ok(Outcome { object, version, position, time, replayed })
}
