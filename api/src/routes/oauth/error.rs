//! Errors of OAuth 2.0 (RFC 6749 §5.2).

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
    /// A parameter is missing or repeated.
    InvalidRequest(&'static str),
    /// No application has this id and this secret.
    InvalidClient {
        /// Whether they came in the `Authorization` header. Then the answer must name the scheme.
        in_header: bool,
    },
    /// The grant type is not client credentials.
    UnsupportedGrantType,
    /// The request asks for a permission that the application lacks.
    InvalidScope,
    /// RFC 8707 §2: tokens are issued only for the service itself.
    InvalidTarget,
    /// An error outside OAuth, such as an overload or a body that is too large.
    Problem(Problem),
}

/// The body of an OAuth 2.0 error.
#[derive(Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub(super) struct ErrorBody {
    /// `invalid_request`, `invalid_client`, `unsupported_grant_type`, `invalid_scope` or `invalid_target`.
    #[schema(example = "invalid_client")]
    error: &'static str,
    /// What is wrong, and what to do.
    error_description: &'static str,
}

impl From<Problem> for OAuthError {
    fn from(problem: Problem) -> Self {
        match problem.code {
            Code::MalformedRequest => Self::InvalidRequest("the body is malformed"),
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
                "no application has this client_id and this client_secret; check both, and whether the \
                application was deleted or its secret was rotated",
            ),
            Self::UnsupportedGrantType => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "grant_type must be client_credentials")
            }
            Self::InvalidScope => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "scope must name permissions that the application has, separated by spaces",
            ),
            Self::InvalidTarget => (
                StatusCode::BAD_REQUEST,
                "invalid_target",
                "audience and resource must be the issuer, or the issuer followed by /api; the default is \
                the issuer",
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
