//! The list of APIs, and the forms that register, edit and delete one.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::answer::problem::Problem;

use crate::console::frame::form_page::{FormPage, confirmation, confirmed, field_errors};
use crate::console::frame::list_page::Listing;
use crate::console::frame::navigation::Section;
use crate::console::parts::badge::Badge;
use crate::console::parts::field::Field;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::short_name::shortened;
use crate::console::parts::table::{Cell, MenuItem, Row};
use crate::console::state::Console;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/apis";

/// An API as `/v1/apis` returns it.
#[derive(Deserialize)]
struct Api {
    id: String,
    name: String,
    audience: String,
    token_prefix: String,
    scopes: Vec<String>,
    created_at: Timestamp,
    deleted_at: Option<Timestamp>,
    version: u32,
}

impl Api {
    async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id)).await
    }

    fn path(&self, tail: &str) -> String {
        format!("{PATH}/{}{tail}", encoded(&self.id))
    }
}

fn call_path(id: &str) -> String {
    format!("/v1/apis/{}", encoded(id))
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(register))
        .route("/console/apis/new", get(register_form))
        .route("/console/apis/{id}/edit", get(edit_form).post(edit))
        .route("/console/apis/{id}/delete", get(delete_form).post(delete))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let may = |method, path| visitor.may(&method, path);
    let (may_edit, may_delete) = (may(Method::PATCH, "/v1/apis/{id}"), may(Method::DELETE, "/v1/apis/{id}"));
    let (may_register, sees_keys) = (may(Method::POST, "/v1/apis"), may(Method::GET, "/v1/keys"));
    let listing = Listing {
        section: Section::Apis,
        title: "APIs",
        lead: "The services that keys give access to, and the scopes that their keys can have.",
        path: PATH.into(),
        call: "/v1/apis".into(),
        noun: ("API", "APIs"),
        search: None,
        by_organization: false,
        columns: vec!["Name", "Audience", "Token prefix", "Scopes", "Status", "Registered"],
        create: may_register.then(|| ("Register API", format!("{PATH}/new"))),
        of: None,
        above: None,
        empty: "Register a service to define scopes for its keys and to have other APIs refuse them. Keys \
                also work without an API.",
    };
    let organization = QueryString::of(&visitor.address).get("organization_id").map(ToOwned::to_owned);
    let row = |api: Api, _: Option<&str>| {
        let is_there = api.deleted_at.is_none();
        let mut menu = Vec::new();
        if sees_keys {
            let keys = QueryString::default().with("organization_id", organization.as_deref());
            let keys = keys.with("api_id", Some(&api.id));
            menu.push(MenuItem::link("View keys", Icon::KEY, keys.after("/console/keys")));
        }
        if may_edit && is_there {
            menu.push(MenuItem::dialog("Edit…", Icon::PENCIL, api.path("/edit")));
        }
        if may_delete && is_there {
            menu.push(MenuItem::destructive("Delete…", Icon::BIN, api.path("/delete")));
        }
        Row {
            label: shortened(&api.name),
            cells: vec![
                Cell::Title { text: api.name, path: None, under: Some(api.id), searched: None },
                Cell::Text(Some(api.audience)),
                Cell::Code(format!("{}_", api.token_prefix)),
                Cell::Tags(api.scopes),
                Cell::Badge(Badge::of(if is_there { "active" } else { "deleted" })),
                Cell::Time(Some(Moment::new(api.created_at, visitor.now))),
            ],
            menu,
            is_over: !is_there,
        }
    };
    listing.answer(&visitor, row).await
}

fn scopes_field() -> Field {
    Field::words("scopes", "Scopes", "read:users write:users")
        .optional()
        .hint("Separated by spaces or line breaks. Each key of this API gets some of them.")
}

