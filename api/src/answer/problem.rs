//! Errors as HTTP answers: RFC 9457 `application/problem+json`. This file alone assigns a status and a code
//! to the engine's errors. The text of an internal fault goes to the service's log and never to the client.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::domain::policy::Breach;
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::ledger;
use keyledger_engine::log;
use keyledger_engine::vault;
use keyledger_projections::key_list::QueryError;
use keyledger_projections::stored::store;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::code::Code;
use crate::http::answer_headers;
use crate::http::request_id::{self, RequestId};

/// A field of a request that is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field: a JSON Pointer (RFC 6901) into the body, or `?` and the name of a query parameter.
    #[schema(example = "/name")]
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    /// Returns the field that breaks a policy.
    #[must_use]
    pub(crate) fn of_breach(breach: &Breach) -> Self {
        let pointer = match breach {
            Breach::ExpiryRequired | Breach::LifetimeTooLong { .. } => "/expires_at".into(),
            Breach::ScopeNotAllowed(index) => format!("/scopes/{index}"),
            Breach::NameRequired => "/name".into(),
            Breach::TooManyKeysOfUser { .. } => "/user_id".into(),
        };
        Self { pointer, detail: breach.to_string() }
    }
}

/// An error, before it is written as an answer.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub code: Code,
    /// What went wrong in this request.
    pub detail: String,
    /// The invalid fields.
    pub errors: Vec<FieldError>,
    /// The headers of the answer beside those that its code brings.
    pub headers: Option<Box<HeaderMap>>,
}

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// The page that explains the code.
    #[schema(example = "/problems/invalid_request")]
    pub r#type: String,
    /// What the code means in a few words.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What went wrong in this request.
    pub detail: String,
    /// The code, for programs.
    #[schema(example = "invalid_request")]
    pub code: &'static str,
    /// The request's id, as in `X-Request-Id` and in the service's log.
    pub request_id: String,
    /// The invalid fields. Only with `invalid_request` and `policy_violation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// Returns a problem with this code and this detail.
    #[must_use]
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), headers: None }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// Returns a problem whose detail is the code's help.
    #[must_use]
    pub(crate) fn of(code: Code) -> Self {
        Self::new(code, code.help())
    }

    /// Returns `invalid_request` for these fields.
    #[must_use]
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let names: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        let detail = format!("invalid fields: {}", names.join(", "));
        Self { errors, ..Self::new(Code::InvalidRequest, detail) }
    }

    /// Returns `invalid_request` for one field.
    #[must_use]
    pub(crate) fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// Returns `internal`, and logs the error's text, which the client does not get.
    #[must_use]
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::of(Code::Internal)
    }

    /// Returns the problem of a rejected command. The code names the object as one of the request's path.
    #[must_use]
    pub(crate) fn rejected(rejection: &Rejection) -> Self {
        let code = match rejection {
            Rejection::KeyUnknown => Code::KeyNotFound,
            Rejection::KeyExists => Code::KeyExists,
            Rejection::KeyDeleted => Code::KeyDeleted,
            Rejection::KeyExpired => Code::KeyExpired,
            Rejection::KeyRevoked => Code::KeyRevoked,
            Rejection::KeyAlreadyRevoked => Code::KeyAlreadyRevoked,
            Rejection::KeyNotRevoked => Code::KeyNotRevoked,
            Rejection::ExpiryNotInFuture => return Self::field("/expires_at", rejection.to_string()),
            Rejection::ScopesUnknown(indexes) => {
                let unknown = |index: &usize| FieldError {
                    pointer: format!("/scopes/{index}"),
                    detail: "the API does not have this scope".into(),
                };
                return Self::fields(indexes.iter().map(unknown).collect());
            }
            Rejection::OrganizationUnknown => Code::OrganizationNotFound,
            Rejection::OrganizationExists => Code::OrganizationExists,
            Rejection::OrganizationDeleted => Code::OrganizationDeleted,
            Rejection::OrganizationKindNotAllowed(_) => Code::OrganizationKindNotAllowed,
            Rejection::NotAPartner(_) => Code::OrganizationKindNotAllowed,
            Rejection::ClientIsPartner => Code::InvalidRequest,
            Rejection::ClientNotInPortfolio => Code::ClientNotInPortfolio,
            Rejection::PolicyViolated(breaches) => {
                let errors = breaches.iter().map(FieldError::of_breach).collect();
                return Self { errors, ..Self::new(Code::PolicyViolation, rejection.to_string()) };
            }
            Rejection::PolicyUnknown => Code::PolicyNotFound,
            Rejection::ClientNotLinked => Code::ClientNotFound,
            Rejection::ApiUnknown => Code::ApiNotFound,
            Rejection::ApiExists => Code::ApiExists,
            Rejection::ApiDeleted => Code::ApiDeleted,
            Rejection::RootKeyUnknown => Code::RootKeyNotFound,
            Rejection::RootKeyExists => Code::RootKeyExists,
            Rejection::RootKeyAlreadyRevoked => Code::RootKeyAlreadyRevoked,
            Rejection::ApplicationUnknown => Code::ApplicationNotFound,
            Rejection::ApplicationExists => Code::ApplicationExists,
            Rejection::ApplicationDeleted => Code::ApplicationDeleted,
            Rejection::WebhookUnknown => Code::WebhookNotFound,
            Rejection::WebhookExists => Code::WebhookExists,
            Rejection::WebhookDeleted => Code::WebhookDeleted,
            Rejection::ErasureExists => Code::ErasureExists,
            Rejection::PortalSessionUnknown => Code::PortalSessionNotFound,
            Rejection::PortalSessionExists => Code::PortalSessionExists,
            Rejection::PortalSessionEnded => Code::PortalSessionEnded,
            Rejection::PortalLinkUsed => Code::PortalLinkInvalid,
            Rejection::UserRequired(_) => return Self::field("/user_id", rejection.to_string()),
            Rejection::VersionConflict { .. } => Code::VersionConflict,
            _ => return Self::internal(rejection),
        };
        Self::new(code, rejection.to_string())
    }
}

impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        match &error {
            ledger::Error::Rejected(rejection) => Self::rejected(rejection),
            ledger::Error::CommandReused => Self::of(Code::IdempotencyKeyReused),
            ledger::Error::Overloaded => Self::of(Code::Overloaded),
            ledger::Error::Contended => Self::of(Code::Contended),
            ledger::Error::OutcomeUnknown(_) => {
                tracing::error!(%error, "the outcome of a command is unknown");
                Self::of(Code::OutcomeUnknown)
            }
            ledger::Error::Stopped => Self::of(Code::Stopping),
            ledger::Error::Log(error) => error.into(),
            _ => Self::internal(&error),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::NotReady => Self::of(Code::ProjectionNotReady),
            _ => Self::internal(&error),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::BadCursor => {
                Self::field("?cursor", "is not a cursor of this list; start again without it")
            }
            QueryError::Store(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<&log::Error> for Problem {
    fn from(error: &log::Error) -> Self {
        match error {
            log::Error::Unavailable(_) | log::Error::Vault(vault::Error::Unavailable(_)) => {
                tracing::error!(%error, "the log could not be read or appended to");
                Self::of(Code::LogUnavailable)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<log::Error> for Problem {
    fn from(error: log::Error) -> Self {
        (&error).into()
    }
}

/// The outermost layer writes the body, because it alone knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthenticated => {
                headers
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keyledger\""));
            }
            Code::Overloaded
            | Code::OutcomeUnknown
            | Code::LogUnavailable
            | Code::PositionNotReached
            | Code::ProjectionNotReady
            | Code::VerificationUnavailable
            | Code::Stopping => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        headers.extend(self.headers.iter().flat_map(|own| HeaderMap::clone(own)));
        response.extensions_mut().insert(self);
        response
    }
}

impl Problem {
    /// Returns the body of the answer to the request with this id.
    #[must_use]
    pub(crate) fn body(self, request_id: &str) -> ProblemBody {
        ProblemBody {
            r#type: format!("/problems/{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: self.detail,
            code: self.code.as_str(),
            request_id: request_id.into(),
            errors: self.errors,
        }
    }

    /// Returns the whole HTTP/1.1 answer as bytes, for connections that the HTTP library does not handle. The
    /// answer closes the connection.
    #[must_use]
    pub(crate) fn into_http(self, request_id: &RequestId) -> Vec<u8> {
        let status = self.code.status();
        let retry_after = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
        let body = serde_json::to_string(&self.body(request_id.as_str())).unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\n{retry_after}connection: close\r\ncontent-type: application/problem+json\r\n\
             {}{}: {}\r\ncontent-length: {}\r\n\r\n{body}",
            answer_headers::LINES,
            request_id::HEADER,
            request_id.as_str(),
            body.len()
        )
        .into_bytes()
    }
}
