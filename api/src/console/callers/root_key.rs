//! The list of root keys, and the forms that create and revoke one.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::credential::{self, Credential};
use super::permission_choice;
use crate::console::frame::form_page::{FormPage, confirmed, field_errors};
use crate::console::frame::list_page::Listing;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::Frame;
use crate::console::frame::secret_page::{Example, Secret, SecretPage, Words};
use crate::console::parts::field::Field;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::query_string::encoded;
use crate::console::parts::short_name::shortened;
use crate::console::parts::table::{MenuItem, Row};
use crate::console::state::Console;
use crate::console::tenants::organization_choice;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/root-keys";

#[derive(Deserialize)]
struct WithToken {
    root_key: Credential,
    token: Option<Secret>,
}

async fn read(visitor: &Visitor, id: &str) -> Result<Credential, Problem> {
    visitor.read(&call_path(id)).await
}

fn label(root_key: &Credential) -> &str {
    root_key.name.as_deref().unwrap_or("Unnamed root key")
}

fn revoke_path(root_key: &Credential) -> String {
    format!("{PATH}/{}/revoke", encoded(&root_key.id))
}

fn call_path(id: &str) -> String {
    format!("/v1/root-keys/{}", encoded(id))
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route("/console/root-keys/new", get(create_form))
        .route("/console/root-keys/{id}/revoke", get(revoke_form).post(revoke))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let listing = Listing {
        section: Section::RootKeys,
        title: "Root keys",
        lead: "Credentials for Keyledger's own API. Give each program its own, with only the permissions \
               it needs.",
        path: PATH.into(),
        call: "/v1/root-keys".into(),
        noun: ("root key", "root keys"),
        search: None,
        by_organization: true,
        columns: credential::columns(&visitor, "Token"),
        create: Some(("Create root key", organization_choice::kept(&visitor, "/console/root-keys/new"))),
        of: None,
        above: None,
        empty: "No root key is limited to this organization. A limited root key can access no other organization.",
    };
    let own_id = visitor.principal.id.to_string();
    let row = |it: Credential, _: Option<&str>| {
        let is_active = it.is_active();
        let menu = if is_active && it.may_be_changed_by(&visitor) {
            vec![MenuItem::destructive("Revoke…", Icon::STOP, revoke_path(&it))]
        } else {
            Vec::new()
        };
        let own = if it.id == own_id { " (you)" } else { "" };
        let title = format!("{}{own}", label(&it));
        let label = shortened(label(&it));
        let cells = it.cells(&visitor, title);
        Row { label, cells, menu, is_over: !is_active }
    };
    listing.answer(&visitor, row).await
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let hint = "A service that verifies tokens needs only keys:verify.";
    let fields = credential::creation_fields(visitor, "For example Gateway", hint).await;
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::RootKeys, chosen, "Create root key", PATH, PATH).await;
    page.text("You'll see its token once, on the next page.").once(form).fields(fields, form, errors).show()
}

async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/root-keys")?;
    Ok(create_page(&visitor, &organization_choice::form(&visitor), &FieldErrors::default()).await)
}

async fn create(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let body = json!({
        "name": form.json("name"),
        "permissions": permission_choice::chosen(&form),
        "organization_id": organization_choice::id(&visitor, &form),
    });
    let call = visitor.call(Method::POST, "/v1/root-keys").json(&body).named(&form);
    let answer = match call.send::<WithToken>().await {
        Ok(answer) => answer,
        Err(problem) => {
            let errors = field_errors(problem, &[(Code::OrganizationNotFound, "organization_id")])?;
            return Ok(create_page(&visitor, &form, &errors).await);
        }
    };
    let WithToken { root_key, token } = answer.body;
    let title = "Root key created";
    let words = Words {
        title,
        subject: label(&root_key).into(),
        under: None,
        noun: "token",
        advice: "Store it where the program reads its secrets.",
        note: None,
        loss: "without it the root key can't be used.",
        remedy: "revoke the root key and create a new one.",
    };
    let example = Example {
        lead: "Send it with every API request:",
        before: format!("curl {}/v1/keys \\\n  -H \"Authorization: Bearer ", visitor.public_url()),
        after: "\"",
    };
    let organization = root_key.organization_id.as_deref();
    let frame = Frame::of(&visitor, title, Some(Section::RootKeys), organization).await;
    Ok(SecretPage::new(frame, words, token, PATH.into()).example(example).show(answer.position))
}

async fn revoke_page(visitor: &Visitor, it: &Credential, form: &Form, errors: &FieldErrors) -> Response {
    let page = FormPage::new(
        visitor,
        Section::RootKeys,
        it.organization_id.as_deref(),
        "Revoke root key",
        revoke_path(it),
        PATH,
    );
    let own = it.id == *visitor.principal.id;
    let warning = if own {
        "This cannot be undone. You are signed in with this root key: you will be signed out at once and \
         need another root key to come back."
    } else {
        "This cannot be undone. API requests with this root key are refused at once, and console sessions \
         started with it end."
    };
    let page = page.await.about(shortened(label(it))).danger(warning);
    page.fields(vec![Field::confirmation(it.confirmation()).focused()], form, errors).show()
}

async fn revoke_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/root-keys/{id}")?;
    let it = read(&visitor, &id).await?;
    Ok(revoke_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

async fn revoke(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &it.confirmation()) {
        return Ok(revoke_page(&visitor, &it, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id)).send::<()>().await?;
    let text = format!("“{}” was permanently revoked.", shortened(label(&it)));
    let to = form.return_path().unwrap_or_else(|| PATH.into());
    Ok(visitor.go_to(&to, &Notice::of(answer.position, text)))
}