async fn register_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let fields = vec![
        Field::line("name", "Name", "For example Users API").focused(),
        Field::code("audience", "Audience", "https://api.example.com")
            .hint("Identifies the API, usually by its base URL."),
        scopes_field(),
        Field::code("token_prefix", "Token prefix", "kl").optional().hint(
            "At most 16 lowercase letters and digits. Secret scanners recognize kl. You can't change \
             it later.",
        ),
    ];
    let page = FormPage::new(visitor, Section::Apis, None, "Register API", PATH, PATH).await;
    page.once(form).fields(fields, form, errors).show()
}

async fn register_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/apis")?;
    Ok(register_page(&visitor, &Form::default(), &FieldErrors::default()).await)
}

async fn register(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let body = json!({
        "name": form.json("name"),
        "audience": form.json("audience"),
        "scopes": form.json_lines("scopes"),
        "token_prefix": form.json("token_prefix"),
    });
    match visitor.call(Method::POST, "/v1/apis").json(&body).named(&form).send::<Api>().await {
        Ok(answer) => {
            let text =
                format!("“{}” was registered. You can now create keys for it.", shortened(&answer.body.name));
            Ok(visitor.go_to(PATH, &Notice::of(answer.position, text)))
        }
        Err(problem) => Ok(register_page(&visitor, &form, &field_errors(problem, &[])?).await),
    }
}

async fn edit_page(visitor: &Visitor, api: &Api, form: &Form, errors: &FieldErrors) -> Response {
    let fields = vec![
        Field::line("name", "Name", "").focused(),
        scopes_field()
            .hint("The scopes that keys can get from now on. Existing keys keep the scopes they have."),
    ];
    let page = FormPage::new(visitor, Section::Apis, None, "Edit API", api.path("/edit"), PATH).await;
    let page = page.about(shortened(&api.name)).submit("Save changes");
    page.hidden("version", form.text("version")).fields(fields, form, errors).show()
}

async fn edit_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PATCH, "/v1/apis/{id}")?;
    let api = Api::read(&visitor, &id).await?;
    let form = Form::default()
        .and("name", api.name.clone())
        .and("scopes", api.scopes.join("\n"))
        .and("version", api.version.to_string());
    Ok(edit_page(&visitor, &api, &form, &FieldErrors::default()).await)
}

async fn edit(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let api = Api::read(&visitor, &id).await?;
    if form.filled("name").is_none() {
        return Ok(edit_page(&visitor, &api, &form, &FieldErrors::one("name", "Enter a name.")).await);
    }
    let body = json!({ "name": form.edited("name", Some(&api.name)), "scopes": form.json_lines("scopes") });
    let call = visitor.call(Method::PATCH, call_path(&id)).json(&body).if_match(&form);
    match call.send::<Api>().await {
        Ok(answer) => {
            let to = form.return_path().unwrap_or_else(|| PATH.into());
            Ok(visitor.go_to(&to, &Notice::of_edit(answer.position, api.version, answer.body.version)))
        }
        Err(problem) => Ok(edit_page(&visitor, &api, &form, &field_errors(problem, &[])?).await),
    }
}

async fn delete_page(visitor: &Visitor, api: &Api, form: &Form, errors: &FieldErrors) -> Response {
    let page = FormPage::new(visitor, Section::Apis, None, "Delete API", api.path("/delete"), PATH).await;
    let page = page
        .about(shortened(&api.name))
        .danger("This cannot be undone. The keys of this API are refused at once, with the code WRONG_API.");
    let expected = confirmation(Some(&api.name), &api.id);
    page.fields(vec![Field::confirmation(expected).focused()], form, errors).show()
}

async fn delete_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/apis/{id}")?;
    let api = Api::read(&visitor, &id).await?;
    Ok(delete_page(&visitor, &api, &Form::default(), &FieldErrors::default()).await)
}

async fn delete(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let api = Api::read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &confirmation(Some(&api.name), &api.id)) {
        return Ok(delete_page(&visitor, &api, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id)).send::<()>().await?;
    let text = format!("“{}” was deleted. Its keys are refused.", shortened(&api.name));
    Ok(visitor.go_to(PATH, &Notice::of(answer.position, text)))
}
