//! Revoking a key with its own token: the finder or the loser of a token can stop it without another
//! credential.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::domain::key::{KeyCommand, RevocationReason};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::text::Note;
use keyledger_projections::verification::Question;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::admission::rate_limits::Counted;
use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::http::request_id::RequestId;
use crate::request::body::{Checks, Field, JsonBody, parsed, text};
use crate::request::execution::execute;
use crate::service::Service;

/// Returns the endpoint that revokes a key with its own token.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(self_revoke))
}

/// A token whose key is to be revoked.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = SelfRevoke)]
struct SelfRevokeBody {
    /// The token.
    #[schema(value_type = String, required = true, example = "kl_live_...")]
    #[serde(default)]
    token: Field,
    /// `unspecified`, `key_compromise`, `superseded`, `affiliation_changed` or `privilege_withdrawn`.
    #[schema(value_type = Option<String>, example = "key_compromise")]
    #[serde(default)]
    reason: Field,
    /// The reason in words.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    note: Field,
}

/// The answer, which reveals nothing about the token.
#[derive(Serialize, ToSchema)]
struct NoLongerGood {
    /// Always `true`: the token is invalid, whether it was valid before or not.
    revoked: bool,
}

/// Revokes the key of a token. The token is the only credential needed, and the answer is the same for an
/// unknown token (RFC 7009 §2.2). The key's managers can reactivate it.
#[utoipa::path(post, path = "/v1/keys/self-revoke", operation_id = "selfRevokeKey", tag = "Keys",
    request_body = SelfRevokeBody, security(()),
    responses(
        (status = 200, body = NoLongerGood, description = "the token is invalid"),
        (status = 503, body = ProblemBody,
            description = "`overloaded`, `verification_unavailable`: the token may still be valid"),
    ))]
async fn self_revoke(
    State(service): State<Arc<Service>>,
    parts: http::request::Parts,
    body: JsonBody<SelfRevokeBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let read = text(|text: &str| Ok::<_, Infallible>(Zeroizing::new(text.trim().to_owned())));
    let token = checks.required("token", &body.token, read);
    let reason = checks.optional("reason", &body.reason, parsed::<RevocationReason>).unwrap_or_default();
    let note = checks.optional("note", &body.note, text(Note::new));
    checks.unknown(&body.unknown);
    checks.finish()?;
    if service.index.poisoned().is_some() {
        return Err(Problem::of(Code::VerificationUnavailable));
    }
    // A token that rotation has ended revokes nothing: only a valid token proves possession of the key.
    let holder = token.and_then(|token| {
        service.index.verify(&token, &Question::default(), service.now(), |verdict| {
            verdict.key.map(|key| (key.key_id(), key.organization_id().clone()))
        })
    });
    let position = match holder {
        None => service.index.position(),
        Some((key_id, organization_id)) => {
            let id = key_id.to_string();
            let principal = Principal {
                kind: ActorKind::Key,
                id: id.as_str().into(),
                organization_id: Some(organization_id),
                user_id: None,
                permissions: Vec::new(),
                expires_at: None,
            };
            let caller = Caller {
                principal: Arc::new(principal),
                actor: origin::actor(&service, &parts, ActorKind::Key, &id),
                request_id: parts.extensions.get::<RequestId>().cloned().unwrap_or_default(),
                counted: Counted::of(&parts)?,
            };
            let command = Command::Key(key_id, KeyCommand::Revoke { reason, note });
            match execute(&service, &caller, &HeaderMap::new(), None, command).await {
                Ok(committed) => committed.position,
                Err(problem) if is_over(problem.code) => service.index.position(),
                Err(problem) => return Err(problem),
            }
        }
    };
    Reply::at(position).secret().json(&NoLongerGood { revoked: true })
}

/// Returns whether a rejection means that the key is already invalid.
const fn is_over(code: Code) -> bool {
    matches!(
        code,
        Code::KeyAlreadyRevoked
            | Code::KeyExpired
            | Code::KeyDeleted
            | Code::KeyNotFound
            | Code::OrganizationDeleted
    )
}
