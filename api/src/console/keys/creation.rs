//! The form that creates a key.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::domain::key::ExpiryPreset;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

use super::token_page;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::frame::secret_page::Secret;
use crate::console::parts::field::Field;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::key::Key;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::tenants::api_choice::Apis;
use crate::console::tenants::organization_choice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

/// The fields that the form shows errors for.
const FIELDS: [&str; 11] = [
    "organization_id",
    "name",
    "description",
    "environment",
    "api_id",
    "scopes",
    "expires_in",
    "expires_at",
    "user_id",
    "client_organization_id",
    "metadata",
];
const PRESETS: [(ExpiryPreset, &str, &str); 6] = [
    (ExpiryPreset::TwoWeeks, "two_weeks", "Two weeks"),
    (ExpiryPreset::OneMonth, "one_month", "One month"),
    (ExpiryPreset::ThreeMonths, "three_months", "Three months"),
    (ExpiryPreset::SixMonths, "six_months", "Six months"),
    (ExpiryPreset::OneYear, "one_year", "One year"),
    (ExpiryPreset::Never, "never", "Never"),
];

/// The organization that owns the new key.
#[derive(Deserialize)]
struct Organization {
    id: String,
    name: Option<String>,
    kind: String,
}

impl Organization {
    fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

#[derive(Deserialize)]
struct Created {
    key: Key,
    token: Option<Secret>,
}

#[derive(Template)]
#[template(path = "keys/creation.html")]
struct KeyCreationPage {
    frame: Frame,
    form: Form,
    errors: FieldErrors,
    /// The key's organization, if it is known.
    organization: Option<Organization>,
    /// The field that asks for the organization otherwise.
    organization_field: Option<Field>,
    /// Whether the visitor can only create keys of their own.
    own_only: bool,
    apis: Apis,
    /// Each preset's API word, name and expiry date.
    presets: Vec<(&'static str, &'static str, String)>,
    request: String,
    back: String,
}

page!(KeyCreationPage);

impl KeyCreationPage {
    async fn new(visitor: &Visitor, form: Form, errors: FieldErrors) -> Result<Self, Problem> {
        let bound = visitor.principal.organization_id.as_ref().map(ToString::to_string);
        let chosen = bound.or_else(|| form.filled("organization_id").map(ToOwned::to_owned));
        let organization = match &chosen {
            Some(id) => match organization(visitor, id).await {
                Ok(organization) => Some(organization),
                // The visitor typed an unknown id, so the form asks again.
                Err(problem) if problem.code == Code::OrganizationNotFound => None,
                Err(problem) => return Err(problem),
            },
            None => None,
        };
        let organization_field = match &organization {
            Some(_) => None,
            None => organization_choice::field(visitor, "organization_id", "Organization").await,
        };
        let organization_field = organization_field.map(|field| field.filled(&form, &errors));
        let of = organization.as_ref().map(|organization| organization.id.clone());
        let frame = Frame::of(visitor, "Create key", Some(Section::Keys), of.as_deref()).await;
        let date = |preset: ExpiryPreset| {
            let end = preset.expires_at(visitor.now);
            end.map_or_else(|| "No expiry".into(), |end| Moment::new(end, visitor.now).date())
        };
        Ok(Self {
            frame,
            errors,
            organization,
            organization_field,
            own_only: visitor.principal.user_id.is_some(),
            apis: Apis::read(visitor).await?,
            presets: PRESETS.iter().map(|(preset, word, name)| (*word, *name, date(*preset))).collect(),
            request: form
                .filled("request")
                .map_or_else(|| RequestId::draw().as_str().into(), ToOwned::to_owned),
            back: QueryString::default().with("organization_id", of.as_deref()).after("/console/keys"),
            form,
        })
    }

    /// Whether an option is the chosen one, or the default if none is chosen.
    fn is_chosen(&self, field: &str, value: &str, default: &str) -> bool {
        match self.form.text(field) {
            "" => value == default,
            chosen => chosen == value,
        }
    }

    fn has_scope(&self, api: &str, scope: &str) -> bool {
        self.form.texts(&format!("scopes:{api}")).any(|chosen| chosen == scope)
    }

