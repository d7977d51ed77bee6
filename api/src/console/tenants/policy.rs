//! An organization's policies: rules for its keys in each environment, and the forms that set and remove
//! them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::organization::{Organization, call_path};
use crate::console::frame::form_page::{FormPage, field_errors};
use crate::console::frame::navigation::{Section, organization_path};
use crate::console::parts::field::{Choice, Field};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::number::grouped;
use crate::console::parts::query_string::encoded;
use crate::console::state::Console;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

/// The units of a maximum lifetime: word, name and seconds.
const UNITS: [(&str, &str, u64); 4] = [
    ("days", "Days", 86_400),
    ("hours", "Hours", 3_600),
    ("minutes", "Minutes", 60),
    ("seconds", "Seconds", 1),
];

/// A policy as the API returns it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Policy {
    max_lifetime_seconds: Option<u64>,
    expiry_required: bool,
    max_keys_per_user: Option<u32>,
    allowed_scopes: Option<Vec<String>>,
    name_required: bool,
}

impl Policy {
    /// Reads an organization's policy for an environment, if there is one.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn read(
        visitor: &Visitor,
        id: &str,
        environment: &str,
    ) -> Result<Option<Self>, Problem> {
        match visitor.read(&policy_path(id, environment)).await {
            Ok(policy) => Ok(Some(policy)),
            Err(problem) if problem.code == Code::PolicyNotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// The rules, one sentence each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(seconds) = self.max_lifetime_seconds {
            let (count, (word, ..)) = in_unit(seconds);
            let word = if count == 1 { word.trim_end_matches('s') } else { word };
            lines.push(format!("Keys last at most {} {word}.", grouped(count)));
        }
        if self.expiry_required {
            lines.push("Keys must expire.".into());
        }
        if let Some(count) = self.max_keys_per_user {
            let noun = if count == 1 { "key" } else { "keys" };
            lines.push(format!("Users can have at most {} active {noun}.", grouped(count.into())));
        }
        if self.name_required {
            lines.push("Keys must have a name.".into());
        }
        match self.allowed_scopes.as_deref() {
            Some([]) => lines.push("Keys can't have scopes.".into()),
            Some(scopes) => lines.push(format!("Keys can have only these scopes: {}.", scopes.join(", "))),
            None => {}
        }
        if lines.is_empty() {
            lines.push("No rules.".into());
        }
        lines
    }

    fn form(&self) -> Form {
        let mut fields = Vec::new();
        let mut set = |name: &str, value: String| fields.push((name.to_owned(), value));
        let life = self.max_lifetime_seconds.map(in_unit);
        set("max_lifetime_seconds", life.map(|(count, _)| count.to_string()).unwrap_or_default());
        set("unit", life.map_or("days", |(_, (word, ..))| word).into());
        set("max_keys_per_user", self.max_keys_per_user.map(|count| count.to_string()).unwrap_or_default());
        set("scopes", if self.allowed_scopes.is_some() { "these" } else { "any" }.into());
        set("allowed_scopes", self.allowed_scopes.as_deref().unwrap_or_default().join("\n"));
        for (name, is_set) in
            [("expiry_required", self.expiry_required), ("name_required", self.name_required)]
        {
            if is_set {
                set("demands", name.into());
            }
        }
        Form::of(fields.into_iter())
    }
}

/// Expresses a duration in the largest unit that divides it.
fn in_unit(seconds: u64) -> (u64, (&'static str, &'static str, u64)) {
    let whole = UNITS.into_iter().find(|(.., length)| seconds >= *length && seconds.is_multiple_of(*length));
    let unit = whole.unwrap_or(("seconds", "Seconds", 1));
    (seconds / unit.2, unit)
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/organizations/{id}/policies/{environment}", get(form).post(set))
        .route("/console/organizations/{id}/policies/{environment}/remove", get(remove_form).post(remove))
}

fn policy_path(id: &str, environment: &str) -> String {
    call_path(id, &format!("/policies/{}", encoded(environment)))
}

fn title(environment: &str) -> &'static str {
    if environment == "production" { "Policy for production" } else { "Policy for preview" }
}

async fn page(
    visitor: &Visitor,
    organization: &Organization,
    environment: &str,
    form: &Form,
    errors: &FieldErrors,
) -> Response {
    let fields = vec![
        Field::any_of(
            "demands",
            "Every key must have",
            vec![Choice::new("expiry_required", "An expiry", ""), Choice::new("name_required", "A name", "")],
        ),
        Field::number("max_lifetime_seconds", "Maximum lifetime")
            .optional()
            .hint("From creation to expiry. Keys that never expire violate this rule."),
        Field::one_of("unit", "Unit", UNITS.map(|(word, name, _)| Choice::new(word, name, "")).to_vec()),
        Field::number("max_keys_per_user", "Maximum active keys per user").optional(),
        Field::one_of(
            "scopes",
            "Scopes",
            vec![
                Choice::new("any", "Any", "Keys can have any scope"),
                Choice::new("these", "Only these", "Leave the list empty to allow no scopes"),
            ],
        ),
        Field::words("allowed_scopes", "Allowed scopes", "read:users write:users")
            .optional()
            .hint("Separated by spaces or line breaks."),
    ];
    let tail = format!("/policies/{}", encoded(environment));
    let page = FormPage::new(
        visitor,
        Section::Organizations,
        Some(&organization.id),
        title(environment),
        organization.path(&tail),
        organization.path(""),
    );
    let page = page.await.about(organization.short_label()).submit("Save policy");
    page.text(
        "New keys and changes to keys are refused if they violate the policy. Existing keys stay as they \
         are.",
    )
    .hidden("version", form.text("version"))
    .fields(fields, form, errors)
    .show()
}

