//! Issuing a key: what the body must say, and whose the key is. The plain form of the call comes here ahead of the router
//! ([`fast_path`](crate::http::fast_path)).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::key::{ExpiryPreset, Key, Owner, OwnerKind};
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, OrganizationId};
use keyledger_engine::value::text::{Description, Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Token;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{KeyView, KeyWithToken};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, Members, parsed, set, text};
use crate::request::execution::Outcome;
use crate::routes::keys::issuing::{NewKey, issue};
use crate::service::Service;

/// The call's path, in the table of calls too.
pub(crate) const PATH: &str = "/v1/keys";

/// The call that issues a key.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create))
}

/// A new key.
#[derive(ToSchema, Default)]
#[schema(as = CreateKey)]
pub(crate) struct CreateBody {
    /// The organization it is to belong to.
    #[schema(value_type = String, required = true)]
    organization_id: Field,
    /// The user it is to belong to; opaque here.
    #[schema(value_type = Option<String>, max_length = 255)]
    user_id: Field,
    /// Whom it is for. Without it, a `client_organization_id` makes it a `client`'s key, a `user_id` a `user`'s, and
    /// neither the `organization`'s. `partner` is for every client in the portfolio of an organization of kind partner.
    #[schema(value_type = Option<String>, example = "organization")]
    owner: Field,
    /// The client organization that it is for: one in the portfolio of `organization_id`. The key verifies with this id as
    /// `organization_id` and no other, and stops when the client leaves the portfolio.
    #[schema(value_type = Option<String>)]
    client_organization_id: Field,
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    name: Field,
    /// What it is for.
    #[schema(value_type = Option<String>, max_length = 4000)]
    description: Field,
    /// Where it is valid: `preview` or `production`.
    #[schema(value_type = String, required = true, example = "production")]
    environment: Field,
    /// The API it is for.
    #[schema(value_type = Option<String>)]
    api_id: Field,
    /// What it may do; scopes of its API if it has one.
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Field,
    /// `two_weeks`, `one_month`, `three_months`, `six_months`, `one_year` or `never`; not together with `expires_at`.
    #[schema(value_type = Option<String>, example = "three_months")]
    expires_in: Field,
    /// When it ends: RFC 3339, in the future; not together with `expires_in`.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Field,
    /// A JSON object of at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Field,
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

impl Members for CreateBody {
    fn known(&mut self, name: &str) -> Option<&mut Field> {
        Some(match name {
            "organization_id" => &mut self.organization_id,
            "user_id" => &mut self.user_id,
            "owner" => &mut self.owner,
            "client_organization_id" => &mut self.client_organization_id,
            "name" => &mut self.name,
            "description" => &mut self.description,
            "environment" => &mut self.environment,
            "api_id" => &mut self.api_id,
            "scopes" => &mut self.scopes,
            "expires_in" => &mut self.expires_in,
            "expires_at" => &mut self.expires_at,
            "metadata" => &mut self.metadata,
            _ => return None,
        })
    }

    fn unknown(&mut self) -> &mut Map<String, Value> {
        &mut self.unknown
    }
}

impl<'de> Deserialize<'de> for CreateBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(deserializer)
    }
}

pub(in crate::routes) fn metadata(value: &Value) -> crate::request::body::Reading<Metadata> {
    Metadata::new(value).map_err(|error| vec![(String::new(), error.to_string())])
}

pub(in crate::routes) fn scopes(value: &Value) -> crate::request::body::Reading<Vec<Scope>> {
    set(Scope::COUNT_MAX, Scope::new)(value)
}

