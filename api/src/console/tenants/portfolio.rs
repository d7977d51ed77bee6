//! A partner's portfolio: the table of its clients, and the forms that link and unlink one.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::Method;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use super::organization::{Organization, call_path};
use super::organization_choice;
use crate::console::frame::form_page::{FormPage, field_errors};
use crate::console::frame::list_page::Things;
use crate::console::frame::navigation::{Section, organization_path};
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::short_name::shortened;
use crate::console::parts::table::{Cell, MenuItem, Row, Table};
use crate::console::state::Console;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const CLIENTS_MAX: usize = 50;

#[derive(Deserialize)]
struct Client {
    organization_id: String,
    name: Option<String>,
    linked_at: Timestamp,
    linked_by: String,
}

impl Client {
    fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.organization_id)
    }
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/organizations/{id}/clients/new", get(link_form))
        .route("/console/organizations/{id}/clients", post(link))
        .route("/console/organizations/{id}/clients/{client}/unlink", get(unlink_form).post(unlink))
}

/// Returns a page of a partner's clients and the path of the next page.
///
/// # Errors
/// The problem that the API returns.
pub(crate) async fn table(
    visitor: &Visitor,
    partner: &Organization,
    may_unlink: bool,
    cursor: Option<&str>,
) -> Result<(Table, Option<String>), Problem> {
    let query = QueryString::default().with("limit", Some(&CLIENTS_MAX.to_string())).with("cursor", cursor);
    let clients: Things<Client> = visitor.read(&query.after(&call_path(&partner.id, "/clients"))).await?;
    let is_bound = visitor.principal.organization_id.is_some();
    let sees_keys = visitor.may(&Method::GET, "/v1/keys");
    let row = |client: Client| {
        let mut menu = Vec::new();
        if sees_keys {
            let keys = QueryString::default()
                .with("organization_id", Some(&partner.id))
                .with("client_organization_id", Some(&client.organization_id));
            menu.push(MenuItem::link("Keys for this client only", Icon::KEY, keys.after("/console/keys")));
        }
        if may_unlink {
            let tail = format!("/clients/{}/unlink", encoded(&client.organization_id));
            menu.push(MenuItem::destructive("Unlink…", Icon::STOP, partner.path(&tail)));
        }
        Row {
            label: shortened(client.label()),
            cells: vec![
                Cell::Title {
                    text: client.label().into(),
                    path: (!is_bound).then(|| organization_path(&client.organization_id, "")),
                    under: client.name.is_some().then(|| client.organization_id.clone()),
                    searched: None,
                },
                Cell::Time(Some(Moment::new(client.linked_at, visitor.now))),
                Cell::Code(client.linked_by.clone()),
            ],
            menu,
            is_over: false,
        }
    };
    let rows = clients.data.into_iter().map(row).collect();
    let next = clients
        .next_cursor
        .map(|cursor| QueryString::default().with("cursor", Some(&cursor)).after(&partner.path("")));
    Ok((Table::new(vec!["Client", "Linked", "By"], rows), next))
}

async fn link_page(visitor: &Visitor, partner: &Organization, form: &Form, errors: &FieldErrors) -> Response {
    let page = FormPage::new(
        visitor,
        Section::Organizations,
        Some(&partner.id),
        "Link client",
        partner.path("/clients"),
        partner.path(""),
    );
    let page = page.await.about(partner.short_label()).text(
        "The partner's own keys will also work for the client, and you can create keys for the client alone.",
    );
    let field = organization_choice::field(visitor, "client_organization_id", "Client organization ID").await;
    page.fields(field.into_iter().map(crate::console::parts::field::Field::focused).collect(), form, errors)
        .show()
}

async fn link_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::PUT, "/v1/organizations/{partner}/clients/{client}")?;
    let partner = Organization::read(&visitor, &id).await?;
    Ok(link_page(&visitor, &partner, &Form::default(), &FieldErrors::default()).await)
}

async fn link(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let partner = Organization::read(&visitor, &id).await?;
    let name = "client_organization_id";
    let Some(client) = form.filled(name) else {
        let errors = FieldErrors::one(name, "Choose the organization to link.");
        return Ok(link_page(&visitor, &partner, &form, &errors).await);
    };
    let call = visitor.call(Method::PUT, call_path(&id, &format!("/clients/{}", encoded(client))));
    match call.json(&json!({})).send::<Client>().await {
        Ok(answer) => {
            let text = format!("“{}” was added to the portfolio.", shortened(answer.body.label()));
            Ok(visitor.go_to(&partner.path(""), &Notice::of(answer.position, text)))
        }
        Err(problem) => {
            let errors = match problem.code {
                Code::InvalidRequest => FieldErrors::one(name, "A partner cannot be its own client."),
                _ => field_errors(
                    problem,
                    &[(Code::OrganizationNotFound, name), (Code::OrganizationDeleted, name)],
                )?,
            };
            Ok(link_page(&visitor, &partner, &form, &errors).await)
        }
    }
}

/// Counts the partner's keys for this client alone that work or could be reactivated.
async fn key_count(visitor: &Visitor, partner: &str, client: &str) -> Option<u64> {
    if !visitor.may(&Method::GET, "/v1/keys") {
        return None;
    }
    let query = QueryString::default()
        .with("organization_id", Some(partner))
        .with("client_organization_id", Some(client))
        .with("limit", Some("1"));
    visitor.read::<Things<Value>>(&query.after("/v1/keys")).await.ok().map(|keys| keys.total)
}

async fn unlink_form(
    visitor: Visitor,
    Path((id, client)): Path<(String, String)>,
) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/organizations/{partner}/clients/{client}")?;
    let partner = Organization::read(&visitor, &id).await?;
    let warning = match key_count(&visitor, &id, &client).await {
        Some(0) => "The partner has no keys for this client alone. Its other keys stop working for the \
                    client."
            .into(),
        Some(count) => format!(
            "{count} {} permanently deleted. Linking the client again does not restore {}. The partner's \
             other keys stop working for the client.",
            if count == 1 { "key for this client alone is" } else { "keys for this client alone are" },
            if count == 1 { "it" } else { "them" },
        ),
        None => "Keys for this client alone are permanently deleted. The partner's other keys stop working \
                 for the client."
            .into(),
    };
    let action = partner.path(&format!("/clients/{}/unlink", encoded(&client)));
    let page = FormPage::new(
        &visitor,
        Section::Organizations,
        Some(&partner.id),
        "Unlink client",
        action,
        partner.path(""),
    );
    let about = format!("{} from {}", shortened(&client), partner.short_label());
    let page = page.await.about(about).danger(warning);
    Ok(page.fields(Vec::new(), &Form::default(), &FieldErrors::default()).show())
}

async fn unlink(
    Path((id, client)): Path<(String, String)>,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Problem> {
    let tail = format!("/clients/{}", encoded(&client));
    let answer = visitor.call(Method::DELETE, call_path(&id, &tail)).send::<()>().await?;
    let text = format!("“{}” was removed from the portfolio.", shortened(&client));
    Ok(visitor.go_to(&organization_path(&id, ""), &Notice::of(answer.position, text)))
}
