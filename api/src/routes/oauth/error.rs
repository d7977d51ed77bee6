//! Errors as OAuth 2.0 clients expect them: RFC 6749 §5.2.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::keep_out_of_caches;
use crate::answer::code::Code;
use crate::answer::problem::Problem;

/// An OAuth 2.0 error.
#[derive(Debug)]
pub(super) enum OAuthError {
    /// The request lacks something, or says it twice.
    InvalidRequest(&'static str),
    /// No application has this id and this secret. Says in which way they came.
    InvalidClient {
        /// In the `Authorization` header, whose scheme has to be asked for in the answer.
        in_header: bool,
    },
    /// Only client credentials are traded.
    UnsupportedGrantType,
    /// Something was asked for that the application may not do.
    InvalidScope,
    /// RFC 8707 §2: tokens are given for the service itself only.
    InvalidTarget,
    /// What is not OAuth's: an overload, a body that is too large.
    Problem(Problem),
}

/// How an OAuth 2.0 error looks.
#[derive(Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub(super) struct ErrorBody {
    /// `invalid_request`, `invalid_client`, `unsupported_grant_type`, `invalid_scope` or `invalid_target`.
    #[schema(example = "invalid_client")]
    error: &'static str,
    /// What is wrong and what to do.
    error_description: &'static str,
}

impl From<Problem> for OAuthError {
    fn from(problem: Problem) -> Self {
        match problem.code {
            Code::MalformedRequest => Self::InvalidRequest("the body cannot be read"),
            Code::UnsupportedMediaType => {
                Self::InvalidRequest("send the body as Content-Type: application/x-www-form-urlencoded")
            }
            _ => Self::Problem(problem),
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let (status, error, error_description) = match self {
            Self::InvalidRequest(description) => (StatusCode::BAD_REQUEST, "invalid_request", description),
            Self::InvalidClient { .. } => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "no application has this client_id and this client_secret; check both, and whether it was deleted or its \
                 secret was rotated",
            ),
            Self::UnsupportedGrantType => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "grant_type must be client_credentials")
            }
            Self::InvalidScope => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "scope must name permissions that the application has, with spaces between them",
            ),
            Self::InvalidTarget => (
                StatusCode::BAD_REQUEST,
                "invalid_target",
                "audience and resource must be the issuer, or the issuer with /api after it; leave them out for the issuer",
            ),
            Self::Problem(problem) => return problem.into_response(),
        };
        let mut response = (status, Json(ErrorBody { error, error_description })).into_response();
        let headers = response.headers_mut();
        keep_out_of_caches(headers);
        if matches!(self, Self::InvalidClient { in_header: true }) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"keyledger\""));
        }
        response
    }
}
