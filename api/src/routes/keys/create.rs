//! Creating a key: its body and its owner. The [`fast_path`](crate::http::fast_path) uses the same code ahead
//! of the router.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::key::{CreateKey, ExpiryPreset, Owner, OwnerKind};
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

use super::issuing::{draw_token, issue};
use super::view::KeyWithToken;
use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::auth::caller::Caller;
use crate::openapi::parameters::IdempotencyKey;
use crate::request::body::{Checks, Field, Json, Members, Reading, parsed, set, text};
use crate::request::context::RequestContext;
use crate::service::Service;

/// The endpoint's path, as in the table of access.
pub(crate) const PATH: &str = "/v1/keys";

/// Returns the endpoint that creates keys.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create))
}

/// A new key.
#[derive(ToSchema, Default)]
#[schema(as = CreateKey)]
pub(crate) struct CreateBody {
    /// The organization it belongs to.
    #[schema(value_type = String, required = true)]
    organization_id: Field,
    /// The user it belongs to. The service does not interpret it.
    #[schema(value_type = Option<String>, max_length = 255)]
    user_id: Field,
    /// For whom it is: `organization`, `user`, `partner` or `client`. Default: `client` with a
    /// `client_organization_id`, `user` with a `user_id`, else `organization`. `partner` is for every client
    /// in the portfolio of an organization of kind partner.
    #[schema(value_type = Option<String>, example = "organization")]
    owner: Field,
    /// The client organization of a client's key, in the portfolio of `organization_id`. The key verifies
    /// only with this id as `organization_id`, and becomes invalid when the client leaves the portfolio.
    #[schema(value_type = Option<String>)]
    client_organization_id: Field,
    /// The display name.
    #[schema(value_type = Option<String>, max_length = 1000)]
    name: Field,
    /// Its purpose.
    #[schema(value_type = Option<String>, max_length = 4000)]
    description: Field,
    /// The environment in which it is valid: `preview` or `production`.
    #[schema(value_type = String, required = true, example = "production")]
    environment: Field,
    /// The API it is for.
    #[schema(value_type = Option<String>)]
    api_id: Field,
    /// The scopes it carries. If it has an API, they must be scopes of the API.
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Field,
    /// `two_weeks`, `one_month`, `three_months`, `six_months`, `one_year` or `never`. Not together with
    /// `expires_at`.
    #[schema(value_type = Option<String>, example = "three_months")]
    expires_in: Field,
    /// When it expires: RFC 3339, in the future. Not together with `expires_in`.
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

pub(super) fn metadata(value: &Value) -> Reading<Metadata> {
    Metadata::new(value).map_err(|error| vec![(String::new(), error.to_string())])
}

pub(super) fn scopes(value: &Value) -> Reading<Vec<Scope>> {
    set(Scope::COUNT_MAX, Scope::new)(value)
}

/// Creates a key. Only this answer shows its token.
#[utoipa::path(post, path = "/v1/keys", operation_id = "createKey", tag = "Keys", request_body = CreateBody,
    params(IdempotencyKey),
    responses(
        (status = 201, body = KeyWithToken, description = "the key and its token"),
        (status = 403, body = ProblemBody,
            description = "`forbidden`, `organization_kind_not_allowed`, `client_not_in_portfolio`"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`, `api_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`, `api_deleted`"),
        (status = 422, body = ProblemBody,
            description = "`invalid_request` with every invalid field; `policy_violation` with every \
                violation of the organization's policy"),
    ))]
async fn create(
    request: RequestContext,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    let Asked { key, token, by_preset } = Asked::read(&service, &caller, &body)?;
    let issued = issue(&service, &caller, &headers, ("POST /v1/keys", &bytes), key).await;
    let outcome = issued.map_err(|problem| for_body(problem, by_preset))?;
    let path = format!("{PATH}/{}", outcome.object.id);
    outcome.created(&path).secret().json(&KeyWithToken::of(&outcome, &token))
}

/// A valid request for a key.
pub(crate) struct Asked {
    pub key: CreateKey,
    pub token: Token,
    /// Whether the body gives the expiry by a preset.
    pub by_preset: bool,
}

impl Asked {
    /// Reads the body of an authorized caller, and draws the key's token.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
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
        let token = draw_token(service, api_id, environment)?;
        let key = CreateKey {
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
            digest: token.digest(),
            hint: token.hint(),
        };
        Ok(Self { key, token, by_preset: preset.is_some() })
    }
}

/// Reads the owner of a new key, and records what is invalid.
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

/// Returns the owner and the user of a new key. A caller that sees only its own keys creates only its own.
///
/// # Errors
/// `forbidden` if such a caller asks for another owner.
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
            "a member creates only its own keys; omit owner and user_id",
        ));
    }
    Ok((Owner::in_organization(true), Some(own.clone())))
}

/// Reports unknown organizations, APIs and scopes together with the other invalid fields. The domain's rules
/// check them again.
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

/// Records the scopes that an API does not have as invalid.
pub(super) fn check_scopes(api: &Api, scopes: Option<&[Scope]>, checks: &mut Checks) {
    for (index, scope) in scopes.unwrap_or_default().iter().enumerate() {
        if !api.scopes.contains(scope) {
            checks.fail(format!("/scopes/{index}"), "the API does not have this scope");
        }
    }
}

/// Returns a problem of creating a key in terms of the body: an object that the body names and that does not
/// exist is an invalid field, not a 404. An expiry that violates a policy is reported under the field that
/// gave it.
pub(crate) fn for_body(mut problem: Problem, by_preset: bool) -> Problem {
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
