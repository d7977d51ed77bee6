//! Verification: whether a token is valid, and for what. Customers verify a token on every request to their
//! own API, so the [`fast_path`](crate::http::fast_path) answers the plain form ahead of the router, without
//! copying what it reads.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::usage::Address;
use keyledger_projections::verification::{Code as Verified, Question, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::{POSITION, position_value};
use crate::auth::principal::Principal;
use crate::openapi::parameters::MinPosition;
use crate::request::body::{
    Checks, Field, JsonBody, Reading, Strict, check_media_type, parsed, read_body, set, text,
};
use crate::request::context::RequestContext;
use crate::request::json_text::read_object;
use crate::service::Service;

/// The path of the endpoint that verifies one token.
pub(crate) const PATH: &str = "/v1/keys/verify";
/// The most tokens in a batch.
pub(crate) const BATCH_LEN_MAX: usize = 1_000;
/// The largest body of a batch. It holds that many tokens of the longest form, 74 characters, in any layout,
/// with all scopes.
const BATCH_BODY_LEN_MAX: usize = 256 * 1024;
/// The most scopes that a verification may require.
const SCOPES_MAX: usize = 100;

/// Returns the endpoints that verify tokens.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(verify)).routes(routes!(verify_batch))
}

/// A token to verify, and what is required of its key.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = VerifyKey)]
struct VerifyBody {
    /// The token, as the client presented it.
    #[schema(value_type = String, required = true, example = "kl_live_...")]
    #[serde(default)]
    token: Field,
    /// The environment that the key must be for.
    #[schema(value_type = Option<String>, example = "production")]
    #[serde(default)]
    environment: Field,
    /// The API that the key must be for.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    api_id: Field,
    /// The organization that the key must be valid for: its own; for a partner's key also any client in the
    /// portfolio. A client's key is valid only for its client, which must be given here.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
    /// The scopes that the key must carry.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
}

/// Tokens to verify, and what is required of each key.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = VerifyKeys)]
struct VerifyBatchBody {
    /// The tokens, at most 1,000.
    #[schema(value_type = Vec<String>, required = true)]
    #[serde(default)]
    tokens: Field,
    /// The environment that the keys must be for.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    environment: Field,
    /// The API that the keys must be for.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    api_id: Field,
    /// The organization that the keys must be valid for.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
    /// The scopes that the keys must carry.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
}

/// The verdict on a token.
#[derive(Serialize, ToSchema)]
#[schema(as = Verification)]
pub(crate) struct VerdictBody<'a> {
    /// Whether the token is valid. `true` only with code `VALID`.
    valid: bool,
    /// The first of these that applies: `MALFORMED`, `NOT_FOUND`, `ORGANIZATION_INACTIVE`, `REVOKED`,
    /// `EXPIRED`, `WRONG_ENVIRONMENT`, `WRONG_ORGANIZATION`, `WRONG_API`, `INSUFFICIENT_SCOPE`, `VALID`.
    #[schema(example = "VALID")]
    code: &'static str,
    /// The key. Present with every code but the first two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key_id: Option<keyledger_engine::value::id::KeyId>,
    /// The organization that the key belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
    /// For whom the key is: `organization`, `user`, `partner` or `client`.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'static str>,
    /// The client organization of a client's key, or the one for which a partner's key was found valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_organization_id: Option<&'a str>,
    /// The user that the key belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    /// The key's display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// The environment in which the key is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'static str>,
    /// The API that the key is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_id: Option<&'a str>,
    /// The scopes that the key carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Option<Scopes<'a>>,
    /// The key's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// When the key expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The lowest log position that the verdict rests on.
    position: u64,
}

/// Scopes that serialize without a copy.
struct Scopes<'a>(&'a [keyledger_engine::value::text::Scope]);

impl Serialize for Scopes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(keyledger_engine::value::text::Scope::as_str))
    }
}

impl<'a> VerdictBody<'a> {
    /// Returns the verdict as JSON shows it.
    #[must_use]
    pub(crate) fn of(verdict: &Verdict<'a>) -> Self {
        let Verdict { code, key, .. } = *verdict;
        Self {
            valid: code == Verified::Valid,
            code: code.as_str(),
            key_id: key.map(|key| key.key_id()),
            organization_id: key.map(|key| key.organization_id().as_str()),
            owner: key.map(|key| key.owner().as_str()),
            client_organization_id: key.and(verdict.client_id),
            user_id: key.and_then(|key| key.user_id()).map(|user_id| user_id.as_str()),
            name: key.and_then(|key| key.name()).map(|name| name.as_str()),
            environment: key.map(|key| key.environment().as_str()),
            api_id: key.and_then(|key| key.api_id_text()),
            scopes: key.map(|key| Scopes(key.scopes())),
            metadata: key
                .and_then(|key| key.metadata())
                .and_then(|metadata| serde_json::from_str(metadata.as_json()).ok()),
            expires_at: key.and_then(|key| key.expires_at()),
            position: verdict.position.get(),
        }
    }
}

