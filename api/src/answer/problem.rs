//! What goes wrong, as HTTP says it: RFC 9457 `application/problem+json`. Every error of the engine is given its status
//! and its code here and nowhere else; what a fault's inner text says stays in the service's own log.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use keyledger_engine::domain::policy::Breach;
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::ledger;
use keyledger_engine::log;
use keyledger_engine::vault;
use keyledger_projections::key_list::QueryError;
use keyledger_projections::stored::store;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::request_id::{self, RequestId};
use crate::service::log_signer::Refusal;

/// One field that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Which: a JSON Pointer (RFC 6901) into the body, or the name of a query parameter after `?`.
    #[schema(example = "/name")]
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    /// A field that breaks a policy.
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

/// Declares the codes with their status and title, and the sentence that their page shows.
macro_rules! codes {
    ($($name:ident $code:literal $status:ident $title:literal, $help:literal;)*) => {
        /// What went wrong, in one word for programs. Part of the published interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// All codes.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word.
            #[must_use]
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status it goes with.
            #[must_use]
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The word's meaning in a few words.
            #[must_use]
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What it means and what to do.
            #[must_use]
            pub(crate) const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    MalformedRequest "malformed_request" BAD_REQUEST "The request cannot be read",
        "The body is not JSON, or a header has another form than it should. Send what the reference at /docs shows.";
    Unauthenticated "unauthenticated" UNAUTHORIZED "No valid credential",
        "Send a root key or an access token as `Authorization: Bearer ...` or `x-api-key: ...`. Revoked and expired ones no \
        longer count.";
    Forbidden "forbidden" FORBIDDEN "Not allowed",
        "The credential is valid but lacks the permission that the call needs. Use another, or create one that has it.";
    OrganizationKindNotAllowed "organization_kind_not_allowed" FORBIDDEN "Organizations of this kind may not do this",
        "Organizations of kind test, paid and partner may create keys; only one of kind partner has a portfolio, and keys \
        for it. Change the organization's kind first.";
    ClientNotInPortfolio "client_not_in_portfolio" FORBIDDEN "The client is not in the partner's portfolio",
        "A key can be made for a client only while it is in the partner's portfolio. Link it first: \
        PUT /v1/organizations/{partner}/clients/{client}.";
    BadQuery "bad_query" FORBIDDEN "The gateway's question cannot be read",
        "Nobody is let on by a question that is not understood. `errors` names the parameters of /v1/forward-auth that are \
        wrong; correct them in the gateway's configuration.";
    CsrfFailed "csrf_failed" FORBIDDEN "Not from a page of this service",
        "A change that is made with a portal session carries the session's csrf_token, from GET /portal/session, as \
        `X-CSRF-Token`, and comes from a page of this service.";
    NotFound "not_found" NOT_FOUND "No such page",
        "No call has this path. The reference at /docs lists them all.";
    KeyNotFound "key_not_found" NOT_FOUND "No such key",
        "No key that the caller may see has this id or token.";
    OrganizationNotFound "organization_not_found" NOT_FOUND "No such organization",
        "No organization that the caller may see has this id.";
    ClientNotFound "client_not_found" NOT_FOUND "No such client",
        "The organization is not in the partner's portfolio. /v1/organizations/{partner}/clients lists it.";
    PolicyNotFound "policy_not_found" NOT_FOUND "No such policy",
        "The organization demands nothing of its keys in this environment; environments are preview and production.";
    ApiNotFound "api_not_found" NOT_FOUND "No such API", "No API has this id.";
    RootKeyNotFound "root_key_not_found" NOT_FOUND "No such root key",
        "No root key that the caller may see has this id.";
    ApplicationNotFound "application_not_found" NOT_FOUND "No such application",
        "No application that the caller may see has this id.";
    PortalSessionNotFound "portal_session_not_found" NOT_FOUND "No such portal session",
        "No portal session that the caller may see has this id.";
    WebhookNotFound "webhook_not_found" NOT_FOUND "No such webhook",
        "No webhook that the caller may see has this id.";
    DeadLetterNotFound "dead_letter_not_found" NOT_FOUND "No such dead letter",
        "The webhook has no dead letter with this id; it may have been delivered again already. \
        /v1/webhooks/{id}/dead-letters lists them.";
    PortalLinkInvalid "portal_link_invalid" NOT_FOUND "No such link",
        "Nobody minted the link, it was followed before, or its time is over. Ask for a new one.";
    EventNotFound "event_not_found" NOT_FOUND "No such event",
        "No event that the caller may see has this position.";
    ProjectionNotFound "projection_not_found" NOT_FOUND "No such projection",
        "No projection that is kept in a file has this name. /v1/projections lists them.";
    TileNotFound "tile_not_found" NOT_FOUND "No such tile",
        "The path is not one of C2SP tlog-tiles, or the log is not so long. Read the checkpoint for its size.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The path has no such method",
        "The Allow header names the methods that the path has.";
    NotAcceptable "not_acceptable" NOT_ACCEPTABLE "No such representation",
        "Ask for application/json, text/event-stream, application/x-ndjson or text/csv.";
    KeyExists "key_exists" CONFLICT "The key exists already", "Repeat the call: ids are drawn anew for each.";
    KeyExpired "key_expired" CONFLICT "The key has expired",
        "An expired key stays expired; it can be renamed and deleted. Create another.";
    KeyRevoked "key_revoked" CONFLICT "The key is revoked", "Reactivate it first.";
    KeyAlreadyRevoked "key_already_revoked" CONFLICT "The key is revoked already", "Nothing is left to do.";
    KeyNotRevoked "key_not_revoked" CONFLICT "The key is not revoked", "Only a revoked key can be reactivated.";
    OrganizationExists "organization_exists" CONFLICT "The organization exists already",
        "Ids are not used again, also not after deletion. Choose another id.";
    ApiExists "api_exists" CONFLICT "The API exists already", "Repeat the call: ids are drawn anew for each.";
    RootKeyExists "root_key_exists" CONFLICT "The root key exists already",
        "Repeat the call: ids are drawn anew for each.";
    RootKeyAlreadyRevoked "root_key_already_revoked" CONFLICT "The root key is revoked already",
        "Revoking a root key is final; nothing is left to do.";
    ApplicationExists "application_exists" CONFLICT "The application exists already",
        "Repeat the call: ids are drawn anew for each.";
    PortalSessionExists "portal_session_exists" CONFLICT "The portal session exists already",
        "Repeat the call: ids are drawn anew for each.";
    WebhookExists "webhook_exists" CONFLICT "The webhook exists already",
        "Repeat the call: ids are drawn anew for each.";
    TooManyWebhooks "too_many_webhooks" CONFLICT "There are too many webhooks",
        "An organization may have 50 webhooks, and the service 1,000. Delete one that is not needed.";
    WebhookDisabled "webhook_disabled" CONFLICT "The webhook is disabled",
        "Nothing is delivered to it. Enable it first: PATCH it with `enabled: true`.";
    ErasureExists "erasure_exists" CONFLICT "The erasure exists already",
        "Repeat the call: ids are drawn anew for each.";
    IdempotencyKeyInUse "idempotency_key_in_use" CONFLICT "The first request with this key is still running",
        "Wait for its answer, or repeat this one later.";
    RebuildRunning "rebuild_running" CONFLICT "The projection is being made anew already",
        "/v1/projections/{name} says how far it is. Repeat the call when it is done.";
    LogVerificationRunning "log_verification_running" CONFLICT "The log is being verified already",
        "GET /v1/log/verifications says how far it is. Repeat the call when it is done.";
    Contended "contended" CONFLICT "Changed again and again meanwhile", "Nothing was changed. Repeat the call.";
    KeyDeleted "key_deleted" GONE "The key was deleted",
        "Deletion is final. Its history stays at /v1/keys/{id}/events, and its state as of then at ?at=.";
    OrganizationDeleted "organization_deleted" GONE "The organization was deleted", "Deletion is final.";
    ApiDeleted "api_deleted" GONE "The API was deleted", "Deletion is final.";
    ApplicationDeleted "application_deleted" GONE "The application was deleted", "Deletion is final.";
    WebhookDeleted "webhook_deleted" GONE "The webhook was deleted", "Deletion is final.";
    PortalSessionEnded "portal_session_ended" GONE "The portal session has ended",
        "It was ended, or its time came. Mint a new link.";
    VersionConflict "version_conflict" PRECONDITION_FAILED "Changed meanwhile",
        "The version in If-Match is not the present one. Read the object again and decide anew.";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request did not come to its end",
        "The body must be there within 20 seconds of the headers. Nothing was changed. Repeat the call.";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large", "A body may have at most 64 KiB, and that of /v1/keys/verify-batch 256 KiB.";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "Not JSON",
        "Send the body as `Content-Type: application/json`.";
    InvalidRequest "invalid_request" UNPROCESSABLE_ENTITY "Some fields fail",
        "`errors` names each field that fails, and why.";
    PolicyViolation "policy_violation" UNPROCESSABLE_ENTITY "The organization's policy does not allow it",
        "`errors` names all that breaks the policy: /v1/organizations/{id}/policies/{environment} shows it.";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "Another request was sent with this key",
        "An Idempotency-Key names one request, for 24 hours. Use a new one for another request.";
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "The headers are too large",
        "There may be at most 100 headers, and all together, with the request's first line, may have at most 16 KiB.";
    Internal "internal" INTERNAL_SERVER_ERROR "The service failed",
        "This is a defect or a damaged disk. The service's log has the request's id with what happened.";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Too much at once",
        "Nothing was changed. Repeat the call after the seconds that Retry-After says.";
    OutcomeUnknown "outcome_unknown" SERVICE_UNAVAILABLE "Not known whether it took place",
        "Repeat the call with the same Idempotency-Key, or look at the object, to find out.";
    LogUnavailable "log_unavailable" SERVICE_UNAVAILABLE "The log cannot be used now",
        "Nothing was changed. The disk does not do what it should; the service's log says what. Repeat the call after the \
        seconds that Retry-After says.";
    PositionNotReached "position_not_reached" SERVICE_UNAVAILABLE "Not there yet",
        "The service has not reached the position in Keyledger-Min-Position within two seconds. Repeat the call.";
    ProjectionNotReady "projection_not_ready" SERVICE_UNAVAILABLE "The list is being made from the log",
        "What the call reads from is made from the log and does not have all of it yet. Repeat the call after the seconds \
        that Retry-After says; /readyz says how far it is, or why it has stopped. Verification goes on.";
    VerificationUnavailable "verification_unavailable" SERVICE_UNAVAILABLE "Nobody can be verified",
        "The verification index could not take in an event and accepts no credential any more. /readyz says which event; \
        run `replay-tool verify` on the data.";
    LogInconsistent "log_inconsistent" SERVICE_UNAVAILABLE "The log is not what was signed",
        "The log does not begin with what the last checkpoint was signed for, so nothing is signed. /readyz says why; \
        restore the newest backup, and run `replay-tool verify` on the data.";
    Stopping "stopping" SERVICE_UNAVAILABLE "The service is stopping", "Repeat the call in a moment.";
}

/// An error's answer.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// What went wrong.
    pub code: Code,
    /// What went wrong this time.
    pub detail: String,
    /// The fields that fail.
    pub errors: Vec<FieldError>,
}

