//! The list of applications, and the forms that create, edit and delete one and rotate its secret.

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

const PATH: &str = "/console/applications";

/// An application as the API returns it.
#[derive(Deserialize)]
struct Application {
    #[serde(flatten)]
    credential: Credential,
    version: u32,
}

#[derive(Deserialize)]
struct WithSecret {
    application: Application,
    client_secret: Option<Secret>,
}

impl Application {
    async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id, "")).await
    }

    fn label(&self) -> &str {
        self.credential.name.as_deref().unwrap_or("Unnamed application")
    }

    fn path(&self, tail: &str) -> String {
        format!("{PATH}/{}{tail}", encoded(&self.credential.id))
    }
}

fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/applications/{}{tail}", encoded(id))
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route("/console/applications/new", get(create_form))
        .route("/console/applications/{id}/edit", get(edit_form).post(edit))
        .route("/console/applications/{id}/rotate", get(rotate_form).post(rotate))
        .route("/console/applications/{id}/delete", get(delete_form).post(delete))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let listing = Listing {
        section: Section::Applications,
        title: "Applications",
        lead: "Programs that manage keys with OAuth 2.0. Each exchanges its client ID and secret for \
               short-lived tokens.",
        path: PATH.into(),
        call: "/v1/applications".into(),
        noun: ("application", "applications"),
        search: None,
        by_organization: true,
        columns: credential::columns(&visitor, "Secret"),
        create: Some((
            "Create application",
            organization_choice::kept(&visitor, "/console/applications/new"),
        )),
        of: None,
        above: None,
        empty: "An application lets your program call Keyledger without a root key. Create one, and give \
                the program its client ID and secret.",
    };
    let row = |it: Application, _: Option<&str>| {
        let is_there = it.credential.is_active();
        let menu = if is_there && it.credential.may_be_changed_by(&visitor) {
            vec![
                MenuItem::dialog("Edit…", Icon::PENCIL, it.path("/edit")),
                MenuItem::dialog("Rotate secret…", Icon::ROTATE, it.path("/rotate")),
                MenuItem::destructive("Delete…", Icon::BIN, it.path("/delete")),
            ]
        } else {
            Vec::new()
        };
        let (label, title) = (shortened(it.label()), it.label().to_owned());
        let cells = it.credential.cells(&visitor, title);
        Row { label, cells, menu, is_over: !is_there }
    };
    listing.answer(&visitor, row).await
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let fields = credential::creation_fields(
        visitor,
        "For example Billing service",
        "Tokens of the application have these permissions.",
    );
    let fields = fields.await;
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::Applications, chosen, "Create application", PATH, PATH).await;
    let page = page.text("You'll get its client ID and secret on the next page. The secret is shown once.");
    page.once(form).fields(fields, form, errors).show()
}

async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/applications")?;
    Ok(create_page(&visitor, &organization_choice::form(&visitor), &FieldErrors::default()).await)
}

async fn create(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let body = json!({
        "name": form.json("name"),
        "permissions": permission_choice::chosen(&form),
        "organization_id": organization_choice::id(&visitor, &form),
    });
    match visitor.call(Method::POST, "/v1/applications").json(&body).named(&form).send::<WithSecret>().await {
        Ok(answer) => {
            Ok(show_secret(&visitor, answer.body, answer.position, "Application created", None).await)
        }
        Err(problem) => {
            let errors = field_errors(problem, &[(Code::OrganizationNotFound, "organization_id")])?;
            Ok(create_page(&visitor, &form, &errors).await)
        }
    }
}

async fn show_secret(
    visitor: &Visitor,
    WithSecret { application, client_secret }: WithSecret,
    position: Option<u64>,
    title: &'static str,
    note: Option<String>,
) -> Response {
    let words = Words {
        title,
        subject: application.label().into(),
        under: None,
        noun: "client secret",
        advice: "Store both where the program reads its secrets.",
        note,
        loss: "without it the application can't get tokens.",
        remedy: "rotate the secret to get a new one.",
    };
    let example = Example {
        lead: "Try it from a terminal. The response has a token for API requests:",
        before: format!(
            "curl {}/oauth2/token \\\n  -d grant_type=client_credentials \\\n  -u {}:",
            visitor.public_url(),
            application.credential.id
        ),
        after: "",
    };
    let organization = application.credential.organization_id.as_deref();
    let frame = Frame::of(visitor, title, Some(Section::Applications), organization).await;
    SecretPage::new(frame, words, client_secret, PATH.into())
        .beside("client ID", application.credential.id)
        .example(example)
        .show(position)
}