/// Returns the verdict as a caller sees it. The token of a key that the caller may not see looks like an
/// unknown token.
#[must_use]
pub(crate) fn seen_by<'a>(verdict: Verdict<'a>, caller: &Principal) -> Verdict<'a> {
    match verdict.key {
        Some(key) if !caller.sees(key.organization_id(), key.user_id()) => {
            Verdict { code: Verified::NotFound, key: None, ..verdict }
        }
        _ => verdict,
    }
}

/// The time and the origin of a verification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occasion {
    pub now: Timestamp,
    pub from: Address,
}

/// The plain form of the body. It borrows from the bytes unless they have escapes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Borrowed<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    #[serde(borrow, default)]
    environment: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    api_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    organization_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scopes: Option<Vec<Cow<'a, str>>>,
}

/// What a body requires of the key.
#[derive(Default)]
struct Asked<'a> {
    environment: Option<Environment>,
    api_id: Option<Cow<'a, str>>,
    organization_id: Option<Cow<'a, str>>,
    scopes: Vec<Cow<'a, str>>,
}

/// Verifies a token. The answer is 200 for every verdict.
#[utoipa::path(post, path = "/v1/keys/verify", operation_id = "verifyKey", tag = "Verification",
    request_body = VerifyBody, params(MinPosition),
    responses(
        (status = 200, body = VerdictBody, description = "the verdict"),
        (status = 401, body = ProblemBody,
            description = "`unauthenticated`: about the caller, not the token"),
        (status = 403, body = ProblemBody, description = "`forbidden`: the caller lacks `keys:verify`"),
        (status = 503, body = ProblemBody, description = "`position_not_reached`"),
    ))]
async fn verify(request: RequestContext, body: Body) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    check_media_type(&headers)?;
    let bytes = read_body(body).await?;
    let mut json = Vec::with_capacity(512);
    let occasion = Occasion { now: service.now(), from: Address::of(caller.actor.ip) };
    let position = match write_plain_verdict(&service, &caller.principal, &bytes, occasion, &mut json) {
        Some(position) => position,
        None => write_verdict(&service, &caller.principal, &bytes, occasion, &mut json)?,
    };
    Ok(json_response(json, position))
}

/// Writes the verdict for a body in the plain form from a caller that may verify. Otherwise returns `None`
/// and writes nothing.
pub(crate) fn write_plain_verdict(
    service: &Service,
    caller: &Principal,
    bytes: &[u8],
    occasion: Occasion,
    json: &mut Vec<u8>,
) -> Option<Position> {
    // Serde's derived code would also accept an array of the struct's members.
    if !caller.may(Permission::KeysVerify) || bytes.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let body = serde_json::from_slice::<Borrowed<'_>>(bytes).ok()?;
    let environment = body.environment.as_deref().map(str::parse).transpose().ok()?;
    let scopes = body.scopes.unwrap_or_default();
    if scopes.len() > SCOPES_MAX {
        return None;
    }
    let asked = Asked { environment, api_id: body.api_id, organization_id: body.organization_id, scopes };
    judge(service, caller, &body.token, &asked, occasion, json).ok()
}

/// Reads a body that is not in the plain form, field by field, and writes the verdict.
fn write_verdict(
    service: &Service,
    caller: &Principal,
    bytes: &[u8],
    occasion: Occasion,
    json: &mut Vec<u8>,
) -> Result<Position, Problem> {
    let Strict { fields: body, unknown }: Strict<VerifyBody> = read_object(bytes)?;
    let mut checks = Checks::default();
    let token = checks.required("token", &body.token, any_text());
    let fields = [&body.environment, &body.api_id, &body.organization_id, &body.scopes];
    let asked = Asked::read(&mut checks, fields);
    checks.unknown(&unknown);
    checks.finish()?;
    judge(service, caller, &token.unwrap_or_default(), &asked, occasion, json)
}

fn any_text() -> impl FnOnce(&Value) -> Reading<String> {
    text(|text: &str| Ok::<_, Infallible>(text.to_owned()))
}

