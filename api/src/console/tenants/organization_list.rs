//! The list of organizations, and the forms that create, edit and delete one.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::Method;
use serde_json::{Map, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::organization::{KINDS, Organization, call_path};
use super::organization_page;
use crate::console::frame::form_page::{FormPage, confirmation, confirmed, field_errors};
use crate::console::frame::list_page::Listing;
use crate::console::frame::navigation::{Section, organization_path};
use crate::console::parts::badge::Badge;
use crate::console::parts::field::{Choice, Field};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::moment::Moment;
use crate::console::parts::table::{Cell, MenuItem, Row};
use crate::console::state::Console;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/organizations";

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route("/console/organizations/new", get(create_form))
        .route("/console/organizations/{id}", get(organization_page::show))
        .route("/console/organizations/{id}/edit", get(edit_form).post(edit))
        .route("/console/organizations/{id}/delete", get(delete_form).post(delete))
}

/// Shows the organizations. A visitor bound to one is redirected to its page.
async fn list(visitor: Visitor) -> Result<Response, Problem> {
    if let Some(id) = &visitor.principal.organization_id {
        return Ok(Redirect::to(&organization_path(id.as_str(), "")).into_response());
    }
    let may = |method, path| visitor.may(&method, path);
    let (may_edit, may_delete) =
        (may(Method::PATCH, "/v1/organizations/{id}"), may(Method::DELETE, "/v1/organizations/{id}"));
    let create = may(Method::POST, "/v1/organizations");
    let listing = Listing {
        section: Section::Organizations,
        title: "Organizations",
        lead: "Customers and teams that own keys. Each sees and manages only its own.",
        path: PATH.into(),
        call: "/v1/organizations".into(),
        noun: ("organization", "organizations"),
        search: Some("Search by name or ID"),
        by_organization: false,
        columns: vec!["Name", "Kind", "Status", "Created"],
        create: create.then(|| ("Create organization", format!("{PATH}/new"))),
        of: None,
        above: None,
        empty: "Every key belongs to an organization: a customer, a team or yourself. Create one, then its \
                first key.",
    };
    let now = visitor.now;
    let row = |it: Organization, searched: Option<&str>| {
        let mut menu = Vec::new();
        if may_edit && it.is_active() {
            menu.push(MenuItem::dialog("Edit…", Icon::PENCIL, it.path("/edit")));
        }
        if may_delete && it.is_active() {
            menu.push(MenuItem::destructive("Delete…", Icon::BIN, it.path("/delete")));
        }
        let title = Cell::Title {
            text: it.label().into(),
            path: Some(it.path("")),
            under: it.name.is_some().then(|| it.id.clone()),
            searched: searched.map(ToOwned::to_owned),
        };
        Row {
            label: it.short_label(),
            cells: vec![
                title,
                Cell::Text(Some(it.kind_word().into())),
                Cell::Badge(Badge::of(&it.status)),
                Cell::Time(Some(Moment::new(it.created_at, now))),
            ],
            menu,
            is_over: !it.is_active(),
        }
    };
    listing.answer(&visitor, row).await
}

fn kind_field() -> Field {
    let choices = KINDS.map(|(word, name, hint)| Choice::new(word, name, hint)).to_vec();
    Field::one_of("kind", "Kind", choices).hint("Free organizations can't have keys.")
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let fields = vec![
        Field::line("name", "Name", "For example Acme Inc.").focused(),
        kind_field(),
        Field::code("id", "ID", "Generated if empty")
            .optional()
            .hint("Up to 64 letters, digits, - and _. You can't change it later."),
    ];
    let page = FormPage::new(visitor, Section::Organizations, None, "Create organization", PATH, PATH).await;
    page.once(form).fields(fields, form, errors).show()
}

async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/organizations")?;
    let form = Form::of([("kind".to_owned(), "paid".to_owned())].into_iter());
    Ok(create_page(&visitor, &form, &FieldErrors::default()).await)
}

