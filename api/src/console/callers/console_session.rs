//! The list of console sessions, and the form that ends one.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use crate::console::frame::form_page::FormPage;
use crate::console::frame::list_page::{Listing, Things};
use crate::console::frame::navigation::Section;
use crate::console::parts::field_errors::FieldErrors;
use crate::console::parts::form::Form;
use crate::console::parts::icon::Icon;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::short_name::shortened;
use crate::console::parts::table::{Cell, MenuItem, Row};
use crate::console::state::Console;
use crate::console::tenants::organization_choice;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const PATH: &str = "/console/sessions";
/// The most sessions on a page of the endpoint.
const PAGE_LEN: &str = "200";

/// A console session as the API returns it.
#[derive(Deserialize)]
struct Session {
    id: String,
    kind: String,
    holder_id: String,
    name: Option<String>,
    organization_id: Option<String>,
    role: Option<String>,
    ip: Option<String>,
    user_agent: Option<String>,
    started_at: Timestamp,
    last_used_at: Timestamp,
    expires_at: Timestamp,
}

impl Session {
    /// Finds a session in the list; a single one has no endpoint.
    async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        let mut cursor: Option<String> = None;
        loop {
            let query =
                QueryString::default().with("limit", Some(PAGE_LEN)).with("cursor", cursor.as_deref());
            let page: Things<Self> = visitor.read(&query.after("/v1/console-sessions")).await?;
            if let Some(found) = page.data.into_iter().find(|session| session.id == id) {
                return Ok(found);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Err(Problem::of(Code::ConsoleSessionNotFound));
            }
        }
    }

    /// The name of who signed in.
    fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.holder_id)
    }

    fn means(&self) -> String {
        match &self.role {
            Some(role) => format!("OpenID provider, {role}"),
            None if self.kind == "root_key" => "Root key".into(),
            None => "OpenID provider".into(),
        }
    }
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new().route(PATH, get(list)).route("/console/sessions/{id}/end", get(end_form).post(end))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let columns = organization_choice::columns(
        &visitor,
        &["Signed in", "With"],
        &["From", "Browser", "Since", "Last used", "Expires"],
    );
    let listing = Listing {
        section: Section::ConsoleSessions,
        title: "Console sessions",
        lead: "People who are signed in to this console with a root key or at the OpenID provider. Sessions \
               that began with a link are under Portal links.",
        path: PATH.into(),
        call: "/v1/console-sessions".into(),
        noun: ("session", "sessions"),
        search: None,
        by_organization: true,
        columns,
        create: None,
        of: None,
        above: None,
        empty: "No one who is limited to this organization is signed in.",
    };
    let row = |it: Session, _: Option<&str>| {
        let own = if visitor.is_in_console_session(&it.id) { " (you)" } else { "" };
        let label = shortened(it.label());
        let path = format!("{PATH}/{}/end", encoded(&it.id));
        let mut cells = vec![
            Cell::Title {
                text: format!("{}{own}", it.label()),
                path: None,
                under: Some(it.holder_id.clone()),
                searched: None,
            },
            Cell::Text(Some(it.means())),
        ];
        cells.extend(organization_choice::cell(&visitor, it.organization_id.as_deref()));
        cells.push(Cell::Text(it.ip));
        cells.push(Cell::Text(it.user_agent.map(|text| shortened(&text))));
        cells.push(Cell::Time(Some(Moment::new(it.started_at, visitor.now))));
        cells.push(Cell::Time(Some(Moment::new(it.last_used_at, visitor.now))));
        cells.push(Cell::Time(Some(Moment::new(it.expires_at, visitor.now))));
        Row {
            label,
            cells,
            menu: vec![MenuItem::destructive("End session…", Icon::STOP, path)],
            is_over: false,
        }
    };
    listing.answer(&visitor, row).await
}

async fn end_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/console-sessions/{id}")?;
    let session = Session::read(&visitor, &id).await?;
    let warning = match (visitor.is_in_console_session(&session.id), session.kind.as_str()) {
        (true, _) => "This is your own session: you will be signed out.",
        (false, "root_key") => {
            "They are signed out at once. Who has the root key can sign in again: revoke it to keep them out."
        }
        (false, _) => {
            "They are signed out at once, and so is everyone whom they invited. They can sign in again as long \
             as the OpenID provider lets them."
        }
    };
    let path = format!("{PATH}/{}/end", encoded(&session.id));
    let organization = session.organization_id.as_deref();
    let page =
        FormPage::new(&visitor, Section::ConsoleSessions, organization, "End session", path, PATH).await;
    let about = format!("{} · {}", shortened(session.label()), session.means());
    Ok(page.about(about).danger(warning).fields(Vec::new(), &Form::default(), &FieldErrors::default()).show())
}

async fn end(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let call = visitor.call(Method::DELETE, format!("/v1/console-sessions/{}", encoded(&id)));
    let answer = call.send::<()>().await?;
    let to = form.return_path().unwrap_or_else(|| PATH.into());
    Ok(visitor.go_to(&to, &Notice::of(answer.position, "The session was ended.")))
}
