//! The page of applications, and what is done to one: create, change, rotate its secret, delete.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::{Method, header};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::permission_choice;
use crate::console::Console;
use crate::console::frame::icon::Icon;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::Frame;
use crate::console::frame::toast::{Notice, shortened};
use crate::console::parts::badge::Badge;
use crate::console::parts::field::Field;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form_page::{FormPage, confirmation, confirmed, field_errors};
use crate::console::parts::list_page::Listing;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::secret_page::{Example, Secret, SecretPage, Words};
use crate::console::parts::table::{Cell, MenuItem, Row};
use crate::console::tenants::organization_choice;
use crate::console::visit::submission::{Form, Submission};
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/applications";

/// An application as the calls answer it.
#[derive(Deserialize)]
struct Application {
    id: String,
    organization_id: Option<String>,
    name: Option<String>,
    permissions: Vec<String>,
    status: String,
    start: String,
    last_four: String,
    created_at: Timestamp,
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
        self.name.as_deref().unwrap_or("Unnamed application")
    }

    fn path(&self, tail: &str) -> String {
        format!("{PATH}/{}{tail}", encoded(&self.id))
    }

    fn confirmation(&self) -> String {
        confirmation(self.name.as_deref(), &self.last_four)
    }
}

fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/applications/{}{tail}", encoded(id))
}

/// The pages.
pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route("/console/applications/new", get(create_form))
        .route("/console/applications/{id}/edit", get(edit_form).post(edit))
        .route("/console/applications/{id}/rotate", get(rotate_form).post(rotate))
        .route("/console/applications/{id}/delete", get(delete_form).post(delete))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let organization = QueryString::of(&visitor.address);
    let new = QueryString::default().with("organization_id", organization.get("organization_id"));
    let is_bound = visitor.principal.organization_id.is_some();
    let mut columns = vec!["Name", "Secret", "Permissions"];
    if !is_bound {
        columns.push("Organization");
    }
    columns.extend(["Status", "Created"]);
    let listing = Listing {
        section: Section::Applications,
        title: "Applications",
        lead: "Programs that manage keys with OAuth 2.0: each trades its client id and secret for tokens that last a few minutes.",
        path: PATH.into(),
        call: "/v1/applications".into(),
        noun: ("application", "applications"),
        search: None,
        by_organization: true,
        columns,
        create: Some(("Create application", new.after("/console/applications/new"))),
        of: None,
        above: None,
        empty: "An application is how a program of yours calls Keyledger without a root key: create one, and give the \
                program its client id and secret.",
    };
    let row = |it: Application, _: Option<&str>| {
        let is_there = it.status == "active";
        let menu = if is_there {
            vec![
                MenuItem::dialog("Edit…", Icon::PENCIL, it.path("/edit")),
                MenuItem::dialog("Rotate secret…", Icon::ROTATE, it.path("/rotate")),
                MenuItem::destructive("Delete…", Icon::BIN, it.path("/delete")),
            ]
        } else {
            Vec::new()
        };
        let label = shortened(it.label());
        let mut cells = vec![
            Cell::Title { text: it.label().into(), path: None, under: Some(it.id), searched: None },
            Cell::Code(format!("{}…{}", it.start, it.last_four)),
            Cell::Tags(it.permissions),
        ];
        if !is_bound {
            cells.push(Cell::Text(Some(it.organization_id.unwrap_or_else(|| "All".into()))));
        }
        cells.push(Cell::Badge(Badge::of(&it.status)));
        cells.push(Cell::Time(Some(Moment::new(it.created_at, visitor.now))));
        Row { label, cells, menu, is_over: !is_there }
    };
    listing.answer(&visitor, row).await
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let mut fields = vec![
        Field::line("name", "Name", "Such as Billing service").focused(),
        permission_choice::field(visitor),
    ];
    let organization = organization_choice::field(visitor, "organization_id", "Only organization").await;
    fields.extend(organization.map(|field| {
        field
            .optional()
            .hint("The id of the only organization that it sees. It sees all of them if this is empty.")
    }));
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::Applications, chosen, "Create application", PATH, PATH).await;
    let page = page.text("Its client id and secret are on the next page. The secret is shown once.");
    page.once(form).fields(fields, form, errors).show()
}

