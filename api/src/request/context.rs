//! The start of every endpoint with a caller, and what such endpoints do in the same way.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;
use keyledger_engine::ledger::{Command, Committed};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::{Position, Version};
use serde::Serialize;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::request::execution::{Outcome, execute};
use crate::request::object::{BoundObject, Object};
use crate::request::precondition::{check_version, is_known};
use crate::service::Service;

/// The service, an authorized caller, and the request's headers. The verification index has reached the
/// request's `Keyledger-Min-Position`, because reading the caller waits for it.
pub(crate) struct RequestContext {
    pub service: Arc<Service>,
    pub caller: Caller,
    pub headers: HeaderMap,
}

impl FromRequestParts<Arc<Service>> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, service).await?;
        Ok(Self { service: Arc::clone(service), caller, headers: parts.headers.clone() })
    }
}

impl RequestContext {
    /// Executes a command for the caller.
    ///
    /// # Errors
    /// See [`execute`].
    pub(crate) async fn execute<T: Object>(&self, command: Command) -> Result<Outcome<T>, Problem> {
        Outcome::of(self.execute_any(None, command).await?)
    }

    /// Executes a command for the caller, once per `Idempotency-Key`. `endpoint` is the method and the path,
    /// and `body` the request's body, which a repetition must match.
    ///
    /// # Errors
    /// See [`execute`].
    pub(crate) async fn execute_once<T: Object>(
        &self,
        endpoint: &str,
        body: &[u8],
        command: Command,
    ) -> Result<Outcome<T>, Problem> {
        Outcome::of(self.execute_any(Some((endpoint, body)), command).await?)
    }

    /// Executes a command whose answer is 204.
    ///
    /// # Errors
    /// See [`execute`].
    pub(crate) async fn execute_without_answer(&self, command: Command) -> Result<Response, Problem> {
        let committed = self.execute_any(None, command).await?;
        Ok(Reply::at(committed.position).empty())
    }

    async fn execute_any(&self, name: Option<(&str, &[u8])>, command: Command) -> Result<Committed, Problem> {
        execute(&self.service, &self.caller, &self.headers, name, command).await
    }

    /// Returns the position of the verification index. An answer reads it before the objects that it shows,
    /// so that they are at least as new.
    #[must_use]
    pub(crate) fn index_position(&self) -> Position {
        self.service.index.position()
    }

    /// Answers an object whose version the request's `If-Match` allows.
    ///
    /// # Errors
    /// `version_conflict`, `malformed_request`, `internal`.
    pub(crate) fn show<V: Serialize>(
        &self,
        position: Position,
        version: Version,
        view: &V,
    ) -> Result<Response, Problem> {
        check_version(&self.headers, version)?;
        Reply::at(position).version(version).json(view)
    }

    /// Does the same for an endpoint that also takes `If-None-Match`: answers 304 if the client has this
    /// version.
    ///
    /// # Errors
    /// See [`RequestContext::show`].
    pub(crate) fn show_unless_known<V: Serialize>(
        &self,
        position: Position,
        version: Version,
        view: &V,
    ) -> Result<Response, Problem> {
        let reply = Reply::at(position).version(version);
        if is_known(&self.headers, version)? { Ok(reply.not_modified()) } else { reply.json(view) }
    }

    /// Returns the object that was found under an id, if the caller may see it.
    ///
    /// # Errors
    /// `not_found` otherwise.
    pub(crate) fn visible<T: BoundObject>(
        &self,
        found: Option<Arc<T>>,
        not_found: Code,
    ) -> Result<Arc<T>, Problem> {
        found
            .filter(|it| self.caller.sees_owned_by(it.organization_id()))
            .ok_or_else(|| Problem::of(not_found))
    }

    /// Returns the organization of a new object: the caller's own if the caller is bound to one, else the one
    /// asked for.
    ///
    /// # Errors
    /// `organization_not_found` if a bound caller asks for another organization.
    pub(crate) fn owning_organization(
        &self,
        asked: Option<OrganizationId>,
    ) -> Result<Option<OrganizationId>, Problem> {
        match (self.caller.bound_to(), asked) {
            (Some(bound), Some(id)) if *bound != id => Err(Problem::of(Code::OrganizationNotFound)),
            (Some(bound), _) => Ok(Some(bound.clone())),
            (None, id) => Ok(id),
        }
    }
}
