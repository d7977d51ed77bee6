//! The problem codes: each with its status, its title, and the help that its page shows.

use http::StatusCode;

/// Declares the codes with their status, their title, and the help that their page shows.
macro_rules! codes {
    ($($name:ident $code:literal $status:ident $title:literal, $help:literal;)*) => {
        /// The code of a problem, for programs. Part of the published interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the code as it is written in a problem.
            #[must_use]
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the HTTP status of the answer.
            #[must_use]
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// Returns what the code means in a few words.
            #[must_use]
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Returns what the code means and what the client can do.
            #[must_use]
            pub(crate) const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    MalformedRequest "malformed_request" BAD_REQUEST "The request is malformed",
        "The body is not JSON, or a header has an invalid form. The reference at /docs shows the expected \
        form.";
    Unauthenticated "unauthenticated" UNAUTHORIZED "No valid credential",
        "Send a root key or an access token as `Authorization: Bearer ...` or `x-api-key: ...`. Revoked and \
        expired credentials are not accepted.";
    Forbidden "forbidden" FORBIDDEN "Not allowed",
        "The credential is valid but lacks the permission that the endpoint needs. Use another credential, \
        or create one that has the permission.";
    OrganizationKindNotAllowed "organization_kind_not_allowed" FORBIDDEN
        "The organization's kind does not allow this",
        "Organizations of kind test, paid and partner can create keys. Only an organization of kind partner \
        has a portfolio and keys for it. Change the organization's kind first.";
    ClientNotInPortfolio "client_not_in_portfolio" FORBIDDEN "The client is not in the partner's portfolio",
        "A key for a client can be created only while the client is in the partner's portfolio. Link it \
        first: PUT /v1/organizations/{partner}/clients/{client}.";
    BadQuery "bad_query" FORBIDDEN "The gateway's query is invalid",
        "A query that cannot be read admits no request. `errors` names the invalid parameters of \
        /v1/forward-auth. Correct them in the gateway's configuration.";
    CsrfFailed "csrf_failed" FORBIDDEN "The request does not come from a page of this service",
        "A change with a portal session must carry the session's csrf_token, from GET /portal/session, as \
        `X-CSRF-Token`, and must come from a page of this service.";
    NotFound "not_found" NOT_FOUND "No such page or endpoint",
        "No page or endpoint has this path. The reference at /docs lists all endpoints.";
    KeyNotFound "key_not_found" NOT_FOUND "No such key",
        "No key that the caller may see has this id or token.";
    OrganizationNotFound "organization_not_found" NOT_FOUND "No such organization",
        "No organization that the caller may see has this id.";
    ClientNotFound "client_not_found" NOT_FOUND "No such client",
        "The organization is not in the partner's portfolio. /v1/organizations/{partner}/clients lists the \
        portfolio.";
    PolicyNotFound "policy_not_found" NOT_FOUND "No such policy",
        "The organization has no policy for this environment. The environments are preview and production.";
    ApiNotFound "api_not_found" NOT_FOUND "No such API", "No API has this id.";
    RootKeyNotFound "root_key_not_found" NOT_FOUND "No such root key",
        "No root key that the caller may see has this id.";
    ApplicationNotFound "application_not_found" NOT_FOUND "No such application",
        "No application that the caller may see has this id.";
    PortalSessionNotFound "portal_session_not_found" NOT_FOUND "No such portal session",
        "No portal session that the caller may see has this id.";
    ConsoleSessionNotFound "console_session_not_found" NOT_FOUND "No such console session",
        "No console session that the caller may see has this id. It may have ended already.";
    WebhookNotFound "webhook_not_found" NOT_FOUND "No such webhook",
        "No webhook that the caller may see has this id.";
    DeadLetterNotFound "dead_letter_not_found" NOT_FOUND "No such dead letter",
        "The webhook has no dead letter with this id. It may have been redelivered already. \
        /v1/webhooks/{id}/dead-letters lists the dead letters.";
    PortalLinkInvalid "portal_link_invalid" NOT_FOUND "The portal link is not valid",
        "The link is unknown, was used before, or has expired. Ask for a new one.";
    EventNotFound "event_not_found" NOT_FOUND "No such event",
        "No event that the caller may see has this position.";
    ProjectionNotFound "projection_not_found" NOT_FOUND "No such projection",
        "No stored projection has this name. /v1/projections lists them.";
    TileNotFound "tile_not_found" NOT_FOUND "No such tile",
        "The path is not a path of C2SP tlog-tiles, or the log is shorter. The checkpoint has the log's \
        size.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The path does not support this method",
        "The Allow header lists the methods of the path.";
    NotAcceptable "not_acceptable" NOT_ACCEPTABLE "No such representation",
        "Ask for application/json, text/event-stream, application/x-ndjson or text/csv.";
    KeyExists "key_exists" CONFLICT "The key already exists", "Repeat the request: it draws a new id.";
    KeyExpired "key_expired" CONFLICT "The key has expired",
        "An expired key stays expired. It can be edited and deleted. Create another key.";
    KeyRevoked "key_revoked" CONFLICT "The key is revoked", "Reactivate it first.";
    KeyAlreadyRevoked "key_already_revoked" CONFLICT "The key is already revoked", "There is nothing left \
        to do.";
    KeyNotRevoked "key_not_revoked" CONFLICT "The key is not revoked", "Only a revoked key can be \
        reactivated.";
    OrganizationExists "organization_exists" CONFLICT "The organization already exists",
        "Ids are never reused, not even after deletion. Choose another id.";
    ApiExists "api_exists" CONFLICT "The API already exists", "Repeat the request: it draws a new id.";
    RootKeyExists "root_key_exists" CONFLICT "The root key already exists",
        "Repeat the request: it draws a new id.";
    RootKeyAlreadyRevoked "root_key_already_revoked" CONFLICT "The root key is already revoked",
        "Revoking a root key is final. There is nothing left to do.";
    ApplicationExists "application_exists" CONFLICT "The application already exists",
        "Repeat the request: it draws a new id.";
    PortalSessionExists "portal_session_exists" CONFLICT "The portal session already exists",
        "Repeat the request: it draws a new id.";
    WebhookExists "webhook_exists" CONFLICT "The webhook already exists",
        "Repeat the request: it draws a new id.";
    TooManyWebhooks "too_many_webhooks" CONFLICT "There are too many webhooks",
        "The service may have 1,000 webhooks, and an organization as many as the operator allows its kind: 50 by \
        default. Delete one that is not needed.";
    OrganizationCapReached "organization_cap_reached" CONFLICT "The organization has as many as it may have",
        "The operator caps what an organization of each kind may have: keys, applications, root keys, \
        webhooks and portal sessions. Delete some that are not needed, or ask the operator to raise the cap \
        (--organization-caps).";
    WebhookDisabled "webhook_disabled" CONFLICT "The webhook is disabled",
        "A disabled webhook receives nothing. Enable it first: PATCH it with `enabled: true`.";
    ErasureExists "erasure_exists" CONFLICT "The erasure already exists",
        "Repeat the request: it draws a new id.";
    IdempotencyKeyInUse "idempotency_key_in_use" CONFLICT "The first request with this key is still running",
        "Wait for its answer, or repeat this request later.";
    RebuildRunning "rebuild_running" CONFLICT "The projection is already being rebuilt",
        "/v1/projections/{name} shows the progress. Repeat the request when the rebuild has finished.";
    LogVerificationRunning "log_verification_running" CONFLICT "The log is already being verified",
        "GET /v1/log/verifications shows the progress. Repeat the request when the verification has \
        finished.";
    Contended "contended" CONFLICT "Other requests keep changing the same object",
        "Nothing was changed. Repeat the request.";
    KeyDeleted "key_deleted" GONE "The key was deleted",
        "Deletion is final. The key's history stays at /v1/keys/{id}/events, and its earlier states at ?at=.";
    OrganizationDeleted "organization_deleted" GONE "The organization was deleted", "Deletion is final.";
    ApiDeleted "api_deleted" GONE "The API was deleted", "Deletion is final.";
    ApplicationDeleted "application_deleted" GONE "The application was deleted", "Deletion is final.";
    WebhookDeleted "webhook_deleted" GONE "The webhook was deleted", "Deletion is final.";
    PortalSessionEnded "portal_session_ended" GONE "The portal session has ended",
        "It was ended, or it expired. Create a new link.";
    VersionConflict "version_conflict" PRECONDITION_FAILED "The object has changed",
        "If-Match does not have the current version. Read the object again and decide whether the change \
        still applies.";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request's body did not arrive in time",
        "The body must arrive within 20 seconds of the headers. Nothing was changed. Repeat the request.";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large",
        "A body may have at most 64 KiB, and the body of /v1/keys/verify-batch 256 KiB.";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body is not declared as JSON",
        "Send the body as `Content-Type: application/json`.";
    InvalidRequest "invalid_request" UNPROCESSABLE_ENTITY "Some fields are invalid",
        "`errors` names each invalid field, and why it is invalid.";
    PolicyViolation "policy_violation" UNPROCESSABLE_ENTITY "The organization's policy does not allow it",
        "`errors` names every violation of the policy. /v1/organizations/{id}/policies/{environment} shows \
        the policy.";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "The key belongs to another request",
        "An Idempotency-Key belongs to one request for 24 hours. Use a new key for another request.";
    RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests",
        "Nothing was changed. Repeat the request after the seconds in Retry-After. RateLimit-Policy names the \
        limit, which the operator sets with the option --rate-limit- and that name. Revocations and \
        deletions count apart from other changes.";
    DailyBytesReached "daily_bytes_reached" TOO_MANY_REQUESTS "The organization has written enough for today",
        "The operator caps the bytes of events that an organization of each kind may write on one day, in UTC. \
        Revocations, deletions and erasures are still accepted. Repeat the request after the seconds in \
        Retry-After, or ask the operator to raise the cap (--organization-caps).";
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "The headers are too large",
        "A request may have at most 100 headers. Its first line and all headers together may have at most 16 \
        KiB.";
    Internal "internal" INTERNAL_SERVER_ERROR "The service failed",
        "This is a defect or a damaged disk. The service's log has the cause under the request's id.";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Too many requests at once",
        "Nothing was changed. Repeat the request after the seconds in Retry-After.";
    OutcomeUnknown "outcome_unknown" SERVICE_UNAVAILABLE "The outcome is unknown",
        "Repeat the request with the same Idempotency-Key, or read the object, to find out.";
    LogUnavailable "log_unavailable" SERVICE_UNAVAILABLE "The log is unavailable",
        "Nothing was changed. The disk failed; the service's log has the cause. Repeat the request after the \
        seconds in Retry-After.";
    DiskSpaceLow "disk_space_low" SERVICE_UNAVAILABLE "There is too little disk space",
        "Nothing was changed. Verification, revocations, deletions and erasures go on; other commands are \
        accepted again when there is space. The operator sets the reserve with --disk-reserve.";
    PositionNotReached "position_not_reached" SERVICE_UNAVAILABLE "The position was not reached",
        "The service did not reach the position in Keyledger-Min-Position within two seconds. Repeat the \
        request.";
    ProjectionNotReady "projection_not_ready" SERVICE_UNAVAILABLE "The projection is still being built",
        "The endpoint reads from a projection that has not caught up with the log. Repeat the request after \
        the seconds in Retry-After. /readyz shows the progress, or why the projection has stopped. \
        Verification continues.";
    VerificationUnavailable "verification_unavailable" SERVICE_UNAVAILABLE "Verification is unavailable",
        "The verification index could not apply an event and accepts no credential any more. /readyz names \
        the event. Run `replay-tool verify` on the data.";
    LogInconsistent "log_inconsistent" SERVICE_UNAVAILABLE "The log does not match what was signed",
        "The log is an older copy, or was altered: it does not continue what was signed or witnessed, or does \
        not match its own hashes. The service signs nothing and answers nothing else. The operator finds the \
        file and what to do in /readyz.";
    Stopping "stopping" SERVICE_UNAVAILABLE "The service is stopping", "Repeat the request in a moment.";
}
