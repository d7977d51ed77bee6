//! Answers to calls that read or change one object.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::value::position::{Position, Version};
use serde::Serialize;

use crate::answer::problem::Problem;
use crate::request::idempotency;
use crate::request::precondition::{POSITION, etag, position_value};

/// Room for an object as JSON; it grows for larger ones, and for pages.
const OBJECT_LEN: usize = 1024;

/// An answer being put together.
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// An answer that rests on a position of the log.
    #[must_use]
    pub(crate) fn at(position: Position) -> Self {
        Self { status: StatusCode::OK, headers: vec![(POSITION, position_value(position))] }
    }

    /// With another status than 200.
    #[must_use]
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With the version of the object as `ETag`.
    #[must_use]
    pub(crate) fn version(self, version: Version) -> Self {
        self.header(header::ETAG, etag(version))
    }

    /// With the path of the object that was created.
    #[must_use]
    pub(crate) fn location(self, path: &str) -> Self {
        match HeaderValue::from_str(path) {
            Ok(value) => self.header(header::LOCATION, value),
            Err(_) => self,
        }
    }

    /// Not to be kept by any cache: the answer holds a secret.
    #[must_use]
    pub(crate) fn secret(self) -> Self {
        self.header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// Marked as the repetition of an earlier answer, if it is one.
    #[must_use]
    pub(crate) fn replayed(self, replayed: bool) -> Self {
        let (name, value) = idempotency::REPLAYED;
        if replayed { self.header(name, value) } else { self }
    }

    /// With a header.
    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a JSON body.
    ///
    /// # Errors
    /// `internal`, should the body not be expressible as JSON.
    pub(crate) fn json<T: Serialize>(self, body: &T) -> Result<Response, Problem> {
        let mut json = Vec::with_capacity(OBJECT_LEN);
        serde_json::to_writer(&mut json, body).map_err(|error| Problem::internal(&error))?;
        let reply = self.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(reply.into_response(json.into_response()))
    }

    /// Without a body, as the caller has it already: 304.
    #[must_use]
    pub(crate) fn not_modified(self) -> Response {
        self.status(StatusCode::NOT_MODIFIED).into_response(().into_response())
    }

    /// Without a body: 204.
    #[must_use]
    pub(crate) fn empty(self) -> Response {
        self.status(StatusCode::NO_CONTENT).into_response(().into_response())
    }

    fn into_response(self, mut response: Response) -> Response {
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