impl Asked<'static> {
    /// Reads the members `environment`, `api_id`, `organization_id` and `scopes` of a body.
    fn read(checks: &mut Checks, [environment, api_id, organization_id, scopes]: [&Field; 4]) -> Self {
        let scope_set = set(SCOPES_MAX, |text: &str| Ok::<_, Infallible>(text.to_owned()));
        Self {
            environment: checks.optional("environment", environment, parsed::<Environment>),
            api_id: checks.optional("api_id", api_id, any_text()).map(Cow::Owned),
            organization_id: checks.optional("organization_id", organization_id, any_text()).map(Cow::Owned),
            scopes: checks
                .optional("scopes", scopes, scope_set)
                .unwrap_or_default()
                .into_iter()
                .map(Cow::Owned)
                .collect(),
        }
    }
}

fn judge(
    service: &Service,
    caller: &Principal,
    token: &str,
    asked: &Asked<'_>,
    occasion: Occasion,
    json: &mut Vec<u8>,
) -> Result<Position, Problem> {
    with_question(asked, |question| {
        service.index.verify(token, question, occasion.now, |verdict| {
            let verdict = seen_by(verdict, caller);
            service.verified(&verdict, occasion.now, occasion.from);
            serde_json::to_writer(json, &VerdictBody::of(&verdict))
                .map_err(|error| Problem::internal(&error))?;
            Ok(verdict.position)
        })
    })
}

/// Asks a question that borrows from `asked`.
fn with_question<R>(asked: &Asked<'_>, ask: impl FnOnce(&Question<'_>) -> R) -> R {
    let scopes: Vec<&str> = asked.scopes.iter().map(AsRef::as_ref).collect();
    ask(&Question {
        environment: asked.environment,
        organization_id: asked.organization_id.as_deref(),
        api_id: asked.api_id.as_deref(),
        scopes: &scopes,
    })
}

fn json_response(json: Vec<u8>, position: Position) -> Response {
    let mut response = Response::new(Body::from(json));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(POSITION, position_value(position));
    response
}

/// The verdicts on the tokens of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = Verifications)]
struct Verdicts<'a> {
    /// One verdict per token, in the order of the tokens.
    data: Vec<VerdictBody<'a>>,
}

/// Verifies up to 1,000 tokens.
#[utoipa::path(post, path = "/v1/keys/verify-batch", operation_id = "verifyKeys", tag = "Verification",
    request_body = VerifyBatchBody,
    responses((status = 200, body = Verdicts, description = "the verdicts, in the order of the tokens")))]
async fn verify_batch(
    RequestContext { service, caller, .. }: RequestContext,
    body: JsonBody<VerifyBatchBody, BATCH_BODY_LEN_MAX>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let tokens = checks.required("tokens", &body.tokens, tokens);
    let fields = [&body.environment, &body.api_id, &body.organization_id, &body.scopes];
    let asked = Asked::read(&mut checks, fields);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let tokens = tokens.unwrap_or_default();
    let others = tokens.len().saturating_sub(1) as u64;
    service.rate_limits.count_tokens(&caller.principal, others)?;
    let position = service.index.position();
    let mut json = Vec::with_capacity(256 * 1024);
    json.extend_from_slice(b"{\"data\":[");
    let (now, from) = (service.now(), Address::of(caller.actor.ip));
    with_question(&asked, |question| {
        for (index, token) in tokens.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            service.index.verify(token, question, now, |verdict| {
                let verdict = seen_by(verdict, &caller.principal);
                service.verified(&verdict, now, from);
                serde_json::to_writer(&mut json, &VerdictBody::of(&verdict))
                    .map_err(|error| Problem::internal(&error))
            })?;
        }
        Ok::<_, Problem>(())
    })?;
    json.extend_from_slice(b"]}");
    Ok(json_response(json, position))
}

fn tokens(value: &Value) -> Reading<Vec<String>> {
    let wrong = |below: String, detail: &str| vec![(below, detail.to_owned())];
    let Value::Array(items) = value else { return Err(wrong(String::new(), "must be an array of strings")) };
    if items.is_empty() || items.len() > BATCH_LEN_MAX {
        return Err(wrong(String::new(), "must have 1 to 1,000 tokens"));
    }
    let read = |(index, item): (usize, &Value)| match item {
        Value::String(token) => Ok(token.clone()),
        _ => Err(wrong(format!("/{index}"), "must be a string")),
    };
    items.iter().enumerate().map(read).collect()
}
