//! The OpenAPI document: its general part, and what follows for each endpoint from its parameters.

use http::{HeaderName, header};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, ResponseBuilder};

use crate::auth::access::{Access, ENDPOINTS};
use crate::http::log_gate;
use crate::request::idempotency;

/// The general part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keyledger",
        description = "Creates, lists, changes, verifies and audits API keys. Every change is an event in \
            a log that can be proven complete.\n\nEvery request carries a root key, or an access token that \
            an application obtained at `/oauth2/token`, as `Authorization: Bearer ...` or `x-api-key: ...`. \
            Errors are RFC 9457 problems; each code has a page at `/problems/<code>`. Writes answer \
            `Keyledger-Position`; reads accept `Keyledger-Min-Position` and wait up to two seconds for it. A \
            POST with an `Idempotency-Key` is executed once in 24 hours.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "this service")),
    tags(
        (name = "Keys", description = "Create, list and change keys"),
        (name = "Verification", description = "Check whether a token is valid"),
        (name = "Events", description = "Who did what, when"),
        (name = "Webhooks", description = "Events pushed to external receivers: Standard Webhooks 1.0"),
        (name = "Organizations", description = "The tenants that own keys"),
        (name = "APIs", description = "Resource servers whose scopes keys may carry"),
        (name = "Root keys", description = "Credentials of callers that manage or verify keys"),
        (name = "Applications", description = "OAuth 2.0 clients for machine-to-machine access"),
        (name = "Portal", description = "Portal access for people of an organization"),
        (name = "OAuth 2.0", description = "Access tokens for applications, and discovery"),
        (name = "Log", description = "The log for outside verification: C2SP tlog-tiles"),
        (name = "Service", description = "Health of the service"),
    ),
)]
struct Document;

/// Returns the document without endpoints.
pub(crate) fn overview() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Adds to each endpoint what follows from its parameters and its row in the table of access.
pub(crate) fn complete(document: &mut utoipa::openapi::OpenApi) {
    without_wildcards(document);
    one_operation_id_each(document);
    say_who_may(document);
    say_what_fails(document);
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic);
    components.add_security_scheme("client", SecurityScheme::Http(basic.build()));
    let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
    components.add_security_scheme("x_api_key", SecurityScheme::ApiKey(header));
    let cookie = ApiKey::Cookie(ApiKeyValue::new("keyledger_session"));
    components.add_security_scheme("portal_session", SecurityScheme::ApiKey(cookie));
}

/// Returns the endpoints of a path, by method.
fn operations(item: &mut PathItem) -> [(&'static str, &mut Option<Operation>); 5] {
    [
        ("GET", &mut item.get),
        ("PUT", &mut item.put),
        ("POST", &mut item.post),
        ("DELETE", &mut item.delete),
        ("PATCH", &mut item.patch),
    ]
}

/// Adds the required permissions to each endpoint, with the ways to present a credential.
fn say_who_may(document: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let row = ENDPOINTS.iter().find(|row| row.0 == method && row.1 == path);
            let (Some(operation), Some((_, _, access))) = (operation, row) else { continue };
            let needed = access.permissions().iter().map(|permission| permission.as_str());
            let schemes: &[&str] = match access {
                Access::Everyone => continue,
                Access::PortalSession => &["portal_session"],
                Access::Needs(_) | Access::NeedsUnbound(_) | Access::NeedsOrOwn(..) => {
                    &["bearer", "x_api_key", "portal_session"]
                }
            };
            let also = (path == "/oauth2/introspect").then_some("client");
            let schemes = schemes.iter().copied().chain(also);
            let requirements = schemes.map(|scheme| SecurityRequirement::new(scheme, needed.clone()));
            operation.security = Some(requirements.collect());
        }
    }
}

/// What an endpoint takes. Many of its answers follow from this.
struct Takes {
    /// A caller.
    caller: bool,
    /// A body of any media type.
    body: bool,
    json: bool,
    /// Parameters in the path and in the query, and an organization in the query.
    path: bool,
    query: bool,
    organization: bool,
    if_match: bool,
    if_none_match: bool,
    idempotency_key: bool,
}

impl Takes {
    fn of(operation: &Operation, access: Option<Access>) -> Self {
        let parameters = operation.parameters.iter().flatten();
        let parameters: Vec<_> = parameters
            .filter_map(|it| match it {
                RefOr::T(parameter) => Some((&parameter.parameter_in, parameter.name.as_str())),
                RefOr::Ref(_) => None,
            })
            .collect();
        let any = |place: ParameterIn| parameters.iter().any(|(it, _)| **it == place);
        let header = |header: HeaderName| {
            let is_it = |name: &str, place: &ParameterIn| {
                *place == ParameterIn::Header && header == *name.to_ascii_lowercase()
            };
            parameters.iter().any(|(place, name)| is_it(name, place))
        };
        let body = match &operation.request_body {
            Some(RefOr::T(body)) => Some(body),
            _ => None,
        };
        Self {
            caller: access.is_some_and(|access| access != Access::Everyone),
            body: body.is_some(),
            json: body.is_some_and(|body| body.content.contains_key("application/json")),
            path: any(ParameterIn::Path),
            query: any(ParameterIn::Query),
            organization: parameters.contains(&(&ParameterIn::Query, "organization_id")),
            if_match: header(header::IF_MATCH),
            if_none_match: header(header::IF_NONE_MATCH),
            idempotency_key: header(idempotency::HEADER),
        }
    }