async fn edit_page(visitor: &Visitor, it: &Application, form: &Form, errors: &FieldErrors) -> Response {
    let permissions = permission_choice::field(visitor)
        .hint("Existing tokens lose the permissions that you remove, at once.");
    let fields = vec![Field::line("name", "Name", "").focused(), permissions];
    let organization = it.credential.organization_id.as_deref();
    let page = FormPage::new(
        visitor,
        Section::Applications,
        organization,
        "Edit application",
        it.path("/edit"),
        PATH,
    );
    let page = page.await.about(shortened(it.label())).submit("Save changes");
    page.hidden("version", form.text("version")).fields(fields, form, errors).show()
}

async fn edit_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PATCH, "/v1/applications/{id}")?;
    let it = Application::read(&visitor, &id).await?;
    let form = Form::default()
        .and("name", it.credential.name.clone().unwrap_or_default())
        .and("version", it.version.to_string());
    let form =
        it.credential.permissions.iter().fold(form, |form, permission| form.and("permissions", permission));
    Ok(edit_page(&visitor, &it, &form, &FieldErrors::default()).await)
}

async fn edit(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let it = Application::read(&visitor, &id).await?;
    let body = json!({
        "name": form.edited("name", it.credential.name.as_deref()),
        "permissions": permission_choice::chosen(&form),
    });
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&body).if_match(&form);
    match call.send::<Application>().await {
        Ok(answer) => {
            let to = form.return_path().unwrap_or_else(|| PATH.into());
            Ok(visitor.go_to(&to, &Notice::of_edit(answer.position, it.version, answer.body.version)))
        }
        Err(problem) => Ok(edit_page(&visitor, &it, &form, &field_errors(problem, &[])?).await),
    }
}

async fn rotate_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/applications/{id}/rotate-secret")?;
    let it = Application::read(&visitor, &id).await?;
    let form = Form::default();
    let page = FormPage::new(
        &visitor,
        Section::Applications,
        it.credential.organization_id.as_deref(),
        "Rotate secret",
        it.path("/rotate"),
        PATH,
    );
    let page = page.await.about(shortened(it.label())).danger(
        "The current secret and every token issued with it are refused at once. The new secret is shown \
         once.",
    );
    Ok(page.once(&form).fields(Vec::new(), &form, &FieldErrors::default()).show())
}

async fn rotate(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let call = visitor.call(Method::POST, call_path(&id, "/rotate-secret")).json(&json!({})).named(&form);
    let answer = call.send::<WithSecret>().await?;
    let note = "The previous secret is refused from now on.".to_owned();
    Ok(show_secret(&visitor, answer.body, answer.position, "Secret rotated", Some(note)).await)
}

async fn delete_page(visitor: &Visitor, it: &Application, form: &Form, errors: &FieldErrors) -> Response {
    let page = FormPage::new(
        visitor,
        Section::Applications,
        it.credential.organization_id.as_deref(),
        "Delete application",
        it.path("/delete"),
        PATH,
    );
    let page = page.await.about(shortened(it.label())).danger(
        "This cannot be undone. Its secret and its tokens are refused at once. The keys it created are kept.",
    );
    page.fields(vec![Field::confirmation(it.credential.confirmation()).focused()], form, errors).show()
}

async fn delete_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/applications/{id}")?;
    let it = Application::read(&visitor, &id).await?;
    Ok(delete_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

async fn delete(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = Application::read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &it.credential.confirmation()) {
        return Ok(delete_page(&visitor, &it, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id, "")).send::<()>().await?;
    let text = format!("“{}” was deleted.", shortened(it.label()));
    let to = form.return_path().unwrap_or_else(|| PATH.into());
    Ok(visitor.go_to(&to, &Notice::of(answer.position, text)))
}