async fn create(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let mut body = Map::new();
    for name in ["id", "name", "kind"] {
        if form.filled(name).is_some() {
            body.insert(name.into(), form.json(name));
        }
    }
    let call = visitor.call(Method::POST, "/v1/organizations").json(&body).named(&form);
    match call.send::<Organization>().await {
        Ok(answer) => {
            let text = format!("“{}” was created. Next, create its first key.", answer.body.short_label());
            Ok(visitor.go_to(&answer.body.path(""), &Notice::of(answer.position, text)))
        }
        Err(problem) => {
            let errors = field_errors(problem, &[(Code::OrganizationExists, "id")])?;
            Ok(create_page(&visitor, &form, &errors).await)
        }
    }
}

/// Whether a visitor may change an organization's kind: those who are bound to it may not.
fn may_change_kind(visitor: &Visitor) -> bool {
    visitor.principal.organization_id.is_none()
}

async fn edit_page(
    visitor: &Visitor,
    organization: &Organization,
    form: &Form,
    errors: &FieldErrors,
) -> Response {
    let mut fields = vec![Field::line("name", "Name", "").focused()];
    if may_change_kind(visitor) {
        fields.push(kind_field().hint("Existing keys stay as they are."));
    }
    let page = FormPage::new(
        visitor,
        Section::Organizations,
        Some(&organization.id),
        "Edit organization",
        organization.path("/edit"),
        organization.path(""),
    );
    let page = page.await.about(organization.short_label()).submit("Save changes");
    page.hidden("version", form.text("version")).fields(fields, form, errors).show()
}

async fn edit_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PATCH, "/v1/organizations/{id}")?;
    let organization = Organization::read(&visitor, &id).await?;
    let form = Form::of(
        [
            ("name".to_owned(), organization.name.clone().unwrap_or_default()),
            ("kind".to_owned(), organization.kind.clone()),
            ("version".to_owned(), organization.version.to_string()),
        ]
        .into_iter(),
    );
    Ok(edit_page(&visitor, &organization, &form, &FieldErrors::default()).await)
}

async fn edit(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let organization = Organization::read(&visitor, &id).await?;
    let name = form.edited("name", organization.name.as_deref());
    let kind = may_change_kind(&visitor).then(|| form.json("kind"));
    let body = json!({ "name": name, "kind": kind });
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&body).if_match(&form);
    match call.send::<Organization>().await {
        Ok(answer) => {
            let notice = Notice::of_edit(answer.position, organization.version, answer.body.version);
            let to = form.return_path().unwrap_or_else(|| organization.path(""));
            Ok(visitor.go_to(&to, &notice))
        }
        Err(problem) => {
            let errors = field_errors(problem, &[])?;
            Ok(edit_page(&visitor, &organization, &form, &errors).await)
        }
    }
}

fn expected(organization: &Organization) -> String {
    confirmation(organization.name.as_deref(), &organization.id)
}

async fn delete_page(
    visitor: &Visitor,
    organization: &Organization,
    form: &Form,
    errors: &FieldErrors,
) -> Response {
    let page = FormPage::new(
        visitor,
        Section::Organizations,
        Some(&organization.id),
        "Delete organization",
        organization.path("/delete"),
        organization.path(""),
    );
    let page = page.await.about(organization.short_label()).danger(
        "This cannot be undone. All keys of this organization are refused at once, and everyone signed in to \
         it loses access. Auditors can still see its history.",
    );
    page.fields(vec![Field::confirmation(expected(organization)).focused()], form, errors).show()
}

async fn delete_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/organizations/{id}")?;
    let organization = Organization::read(&visitor, &id).await?;
    Ok(delete_page(&visitor, &organization, &Form::default(), &FieldErrors::default()).await)
}

async fn delete(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let organization = Organization::read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &expected(&organization)) {
        return Ok(delete_page(&visitor, &organization, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id, "")).send::<()>().await?;
    let text = format!("“{}” was deleted. Its keys are refused.", organization.short_label());
    Ok(visitor.go_to(PATH, &Notice::of(answer.position, text)))
}
