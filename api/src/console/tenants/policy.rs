//! What an organization demands of its keys, on the organization's page: changing it, removing it, and which keys break it.

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

use super::organization::{Organization, call_path, path};
use crate::console::Console;
use crate::console::frame::navigation::Section;
use crate::console::frame::toast::Notice;
use crate::console::keys::key::Key;
use crate::console::keys::list::grouped;
use crate::console::parts::field::{Choice, Field};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form_page::{FormPage, field_errors};
use crate::console::parts::list_page::Listing;
use crate::console::parts::query_string::encoded;
use crate::console::parts::table::{Cell, Row};
use crate::console::visit::submission::{Form, Submission};
use crate::console::visit::visitor::Visitor;

/// What the longest life of a key is told in: a word, and its seconds.
const UNITS: [(&str, &str, u64); 4] = [
    ("days", "Days", 86_400),
    ("hours", "Hours", 3_600),
    ("minutes", "Minutes", 60),
    ("seconds", "Seconds", 1),
];

/// A policy as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Policy {
    max_lifetime_seconds: Option<u64>,
    expiry_required: bool,
    max_keys_per_user: Option<u32>,
    allowed_scopes: Option<Vec<String>>,
    name_required: bool,
}

impl Policy {
    /// Reads what an organization demands in an environment; none if it demands nothing.
    ///
    /// # Errors
    /// What the call answers.
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

    /// What it demands, a sentence each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(seconds) = self.max_lifetime_seconds {
            let (count, (word, ..)) = in_unit(seconds);
            let word = if count == 1 { word.trim_end_matches('s') } else { word };
            lines.push(format!("A key lives for {} {word} at most.", grouped(count)));
        }
        if self.expiry_required {
            lines.push("Every key has an end.".into());
        }
        if let Some(count) = self.max_keys_per_user {
            let noun = if count == 1 { "key" } else { "keys" };
            lines.push(format!("A user has {} active {noun} at most.", grouped(count.into())));
        }
        if self.name_required {
            lines.push("Every key has a name.".into());
        }
        match self.allowed_scopes.as_deref() {
            Some([]) => lines.push("No key has a scope.".into()),
            Some(scopes) => lines.push(format!("Keys have no other scopes than {}.", scopes.join(", "))),
            None => {}
        }
        if lines.is_empty() {
            lines.push("Nothing is demanded.".into());
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

/// A time in the largest unit that it is a whole number of.
fn in_unit(seconds: u64) -> (u64, (&'static str, &'static str, u64)) {
    let whole = UNITS.into_iter().find(|(.., length)| seconds >= *length && seconds.is_multiple_of(*length));
    let unit = whole.unwrap_or(("seconds", "Seconds", 1));
    (seconds / unit.2, unit)
}

/// The pages.
pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/organizations/{id}/policies/{environment}", get(form).post(set))
        .route("/console/organizations/{id}/policies/{environment}/remove", get(remove_form).post(remove))
        .route("/console/organizations/{id}/violations", get(violations))
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
            vec![Choice::new("expiry_required", "An end", ""), Choice::new("name_required", "A name", "")],
        ),
        Field::number("max_lifetime_seconds", "Longest life of a key")
            .optional()
            .hint("From its creation to its end. A key without an end breaks it."),
        Field::one_of("unit", "Told in", UNITS.map(|(word, name, _)| Choice::new(word, name, "")).to_vec()),
        Field::number("max_keys_per_user", "Active keys that a user may have").optional(),
        Field::one_of(
            "scopes",
            "Scopes",
            vec![
                Choice::new("any", "Any", "Keys may have all scopes"),
                Choice::new("these", "Only these", "None at all if there are none below"),
            ],
        ),
        Field::words("allowed_scopes", "Allowed scopes", "read:users write:users")
            .optional()
            .hint("With spaces or line breaks between them."),
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
    let page = page.await.about(organization.short_label()).submit("Set policy");
    page.text(
        "New keys, and changes to keys, are refused if they break it. Keys that exist stay as they are.",
    )
    .hidden("version", form.text("version"))
    .fields(fields, form, errors)
    .show()
}