/// Issues a key. The answer is the only one that shows its token.
#[utoipa::path(post, path = "/v1/keys", operation_id = "createKey", tag = "Keys", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = KeyWithToken, description = "the key and its token"),
        (status = 403, body = ProblemBody, description = "`forbidden`, `organization_kind_not_allowed`, `client_not_in_portfolio`"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`, `api_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`, `api_deleted`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails; `policy_violation` with all that breaks the organization's policy"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let Asked { new, by_preset } = Asked::read(&service, &caller, &body)?;
    let issued = issue(&service, &caller, &headers, ("POST /v1/keys", &bytes), new).await;
    let (outcome, token) = issued.map_err(|problem| in_words_of(problem, by_preset))?;
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .version(outcome.version)
        .location(&format!("{PATH}/{}", outcome.object.id))
        .secret()
        .replayed(outcome.replayed)
        .json(&shown(&outcome, &token))
}

/// A key that is asked for by a body with which nothing is wrong.
pub(crate) struct Asked {
    /// The key.
    pub new: NewKey,
    /// Whether its end is given by a preset.
    pub by_preset: bool,
}

impl Asked {
    /// Reads what a caller who may make the call asks for.
    ///
    /// # Errors
    /// Whatever is wrong with the body.
    pub(crate) fn read(service: &Service, caller: &Caller, body: &CreateBody) -> Result<Self, Problem> {
        let now = service.ledger.now();
        let mut checks = Checks::default();
        let organization_id =
            checks.required("organization_id", &body.organization_id, parsed::<OrganizationId>);
        let user_id = checks.optional("user_id", &body.user_id, text(UserId::new));
        let owner = read_owner(&mut checks, body, user_id.is_some());
        let name = checks.optional("name", &body.name, text(Name::new));
        let description = checks.optional("description", &body.description, text(Description::new));
        let environment = checks.required("environment", &body.environment, parsed::<Environment>);
        let api_id = checks.optional("api_id", &body.api_id, parsed::<ApiId>);
        let scopes = checks.optional("scopes", &body.scopes, scopes);
        let preset = checks.optional("expires_in", &body.expires_in, parsed::<ExpiryPreset>);
        let expires_at = checks.optional("expires_at", &body.expires_at, parsed::<Timestamp>);
        let metadata = checks.optional("metadata", &body.metadata, metadata);
        if preset.is_some() && expires_at.is_some() {
            checks.fail("/expires_at", "must not be given together with expires_in");
        }
        checks.unknown(&body.unknown);
        check_known(service, caller, organization_id.as_ref(), api_id, scopes.as_deref(), &mut checks);
        checks.not_past("expires_at", expires_at, now);
        checks.finish()?;
        let (Some(organization_id), Some(environment)) = (organization_id, environment) else {
            return Err(Problem::of(Code::InvalidRequest));
        };
        if !caller.sees(&organization_id) {
            return Err(Problem::of(Code::OrganizationNotFound));
        }
        let (owner, user_id) = owner_for(caller, owner, user_id)?;
        let new = NewKey {
            organization_id,
            api_id,
            owner,
            user_id,
            name,
            description,
            metadata,
            environment,
            scopes: scopes.unwrap_or_default(),
            expires_at: expires_at.or_else(|| preset.and_then(|preset| preset.expires_at(now))),
        };
        Ok(Self { new, by_preset: preset.is_some() })
    }
}

/// What is answered of a key that was issued.
pub(crate) fn shown<'a>(outcome: &'a Outcome<Key>, token: &'a Token) -> KeyWithToken<'a> {
    let token = (!outcome.replayed).then(|| token.expose());
    KeyWithToken { key: KeyView::of(&outcome.object, outcome.time), token }
}

/// Whom a new key is for, as its body says it. What fails is noted.
fn read_owner(checks: &mut Checks, body: &CreateBody, has_user: bool) -> Owner {
    let kind = checks.optional("owner", &body.owner, parsed::<OwnerKind>);
    let client_id =
        checks.optional("client_organization_id", &body.client_organization_id, parsed::<OrganizationId>);
    let implied = match &client_id {
        Some(_) => OwnerKind::Client,
        None => Owner::in_organization(has_user).kind,
    };
    let kind = kind.unwrap_or(implied);
    if has_user && kind != OwnerKind::User {
        checks.fail("/user_id", format!("must not be given for a key of owner {kind}"));
    }
    if body.user_id.is_missing() && kind == OwnerKind::User {
        checks.fail("/user_id", "is required for a key of owner user");
    }
    if client_id.is_some() && kind != OwnerKind::Client {
        checks.fail("/client_organization_id", format!("must not be given for a key of owner {kind}"));
    }
    match (kind, client_id) {
        (OwnerKind::Organization | OwnerKind::User, _) => Owner { kind, client_id: None },
        (OwnerKind::Partner, _) => Owner::partner(),
        (OwnerKind::Client, Some(client_id)) => Owner::client(client_id),
        (OwnerKind::Client, None) => {
            if body.client_organization_id.is_missing() {
                checks.fail("/client_organization_id", "is required for a key of owner client");
            }
            Owner { kind, client_id: None }
        }
    }
}

/// Whose a new key is: who may see only their own keys makes only such.
///
/// # Errors
/// `forbidden` when it is to be somebody else's.
pub(crate) fn owner_for(
    caller: &Caller,
    owner: Owner,
    user_id: Option<UserId>,
) -> Result<(Owner, Option<UserId>), Problem> {
    let Some(own) = caller.own_keys_of() else { return Ok((owner, user_id)) };
    let is_for_others = user_id.as_ref().is_some_and(|asked| asked != own)
        || matches!(owner.kind, OwnerKind::Partner | OwnerKind::Client);
    if is_for_others {
        return Err(Problem::new(
            Code::Forbidden,
            "a member issues keys of their own; leave owner and user_id out",
        ));
    }
    Ok((Owner::in_organization(true), Some(own.clone())))
}

/// Names unknown organizations, APIs and scopes together with everything else that fails. The rules look again.
fn check_known(
    service: &Service,
    caller: &Caller,
    organization_id: Option<&OrganizationId>,
    api_id: Option<ApiId>,
    scopes: Option<&[Scope]>,
    checks: &mut Checks,
) {
    if organization_id
        .is_some_and(|id| caller.bound_to().is_none() && service.index.organization(id).is_none())
    {
        checks.fail("/organization_id", Rejection::OrganizationUnknown.to_string());
    }
    let Some(api_id) = api_id else { return };
    match service.index.api(api_id) {
        None => checks.fail("/api_id", Rejection::ApiUnknown.to_string()),
        Some(api) if api.deleted_at.is_some() => checks.fail("/api_id", Rejection::ApiDeleted.to_string()),
        Some(api) => check_scopes(&api, scopes, checks),
    }
}

/// Names scopes that an API does not have.
pub(in crate::routes) fn check_scopes(api: &Api, scopes: Option<&[Scope]>, checks: &mut Checks) {
    for (index, scope) in scopes.unwrap_or_default().iter().enumerate() {
        if !api.scopes.contains(scope) {
            checks.fail(format!("/scopes/{index}"), "the API does not have this scope");
        }
    }
}

/// The problem as the body can be blamed for it: what it names and is not there is a field that fails, not a missing page;
/// and an end that breaks a policy was given by a preset or as a time.
pub(crate) fn in_words_of(mut problem: Problem, by_preset: bool) -> Problem {
    for error in problem.errors.iter_mut().filter(|error| by_preset && error.pointer == "/expires_at") {
        error.pointer = "/expires_in".into();
    }
    match problem.code {
        Code::OrganizationNotFound => Problem::field("/organization_id", problem.detail),
        Code::ApiNotFound | Code::ApiDeleted => Problem::field("/api_id", problem.detail),
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn every_documented_member_is_known() {
        let schema = serde_json::to_value(CreateBody::schema()).unwrap();
        let members = schema["properties"].as_object().unwrap();
        assert_eq!(members.len(), 12);
        for name in members.keys() {
            assert!(CreateBody::default().known(name).is_some(), "{name}");
        }
        assert!(CreateBody::default().known("color").is_none());
    }
}
