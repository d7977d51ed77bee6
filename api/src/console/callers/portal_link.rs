//! The list of portal links and the sessions started with them, and the forms that invite a person and end a
//! session.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::answer::problem::Problem;
use crate::auth::grant::Grant;

use crate::console::frame::form_page::{FormPage, field_errors};
use crate::console::frame::list_page::Listing;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::Frame;
use crate::console::frame::secret_page::{Secret, SecretPage, Words};
use crate::console::parts::badge::Badge;
use crate::console::parts::field::{Choice, Field};
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

const PATH: &str = "/console/portal-links";
/// The roles of a portal session: the API's word, its name and its meaning.
const ROLES: [(&str, &str, &str); 4] = [
    ("member", "Member", "Manages their own keys"),
    ("admin", "Admin", "Manages all keys of the organization"),
    ("owner", "Owner", "Manages all keys and invites people"),
    ("auditor", "Auditor", "Can view keys and history"),
];
/// The lifetimes of links and sessions: seconds and name.
const LINK_LIVES: [(&str, &str); 4] =
    [("600", "10 minutes"), ("3600", "One hour"), ("28800", "8 hours"), ("86400", "One day")];
const SESSION_LIVES: [(&str, &str); 3] = [("3600", "One hour"), ("28800", "8 hours"), ("86400", "One day")];

/// A portal session as the API returns it.
#[derive(Deserialize)]
struct Session {
    id: String,
    organization_id: String,
    user_id: Option<String>,
    role: String,
    status: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct WithLink {
    portal_session: Session,
    url: Option<Secret>,
}

impl Session {
    async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id)).await
    }

    fn label(&self) -> &str {
        self.user_id.as_deref().unwrap_or("Portal visitor")
    }

    fn role_word(&self) -> &str {
        ROLES.iter().find(|(role, ..)| *role == self.role).map_or(self.role.as_str(), |(_, name, _)| name)
    }

    fn is_pending(&self) -> bool {
        self.status == "pending"
    }
}

fn call_path(id: &str) -> String {
    format!("/v1/portal-sessions/{}", encoded(id))
}

pub(crate) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route(PATH, get(list).post(invite))
        .route("/console/portal-links/new", get(invite_form))
        .route("/console/portal-links/{id}/end", get(end_form).post(end))
}

async fn list(visitor: Visitor) -> Result<Response, Problem> {
    let columns =
        organization_choice::columns(&visitor, &["User", "Role"], &["Status", "Invited", "Expires"]);
    let may_invite = visitor.may(&Method::POST, "/v1/portal-sessions") && !roles(&visitor).is_empty();
    let listing = Listing {
        section: Section::PortalLinks,
        title: "Portal links",
        lead: "Let people sign in to manage keys themselves. Lists unused links and active sessions.",
        path: PATH.into(),
        call: "/v1/portal-sessions".into(),
        noun: ("link", "links"),
        search: None,
        by_organization: true,
        columns,
        create: may_invite
            .then(|| ("Invite", organization_choice::kept(&visitor, "/console/portal-links/new"))),
        of: None,
        above: None,
        empty: "Invite people to this console for one organization. You get a link to send them, which \
                works once. Members see only their own keys.",
    };
    let row = |it: Session, _: Option<&str>| {
        let (label, icon) =
            if it.is_pending() { ("Revoke link…", Icon::UNDO) } else { ("End session…", Icon::STOP) };
        let path = format!("{PATH}/{}/end", encoded(&it.id));
        let status = if it.is_pending() { "Link not used yet" } else { "Signed in" };
        let mut cells = vec![
            Cell::Title { text: it.label().into(), path: None, under: Some(it.id.clone()), searched: None },
            Cell::Text(Some(it.role_word().into())),
        ];
        cells.extend(organization_choice::cell(&visitor, Some(&it.organization_id)));
        cells.push(Cell::Badge(Badge::of(&it.status).saying(status)));
        cells.push(Cell::Time(Some(Moment::new(it.created_at, visitor.now))));
        cells.push(Cell::Time(Some(Moment::new(it.expires_at, visitor.now))));
        Row {
            label: shortened(it.label()),
            cells,
            menu: vec![MenuItem::destructive(label, icon, path)],
            is_over: false,
        }
    };
    listing.answer(&visitor, row).await
}

/// The roles in which the visitor may let people in: those with no more permissions than the visitor has.
fn roles(visitor: &Visitor) -> Vec<Choice> {
    // A visitor who is not bound to an organization may choose any, which all have the same roles.
    let organization_id = visitor.principal.organization_id.clone().unwrap_or_else(OrganizationId::first);
    let own = visitor.principal.user_id.as_ref();
    let may_grant = |word: &str| {
        let role: Option<Role> = word.parse().ok();
        role.is_some_and(|role| visitor.may_grant(Grant::of_role(role, &organization_id, own)))
    };
    let granted = ROLES.iter().filter(|(word, ..)| may_grant(word));
    granted.map(|(word, name, hint)| Choice::new(*word, *name, *hint)).collect()
}