/// Shows the form with the current rules.
async fn form(
    visitor: Visitor,
    Path((id, environment)): Path<(String, String)>,
) -> Result<Response, Problem> {
    visitor.require(&Method::PUT, "/v1/organizations/{id}/policies/{environment}")?;
    let organization = Organization::read(&visitor, &id).await?;
    known(&environment)?;
    let policy = Policy::read(&visitor, &id, &environment).await?;
    let nothing = Policy {
        max_lifetime_seconds: None,
        expiry_required: false,
        max_keys_per_user: None,
        allowed_scopes: None,
        name_required: false,
    };
    let form = policy.unwrap_or(nothing).form().and("version", organization.version.to_string());
    Ok(page(&visitor, &organization, &environment, &form, &FieldErrors::default()).await)
}

fn known(environment: &str) -> Result<(), Problem> {
    if matches!(environment, "production" | "preview") { Ok(()) } else { Err(Problem::of(Code::NotFound)) }
}

/// A field's number in `unit`s. Any other text is passed on as it is, and the API reports the error.
fn number(form: &Form, name: &str, unit: u64) -> Value {
    match form.filled(name) {
        None => Value::Null,
        Some(text) => match text.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)) {
            Some(count) => count.into(),
            None => text.into(),
        },
    }
}

async fn set(
    Path((id, environment)): Path<(String, String)>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let organization = Organization::read(&visitor, &id).await?;
    known(&environment)?;
    let unit = UNITS.iter().find(|(word, ..)| *word == form.text("unit")).map_or(1, |(.., length)| *length);
    let demands = |name: &str| form.texts("demands").any(|demanded| demanded == name);
    let scopes = if form.text("scopes") == "these" { form.json_lines("allowed_scopes") } else { Value::Null };
    let body = json!({
        "max_lifetime_seconds": number(&form, "max_lifetime_seconds", unit),
        "expiry_required": demands("expiry_required"),
        "max_keys_per_user": number(&form, "max_keys_per_user", 1),
        "allowed_scopes": scopes,
        "name_required": demands("name_required"),
    });
    let call = visitor.call(Method::PUT, policy_path(&id, &environment)).json(&body);
    let call = call.if_match(&form);
    match call.send::<Policy>().await {
        Ok(answer) => {
            let text = format!("The policy for {environment} was saved. Check which keys violate it.");
            Ok(visitor.go_to(&organization.path(""), &Notice::of(answer.position, text)))
        }
        Err(problem) => {
            let errors = field_errors(problem, &[])?;
            Ok(page(&visitor, &organization, &environment, &form, &errors).await)
        }
    }
}

async fn remove_form(
    visitor: Visitor,
    Path((id, environment)): Path<(String, String)>,
) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/organizations/{id}/policies/{environment}")?;
    let organization = Organization::read(&visitor, &id).await?;
    known(&environment)?;
    let tail = format!("/policies/{}/remove", encoded(&environment));
    let page = FormPage::new(
        &visitor,
        Section::Organizations,
        Some(&organization.id),
        "Remove policy",
        organization.path(&tail),
        organization.path(""),
    );
    let about = format!("{} · {environment}", organization.short_label());
    let page = page.await.about(about).danger(
        "Keys of this environment no longer have rules: they can have any scope and lifetime, and need no \
         name.",
    );
    Ok(page.fields(Vec::new(), &Form::default(), &FieldErrors::default()).show())
}

async fn remove(
    Path((id, environment)): Path<(String, String)>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let answer = visitor.call(Method::DELETE, policy_path(&id, &environment)).send::<()>().await?;
    let text = format!("The policy for {environment} was removed.");
    Ok(visitor.go_to(&organization_path(&id, ""), &Notice::of(answer.position, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_as_sentences() {
        let policy: Policy =
            serde_json::from_value(json!({ "max_lifetime_seconds": 7_776_000, "expiry_required": true,
            "max_keys_per_user": 1, "allowed_scopes": [], "name_required": false }))
            .unwrap();
        assert_eq!(
            policy.lines(),
            [
                "Keys last at most 90 days.",
                "Keys must expire.",
                "Users can have at most 1 active key.",
                "Keys can't have scopes."
            ]
        );
        let form = policy.form();
        assert_eq!((form.text("max_lifetime_seconds"), form.text("unit")), ("90", "days"));
        assert_eq!((form.text("scopes"), form.text("demands")), ("these", "expiry_required"));
        assert_eq!(
            [59, 60, 5_400, 0].map(|it| (in_unit(it).0, in_unit(it).1.0)),
            [(59, "seconds"), (1, "minutes"), (90, "minutes"), (0, "seconds")]
        );
    }

    #[test]
    fn a_text_that_is_no_number_is_left_to_the_api() {
        let form = Form::of(
            [("a", "x"), ("b", "7"), ("c", "99999999999999999999")]
                .map(|(n, v)| (n.into(), v.into()))
                .into_iter(),
        );
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| number(&form, name, 60)),
            [json!("x"), json!(420), json!("99999999999999999999"), Value::Null]
        );
    }
}
