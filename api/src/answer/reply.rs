//! Answers of endpoints that read or change one object.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::value::position::{Position, Version};
use serde::Serialize;

use crate::answer::problem::Problem;

/// The header with the log position that an answer rests on.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("keyledger-position");
/// The header that marks the answer to a repeated request.
const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

/// Initial capacity for a JSON body, in bytes. Most objects fit.
const OBJECT_LEN: usize = 1024;

/// Returns the position as a header value.
#[must_use]
pub(crate) fn position_value(position: Position) -> HeaderValue {
    HeaderValue::from(position.get())
}

/// Returns the version as an `ETag`.
#[must_use]
pub(crate) fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// An answer under construction.
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// Returns a 200 answer that rests on a position of the log.
    #[must_use]
    pub(crate) fn at(position: Position) -> Self {
        Self { status: StatusCode::OK, headers: vec![(POSITION, position_value(position))] }
    }

    /// Replaces the status.
    #[must_use]
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds the object's version as `ETag`.
    #[must_use]
    pub(crate) fn version(self, version: Version) -> Self {
        self.header(header::ETAG, etag(version))
    }

    /// Adds the path of the created object as `Location`.
    #[must_use]
    pub(crate) fn location(self, path: &str) -> Self {
        match HeaderValue::from_str(path) {
            Ok(value) => self.header(header::LOCATION, value),
            Err(_) => self,
        }
    }

    /// Keeps the answer out of every cache, because it contains a secret.
    #[must_use]
    pub(crate) fn secret(self) -> Self {
        self.header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// Marks the answer as a replay if `replayed`.
    #[must_use]
    pub(crate) fn replayed(self, replayed: bool) -> Self {
        let (name, value) = REPLAYED;
        if replayed { self.header(name, value) } else { self }
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Finishes the answer with a JSON body.
    ///
    /// # Errors
    /// `internal` if the body cannot be written as JSON.
    pub(crate) fn json<T: Serialize>(self, body: &T) -> Result<Response, Problem> {
        let mut json = Vec::with_capacity(OBJECT_LEN);
        serde_json::to_writer(&mut json, body).map_err(|error| Problem::internal(&error))?;
        let reply = self.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(reply.into_response(json.into_response()))
    }

    /// Finishes the answer as 304 without a body, because the client already has the object.
    #[must_use]
    pub(crate) fn not_modified(self) -> Response {
        self.status(StatusCode::NOT_MODIFIED).into_response(().into_response())
    }

    /// Finishes the answer as 204 without a body.
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
