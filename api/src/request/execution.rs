//! The path from a request to a command and back, which every endpoint that changes something shares.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::ledger::{self, Command, Committed, Request};
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::time::Timestamp;

use crate::admission::permit::Permit;
use crate::answer::problem::Problem;
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::request::object::Object;
use crate::request::precondition::{expected_versions, version_conflict};
use crate::service::Service;

/// The result of a command, with the object as the endpoint's type.
pub(crate) struct Outcome<T> {
    /// The object after the command.
    pub object: T,
    pub version: Version,
    /// The position of the command's last event.
    pub position: Position,
    /// When the command was executed.
    pub time: Timestamp,
    /// Whether the command was executed by an earlier request with the same idempotency key.
    pub replayed: bool,
}

impl<T: Object> Outcome<T> {
    /// Takes the object out of a command's result.
    ///
    /// # Errors
    /// `internal` if the command led to another type of object. A reused idempotency key fails before that.
    pub(crate) fn of(committed: Committed) -> Result<Self, Problem> {
        let Committed { aggregate, position, time, replayed } = committed;
        let object =
            T::of(aggregate).ok_or_else(|| Problem::internal(&"a command led to another type of object"))?;
        Ok(Self { version: object.version(), object, position, time, replayed })
    }

    /// Begins the answer to a change.
    pub(crate) fn reply(&self) -> Reply {
        Reply::at(self.position).version(self.version).replayed(self.replayed)
    }

    /// Begins the answer to a creation. `path` is where the new object can be read.
    pub(crate) fn created(&self, path: &str) -> Reply {
        self.reply().status(StatusCode::CREATED).location(path)
    }
}

/// Executes a command for a caller. `name` is what the `Idempotency-Key` is bound to beside the actor: method
/// and path, and the body. It is `None` for endpoints without such a key.
///
/// # Errors
/// The command's rejection, what the command's [`Permit`] is refused for, or `malformed_request` for an
/// invalid header.
pub(crate) async fn execute(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    name: Option<(&str, &[u8])>,
    command: Command,
) -> Result<Committed, Problem> {
    let named = match name {
        Some((path, body)) => service.running.name(headers, &caller.principal, path, body)?,
        None => None,
    };
    let versions = expected_versions(headers)?;
    // No object ever has this many events, so this version stands for a list without any usable tag.
    let first = versions.as_deref().map(|it| it.first().copied().unwrap_or(Version::new(u32::MAX)));
    let others: Vec<Version> = versions.iter().flatten().skip(1).copied().collect();
    let refused = |error| match error {
        ledger::Error::Rejected(Rejection::VersionConflict { actual, .. }) => {
            version_conflict(versions.as_deref().unwrap_or_default(), actual)
        }
        error => error.into(),
    };
    let permit = Permit::new(service, caller, &command)?;
    let request = Request {
        command,
        actor: caller.actor.clone(),
        request_id: Some(caller.request_id.as_str().into()),
        causation: None,
        command_key: named.as_ref().map(|named| named.key),
        expected_version: first,
    };
    let Some(named) = named else {
        return execute_at_any(service, permit, request, others).await.map_err(refused);
    };
    // A separate task: a client that disconnects must not release the key while the command runs.
    let service = Arc::clone(service);
    let running = tokio::spawn(async move {
        let committed = execute_at_any(&service, permit, request, others).await;
        drop(named);
        committed
    });
    running.await.map_err(|error| Problem::internal(&error))?.map_err(refused)
}

/// Executes a command that expects the request's version of its object, or one of `others`.
async fn execute_at_any(
    service: &Service,
    mut permit: Permit,
    mut request: Request,
    others: Vec<Version>,
) -> Result<Committed, ledger::Error> {
    for version in others {
        let (answer, kept) = service.submit(permit, request.clone())?.answer().await;
        match (answer, kept) {
            (Err(ledger::Error::Rejected(Rejection::VersionConflict { .. })), Some(kept)) => permit = kept,
            (answer, _) => return answer,
        }
        request.expected_version = Some(version);
    }
    service.submit(permit, request)?.answer().await.0
}