    /// Whether the organization's kind cannot have keys.
    fn has_no_keys(&self) -> bool {
        self.organization.as_ref().is_some_and(|organization| organization.kind == "free")
    }

    fn is_partner(&self) -> bool {
        self.organization.as_ref().is_none_or(|organization| organization.kind == "partner")
    }

    /// Whether a field in the folded section has an error.
    fn unfolded(&self) -> bool {
        ["description", "metadata", "user_id", "client_organization_id"]
            .iter()
            .any(|field| self.errors.get(field).is_some())
    }

    fn other_errors(&self) -> Vec<String> {
        self.errors.others(&FIELDS)
    }
}

/// Reads an organization. A visitor who may not read it gets its id alone.
async fn organization(visitor: &Visitor, id: &str) -> Result<Organization, Problem> {
    if visitor.may(&Method::GET, "/v1/organizations/{id}") {
        return visitor.read(&format!("/v1/organizations/{}", encoded(id))).await;
    }
    Ok(Organization { id: id.into(), name: None, kind: String::new() })
}

pub(crate) async fn form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/keys")?;
    let query = QueryString::of(&visitor.address);
    let form = Form::of(query.pairs().iter().filter(|(name, _)| FIELDS.contains(&name.as_str())).cloned());
    Ok(KeyCreationPage::new(&visitor, form, FieldErrors::default()).await?.answer(StatusCode::OK))
}

/// Creates the key and shows its token.
pub(crate) async fn create(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let body = match body_of(&visitor, &form) {
        Ok(body) => body,
        Err(errors) => {
            let page = KeyCreationPage::new(&visitor, form, errors).await?;
            return Ok(page.answer(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let call = visitor.call(Method::POST, "/v1/keys").json(&body);
    let answer = call.named(&form).send::<Created>().await;
    let (created, position) = match answer {
        Ok(answer) => (answer.body, answer.position),
        Err(problem) => {
            let errors = FieldErrors::of(problem)?;
            let page = KeyCreationPage::new(&visitor, form, errors).await?;
            return Ok(page.answer(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    Ok(token_page::show_created(&visitor, &created.key, created.token, position).await)
}

/// Translates the form into the body of `POST /v1/keys`.
fn body_of(visitor: &Visitor, form: &Form) -> Result<Value, FieldErrors> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.into(), value);
        }
    };
    let bound = visitor.principal.organization_id.as_ref();
    set("organization_id", bound.map_or_else(|| form.json("organization_id"), |id| json!(id.as_str())));
    for name in ["name", "description", "environment", "api_id"] {
        set(name, form.json(name));
    }
    let scopes = match form.filled("api_id") {
        Some(api) => form.texts(&format!("scopes:{api}")).map(Value::from).collect(),
        None => form.json_lines("scopes"),
    };
    set("scopes", scopes);
    match form.filled("expires_in") {
        Some("date") => set("expires_at", json!(end_of_day(form)?.to_string())),
        _ => set("expires_in", form.json("expires_in")),
    }
    match form.filled("owner") {
        Some("user") => {
            set("owner", json!("user"));
            set("user_id", form.json("user_id"));
        }
        Some("client") => {
            set("owner", json!("client"));
            set("client_organization_id", form.json("client_organization_id"));
        }
        Some(owner @ ("organization" | "partner")) => set("owner", json!(owner)),
        _ => {}
    }
    set("metadata", metadata(form)?);
    Ok(Value::Object(body))
}

/// The end of the chosen day, in UTC.
pub(crate) fn end_of_day(form: &Form) -> Result<Timestamp, FieldErrors> {
    format!("{}T23:59:59.999Z", form.text("expires_on").trim())
        .parse()
        .map_err(|_| FieldErrors::one("expires_at", "Choose the day on which the key expires."))
}

/// The metadata, or `null` if the field is empty.
pub(crate) fn metadata(form: &Form) -> Result<Value, FieldErrors> {
    let text = form.filled("metadata");
    text.map_or(Ok(Value::Null), serde_json::from_str).map_err(|_| {
        FieldErrors::one("metadata", "Enter a JSON object, for example {\"team\": \"billing\"}.")
    })
}