fn lives(lives: &[(&str, &str)]) -> Vec<Choice> {
    lives.iter().map(|(seconds, name)| Choice::new(*seconds, *name, "")).collect()
}

async fn invite_page(visitor: &Visitor, form: &Form, errors: &FieldErrors) -> Response {
    let mut fields: Vec<Field> =
        organization_choice::field(visitor, "organization_id", "Organization ID").await.into_iter().collect();
    fields.extend([
        Field::code("user_id", "User ID", "For example ada@example.com")
            .hint("The organization's own ID for the person. Members need one.")
            .focused(),
        Field::one_of("role", "Role", roles(visitor))
            .hint("You can let people in only with rights of your own."),
        Field::one_of("link_seconds", "Link is valid for", lives(&LINK_LIVES)),
        Field::one_of("session_seconds", "Session lasts for", lives(&SESSION_LIVES)),
    ]);
    let chosen = form.filled("organization_id");
    let page = FormPage::new(visitor, Section::PortalLinks, chosen, "Invite", PATH, PATH).await;
    let mut page =
        page.text("You get a link that signs in the first person who opens it. Send it privately.");
    if let Some(end) = visitor.principal.expires_at {
        let end = Moment::new(end, visitor.now).exact();
        let with = if visitor.is_from_portal() { " when you sign out, and" } else { "" };
        page = page
            .text(format!("The link and the session end{with} at {end} at the latest, as your own session."));
    }
    page.submit("Create link").once(form).fields(fields, form, errors).show()
}

async fn invite_form(visitor: Visitor) -> Result<Response, Problem> {
    visitor.require(&Method::POST, "/v1/portal-sessions")?;
    let form = organization_choice::form(&visitor)
        .and("role", "member")
        .and("link_seconds", "600")
        .and("session_seconds", "28800");
    Ok(invite_page(&visitor, &form, &FieldErrors::default()).await)
}

async fn invite(Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let mut body = Map::new();
    body.insert("organization_id".into(), organization_choice::id(&visitor, &form));
    for name in ["user_id", "role"] {
        body.insert(name.into(), form.json(name));
    }
    for name in ["link_seconds", "session_seconds"] {
        body.insert(
            name.into(),
            form.text(name).parse::<u64>().map_or_else(|_| form.json(name), Value::from),
        );
    }
    let call = visitor.call(Method::POST, "/v1/portal-sessions").json(&body).named(&form);
    let answer = match call.send::<WithLink>().await {
        Ok(answer) => answer,
        Err(problem) => return Ok(invite_page(&visitor, &form, &field_errors(problem, &[])?).await),
    };
    let WithLink { portal_session: session, url } = answer.body;
    let title = "Link created";
    let ends = Moment::new(session.expires_at, visitor.now).exact();
    let words = Words {
        title,
        subject: session.label().into(),
        under: Some(format!("{} of {}", session.role_word(), session.organization_id)),
        noun: "link",
        advice: "Send it privately: it signs in the first person who opens it.",
        note: Some(format!("It works once, until {ends}.")),
        loss: "without it they can't sign in.",
        remedy: "revoke the link and create a new one.",
    };
    let organization = Some(session.organization_id.as_str());
    let frame = Frame::of(&visitor, title, Some(Section::PortalLinks), organization).await;
    let chosen = visitor.principal.organization_id.is_none().then_some(session.organization_id.as_str());
    let done = QueryString::default().with("organization_id", chosen).after(PATH);
    Ok(SecretPage::new(frame, words, url, done).show(answer.position))
}

async fn end_form(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    visitor.require(&Method::DELETE, "/v1/portal-sessions/{id}")?;
    let session = Session::read(&visitor, &id).await?;
    let (title, warning) = if session.is_pending() {
        ("Revoke link", "The link stops working. You can create a new one.")
    } else {
        (
            "End session",
            "They are signed out at once, and so is everyone whom they invited. You can invite them again.",
        )
    };
    let path = format!("{PATH}/{}/end", encoded(&session.id));
    let organization = Some(session.organization_id.as_str());
    let page = FormPage::new(&visitor, Section::PortalLinks, organization, title, path, PATH).await;
    let about =
        format!("{} · {} of {}", shortened(session.label()), session.role_word(), session.organization_id);
    Ok(page.about(about).danger(warning).fields(Vec::new(), &Form::default(), &FieldErrors::default()).show())
}

async fn end(Path(id): Path<String>, Submission { visitor, form }: Submission) -> Result<Response, Problem> {
    let session = Session::read(&visitor, &id).await?;
    let answer = visitor.call(Method::DELETE, call_path(&id)).send::<()>().await?;
    let text = if session.is_pending() { "The link was revoked." } else { "The session was ended." };
    let to = form.return_path().unwrap_or_else(|| PATH.into());
    Ok(visitor.go_to(&to, &Notice::of(answer.position, text)))
}