async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/applications")?;
    let query = QueryString::of(&visitor.address);
    let form = Form::default().and("organization_id", query.get("organization_id").unwrap_or_default());
    Ok(create_page(&visitor, &form, &FieldErrors::default()).await)
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
        advice: "Put both where the program reads its secrets.",
        note,
        loss: "without it the application can do nothing.",
        remedy: "rotate the secret to get another.",
    };
    let example = Example {
        lead: "Try it from a terminal; the answer has a token for the other calls:",
        before: format!(
            "curl {}/oauth2/token \\\n  -d grant_type=client_credentials \\\n  -u {}:",
            visitor.service.access_tokens.issuer(),
            application.id
        ),
        after: "",
    };
    let organization = application.organization_id.as_deref();
    let frame = Frame::of(visitor, title, Some(Section::Applications), organization).await;
    SecretPage::new(frame, words, client_secret, PATH.into())
        .beside("client id", application.id)
        .example(example)
        .show(position)
}

async fn edit_page(visitor: &Visitor, it: &Application, form: &Form, errors: &FieldErrors) -> Response {
    let permissions = permission_choice::field(visitor)
        .hint("Tokens that it has already may do no more than this either, from that moment on.");
    let fields = vec![Field::line("name", "Name", "").focused(), permissions];
    let organization = it.organization_id.as_deref();
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
        .and("name", it.name.clone().unwrap_or_default())
        .and("version", it.version.to_string());
    let form = it.permissions.iter().fold(form, |form, permission| form.and("permissions", permission));
    Ok(edit_page(&visitor, &it, &form, &FieldErrors::default()).await)
}

async fn edit(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let it = Application::read(&visitor, &id).await?;
    let body = json!({ "name": form.edited("name", it.name.as_deref()), "permissions": permission_choice::chosen(&form) });
    let call = visitor.call(Method::PATCH, call_path(&id, "")).json(&body);
    let call = call.header(header::IF_MATCH, &format!("\"{}\"", form.text("version").trim()));
    match call.send::<Application>().await {
        Ok(answer) => {
            let is_same = answer.body.version == it.version;
            let text = if is_same { "Nothing was changed." } else { "Changes saved." };
            let to = form.return_path().unwrap_or_else(|| PATH.into());
            Ok(visitor.go_to(&to, &Notice::of(answer.position, text)))
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
        it.organization_id.as_deref(),
        "Rotate secret",
        it.path("/rotate"),
        PATH,
    );
    let page = page.await.about(shortened(it.label())).danger(
        "The secret that it has, and every token that it got with it, is refused from that moment on. The new secret \
         is shown once.",
    );
    Ok(page.once(&form).fields(Vec::new(), &form, &FieldErrors::default()).show())
}

async fn rotate(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let call = visitor.call(Method::POST, call_path(&id, "/rotate-secret")).json(&json!({})).named(&form);
    let answer = call.send::<WithSecret>().await?;
    let note = "The secret before this one is refused from now on.".to_owned();
    Ok(show_secret(&visitor, answer.body, answer.position, "Secret rotated", Some(note)).await)
}

async fn delete_page(visitor: &Visitor, it: &Application, form: &Form, errors: &FieldErrors) -> Response {
    let page = FormPage::new(
        visitor,
        Section::Applications,
        it.organization_id.as_deref(),
        "Delete application",
        it.path("/delete"),
        PATH,
    );
    let page = page.await.about(shortened(it.label())).danger(
        "This cannot be undone. Its secret and its tokens are refused from that moment on; the keys that it made stay.",
    );
    page.fields(vec![Field::confirmation(it.confirmation()).focused()], form, errors).show()
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
    if let Err(errors) = confirmed(&form, &it.confirmation()) {
        return Ok(delete_page(&visitor, &it, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id, "")).send::<()>().await?;
    let text = format!("“{}” is deleted.", shortened(it.label()));
    let to = form.return_path().unwrap_or_else(|| PATH.into());
    Ok(visitor.go_to(&to, &Notice::of(answer.position, text)))
}