    /// Returns the problems that follow.
    fn problems(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let Self { caller, body, json, path, query, organization, if_match, idempotency_key, .. } = *self;
        let rows = [
            (caller || json, "400", "`malformed_request`: a header or the body is malformed"),
            (caller, "401", "`unauthenticated`"),
            (
                caller,
                "403",
                "`forbidden`: the caller lacks a permission, or is bound to one organization; `csrf_failed`",
            ),
            (
                caller && (path || organization),
                "404",
                "the object does not exist, or the caller may not see it",
            ),
            (body, "408", "`request_timeout`: the body did not arrive in time"),
            (
                idempotency_key || if_match,
                "409",
                "`contended`: other requests change the same object; `idempotency_key_in_use`: the first \
                request with the key is still running",
            ),
            (if_match, "412", "`version_conflict`: `If-Match` does not list the current version"),
            (body, "413", "`body_too_large`"),
            (json, "415", "`unsupported_media_type`: the body is not declared as JSON"),
            (
                json || query || idempotency_key,
                "422",
                "`invalid_request`: `errors` names each invalid field and parameter; or \
                `idempotency_key_reused`",
            ),
            (
                caller || body,
                "503",
                "`overloaded`, with `Retry-After`; `position_not_reached`; `log_inconsistent`; or the data for \
                the answer is unavailable",
            ),
        ];
        rows.into_iter().filter(|row| row.0).map(|(_, status, description)| (status, description))
    }
}

/// The endpoints that no limit applies to.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

fn header_of(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(description)).build()
}

/// Gives the documented problems their media type, and adds to each endpoint the problems that follow from
/// what it takes, unless the endpoint documents the status itself.
fn say_what_fails(document: &mut utoipa::openapi::OpenApi) {
    const PROBLEM: &str = "application/problem+json";
    let schema = || Ref::from_schema_name("Problem");
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let Some(operation) = operation else { continue };
            let row = ENDPOINTS.iter().find(|row| row.0 == method && row.1 == path);
            let takes = Takes::of(operation, row.map(|row| row.2));
            let responses = &mut operation.responses.responses;
            if takes.if_none_match {
                let unchanged =
                    ResponseBuilder::new().description("`If-None-Match` lists the current version");
                responses.entry("304".into()).or_insert_with(|| unchanged.build().into());
            }
            if !HEALTH.contains(&path.as_str()) {
                responses.entry("429".into()).or_insert_with(|| {
                    let content = ContentBuilder::new().schema(Some(schema())).build();
                    let refused = ResponseBuilder::new()
                        .description(
                            "`rate_limited`: the caller, its organization or its address asks too much",
                        )
                        .content(PROBLEM, content)
                        .header("Retry-After", header_of("seconds until the request may succeed"))
                        .header("RateLimit-Policy", header_of("the limit that was exceeded"))
                        .header(
                            "RateLimit",
                            header_of("what is left of it, and the seconds until it is more"),
                        );
                    refused.build().into()
                });
            }
            let refused = (!log_gate::is_open(path)).then_some(("503", "`log_inconsistent`"));
            for (status, description) in takes.problems().chain(refused) {
                responses.entry(status.into()).or_insert_with(|| {
                    let content = ContentBuilder::new().schema(Some(schema())).build();
                    ResponseBuilder::new().description(description).content(PROBLEM, content).build().into()
                });
            }
            for response in responses.values_mut() {
                let RefOr::T(response) = response else { continue };
                let is_problem = matches!(response.content.get("application/json"),
                    Some(RefOr::T(content)) if content.schema == Some(RefOr::Ref(schema())));
                if is_problem && let Some(content) = response.content.shift_remove("application/json") {
                    response.content.insert(PROBLEM.into(), content);
                }
            }
        }
    }
}

/// Removes the star with which the router marks a parameter that may contain slashes. OpenAPI has no such
/// mark.
fn without_wildcards(document: &mut utoipa::openapi::OpenApi) {
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
}

/// Gives each operation of an endpoint with several methods its own id.
fn one_operation_id_each(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [
            ("Get", &mut item.get),
            ("Put", &mut item.put),
            ("Post", &mut item.post),
            ("Delete", &mut item.delete),
            ("Options", &mut item.options),
            ("Head", &mut item.head),
            ("Patch", &mut item.patch),
        ];
        let mut several: Vec<_> = operations
            .into_iter()
            .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
            .collect();
        let first = several.first().and_then(|(_, operation)| operation.operation_id.clone());
        if several.len() > 1 && several.iter().all(|(_, operation)| operation.operation_id == first) {
            for (method, operation) in &mut several {
                operation.operation_id = operation.operation_id.take().map(|id| format!("{id}{method}"));
            }
        }
    }
}