/// Shows what can be demanded, with what is.
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

/// A field's number; whatever else stands there goes to the call, which says what is wrong with it.
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
    let call = call.header(http::header::IF_MATCH, &format!("\"{}\"", form.text("version").trim()));
    match call.send::<Policy>().await {
        Ok(answer) => {
            let text = format!("The policy for {environment} is set. Look which keys break it.");
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
        "Nothing is demanded of keys of this environment any more: they may have any scope, any life and no name.",
    );
    Ok(page.fields(Vec::new(), &Form::default(), &FieldErrors::default()).show())
}

async fn remove(
    Path((id, environment)): Path<(String, String)>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let answer = visitor.call(Method::DELETE, policy_path(&id, &environment)).send::<()>().await?;
    let text = format!("Nothing is demanded of {environment} keys any more.");
    Ok(visitor.go_to(&path(&id, ""), &Notice::of(answer.position, text)))
}

#[derive(Deserialize)]
struct Violation {
    key: Key,
    violations: Vec<Breach>,
}

#[derive(Deserialize)]
struct Breach {
    pointer: String,
    detail: String,
}

impl Breach {
    /// What of a key breaks the policy.
    fn sentence(&self, key: &Key) -> String {
        let mut segments = self.pointer.trim_start_matches('/').split('/');
        let scope = |index: Option<&str>| key.scopes.get(index?.parse::<usize>().ok()?);
        let subject = match segments.next() {
            Some("scopes") => match scope(segments.next()) {
                Some(scope) => format!("Scope {scope}"),
                None => "Scopes".into(),
            },
            Some("expires_at" | "expires_in") => "End".into(),
            Some("name") => "Name".into(),
            Some("user_id") => "User".into(),
            _ => self.pointer.clone(),
        };
        format!("{subject}: {}", self.detail)
    }
}

/// Shows the keys that break what is demanded.
async fn violations(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    let organization = Organization::read(&visitor, &id).await?;
    let listing = Listing {
        section: Section::Organizations,
        title: "Keys that break policies",
        lead: "Active and revoked keys that a new key could not be like, oldest first. They work until somebody changes or ends them.",
        path: organization.path("/violations"),
        call: call_path(&id, "/policy-violations"),
        noun: ("key", "keys"),
        search: None,
        by_organization: false,
        columns: vec!["Name", "Key", "Environment", "Status", "What breaks the policy"],
        create: None,
        of: Some(organization.id.clone()),
        above: Some((organization.short_label(), organization.path(""))),
        empty: "All keys of this organization are as its policies demand, or nothing is demanded.",
    };
    let row = |it: Violation, _: Option<&str>| Row {
        label: it.key.short_title(),
        cells: vec![
            Cell::Title {
                text: it.key.title().into(),
                path: Some(it.key.path("")),
                under: None,
                searched: None,
            },
            Cell::Code(it.key.masked()),
            Cell::Text(Some(it.key.environment.clone())),
            Cell::Status(it.key.status),
            Cell::Lines(it.violations.iter().map(|breach| breach.sentence(&it.key)).collect()),
        ],
        menu: Vec::new(),
        is_over: false,
    };
    listing.answer(&visitor, row).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_in_sentences() {
        let policy: Policy =
            serde_json::from_value(json!({ "max_lifetime_seconds": 7_776_000, "expiry_required": true,
            "max_keys_per_user": 1, "allowed_scopes": [], "name_required": false }))
            .unwrap();
        assert_eq!(
            policy.lines(),
            [
                "A key lives for 90 days at most.",
                "Every key has an end.",
                "A user has 1 active key at most.",
                "No key has a scope."
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
    fn what_is_no_number_is_left_to_the_call() {
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
