//! The page of root keys, and what is done to one: create, revoke.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
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

const PATH: &str = "/console/root-keys";

/// A root key as the calls answer it.
#[derive(Deserialize)]
struct RootKey {
    id: String,
    organization_id: Option<String>,
    name: Option<String>,
    permissions: Vec<String>,
    status: String,
    start: String,
    last_four: String,
    created_at: Timestamp,
}

#[derive(Deserialize)]
struct WithToken {
    root_key: RootKey,
    token: Option<Secret>,
}

impl RootKey {
    async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id)).await
    }

    fn label(&self) -> &str {
        self.name.as_deref().unwrap_or("Unnamed root key")
    }

    fn path(&self, tail: &str) -> String {
        format!("{PATH}/{}{tail}", encoded(&self.id))
    }

    fn confirmation(&self) -> String {
        confirmation(self.name.as_deref(), &self.last_four)
    }
}

fn call_path(id: &str) -> String {
    format!("/v1/root-keys/{}", encoded(id))
}

/// The pages.
pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route("/console/root-keys/new", get(create_form))
        .route("/console/root-keys/{id}/revoke", get(revoke_form).post(revoke))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let query = QueryString::of(&visitor.address);
    let new = QueryString::default().with("organization_id", query.get("organization_id"));
    let is_bound = visitor.principal.organization_id.is_some();
    let mut columns = vec!["Name", "Token", "Permissions"];
    if !is_bound {
        columns.push("Organization");
    }
    columns.extend(["Status", "Created"]);
    let listing = Listing {
        section: Section::RootKeys,
        title: "Root keys",
        lead: "Credentials that Keyledger itself is called with. Give each program one of its own, with no more than it needs.",
        path: PATH.into(),
        call: "/v1/root-keys".into(),
        noun: ("root key", "root keys"),
        search: None,
        by_organization: true,
        columns,
        create: Some(("Create root key", new.after("/console/root-keys/new"))),
        of: None,
        above: None,
        empty: "Nothing is bound to this organization. A root key that is bound to it sees no other.",
    };
    let own_id = visitor.principal.id.to_string();
    let row = |it: RootKey, _: Option<&str>| {
        let is_active = it.status == "active";
        let menu = if is_active {
            vec![MenuItem::destructive("Revoke…", Icon::STOP, it.path("/revoke"))]
        } else {
            Vec::new()
        };
        let label = shortened(it.label());
        let name = if it.id == own_id { format!("{} (you)", it.label()) } else { it.label().to_owned() };
        let mut cells = vec![
            Cell::Title { text: name, path: None, under: Some(it.id), searched: None },
            Cell::Code(format!("{}…{}", it.start, it.last_four)),
            Cell::Tags(it.permissions),
        ];
        if !is_bound {
            cells.push(Cell::Text(Some(it.organization_id.unwrap_or_else(|| "All".into()))));
        }
        cells.push(Cell::Badge(Badge::of(&it.status)));
        cells.push(Cell::Time(Some(Moment::new(it.created_at, visitor.now))));
        Row { label, cells, menu, is_over: !is_active }
    };
    listing.answer(&visitor, row).await
}

async fn create_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let mut fields = vec![
        Field::line("name", "Name", "Such as Gateway").focused(),
        permission_choice::field(visitor).hint("A service that checks tokens needs keys:verify alone."),
    ];
    let organization = organization_choice::field(visitor, "organization_id", "Only organization").await;
    fields.extend(organization.map(|field| {
        field
            .optional()
            .hint("The id of the only organization that it sees. It sees all of them if this is empty.")
    }));
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::RootKeys, chosen, "Create root key", PATH, PATH).await;
    page.text("Its token is shown once, on the next page.").once(form).fields(fields, form, errors).show()
}

async fn create_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/root-keys")?;
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
        subject: root_key.label().into(),
        under: None,
        noun: "token",
        advice: "Put it where the program reads its secrets.",
        note: None,
        loss: "without it the root key is of no use.",
        remedy: "revoke the root key and create another.",
    };
    let example = Example {
        lead: "It goes along with every call:",
        before: format!(
            "curl {}/v1/keys \\\n  -H \"Authorization: Bearer ",
            visitor.service.access_tokens.issuer()
        ),
        after: "\"",
    };
    let organization = root_key.organization_id.as_deref();
    let frame = Frame::of(&visitor, title, Some(Section::RootKeys), organization).await;
    Ok(SecretPage::new(frame, words, token, PATH.into()).example(example).show(answer.position))
}

async fn revoke_page(visitor: &Visitor, it: &RootKey, form: &Form, errors: &FieldErrors) -> Response {
    let page = FormPage::new(
        visitor,
        Section::RootKeys,
        it.organization_id.as_deref(),
        "Revoke root key",
        it.path("/revoke"),
        PATH,
    );
    let own = it.id == *visitor.principal.id;
    let warning = if own {
        "This cannot be undone. It is the root key that you are signed in with: you are signed out at once, and need \
         another to come back."
    } else {
        "This cannot be undone. Every call with it is refused from that moment on, and whoever signed in to this \
         console with it is signed out."
    };
    let page = page.await.about(shortened(it.label())).danger(warning);
    page.fields(vec![Field::confirmation(it.confirmation()).focused()], form, errors).show()
}

async fn revoke_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/root-keys/{id}")?;
    let it = RootKey::read(&visitor, &id).await?;
    Ok(revoke_page(&visitor, &it, &Form::default(), &FieldErrors::default()).await)
}

async fn revoke(
    Path(id): Path<String>,
    Submission { visitor, form }: Submission,
) -> Result<Response, Problem> {
    let it = RootKey::read(&visitor, &id).await?;
    if let Err(errors) = confirmed(&form, &it.confirmation()) {
        return Ok(revoke_page(&visitor, &it, &form, &errors).await);
    }
    let answer = visitor.call(Method::DELETE, call_path(&id)).send::<()>().await?;
    let text = format!("“{}” is revoked, for good.", shortened(it.label()));
    let to = form.return_path().unwrap_or_else(|| PATH.into());
    Ok(visitor.go_to(&to, &Notice::of(answer.position, text)))
}