/// How a problem looks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// The page that explains the code.
    #[schema(example = "/problems/invalid_request")]
    pub r#type: String,
    /// The code's meaning in a few words.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// What went wrong, in one word for programs.
    #[schema(example = "invalid_request")]
    pub code: &'static str,
    /// The request's id, as in `X-Request-Id` and in the service's log.
    pub request_id: String,
    /// The fields that fail; only with `invalid_request` and `policy_violation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new() }
    }

    /// A problem whose detail is the code's own help.
    #[must_use]
    pub(crate) fn of(code: Code) -> Self {
        Self::new(code, code.help())
    }

    /// Fields that fail.
    #[must_use]
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let names: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        Self {
            detail: format!("these fields fail: {}", names.join(", ")),
            code: Code::InvalidRequest,
            errors,
        }
    }

    /// One field that fails.
    #[must_use]
    pub(crate) fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// A fault of the service: its text goes to the service's log, not to the caller.
    #[must_use]
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::of(Code::Internal)
    }

    /// A rule's "no" to a command about an object of its own path.
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

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Inconsistent(reason) => Self::new(Code::LogInconsistent, reason.as_str()),
            Refusal::Unavailable(_) => Self::internal(&refusal),
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

/// The body is completed with the request's id by the outermost layer, which alone knows it.
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
        response.extensions_mut().insert(self);
        response
    }
}

impl Problem {
    /// The body of the answer to request `request_id`.
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

    /// The whole answer as HTTP/1.1 sends it, for connections that the HTTP library has no part in. The connection ends
    /// with it.
    #[must_use]
    pub(crate) fn into_http(self, request_id: &RequestId) -> Vec<u8> {
        let status = self.code.status();
        let retry_after = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
        let body = serde_json::to_string(&self.body(request_id.as_str())).unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\n{retry_after}connection: close\r\ncache-control: no-store\r\n\
             content-type: application/problem+json\r\nx-content-type-options: nosniff\r\n{}: {}\r\n\
             content-length: {}\r\n\r\n{body}",
            request_id::HEADER,
            request_id.as_str(),
            body.len()
        )
        .into_bytes()
    }
}
