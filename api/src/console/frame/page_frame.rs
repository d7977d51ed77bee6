//! What every page has around it: the navigation, whose page it is, the way out.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use keyledger_engine::value::actor::ActorKind;
use serde::Deserialize;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

use super::asset;
use super::icon::Icon;
use super::navigation::{self, Row, Section};
use super::theme::Theme;
use super::toast::{Notice, Toast};
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::tenants::organization;
use crate::console::visit::visitor::Visitor;

/// Organizations that the switcher offers; the page of organizations has all.
const SWITCHER_LEN: usize = 12;

/// The page of all organizations.
const ORGANIZATIONS: &str = "/console/organizations";

/// What a page has around it.
pub(crate) struct Frame {
    /// The page's title, for the window.
    pub title: String,
    /// Its colours.
    pub theme: Theme,
    /// Where its files are.
    pub assets: &'static str,
    /// Its own address, to come back to.
    pub address: String,
    /// What is there for somebody who is signed in.
    pub signed_in: Option<SignedIn>,
    /// What the page before had to say.
    pub toast: Option<Toast>,
    notice_was_shown: bool,
}

/// What is there for somebody who is signed in.
pub(crate) struct SignedIn {
    /// What forms carry.
    pub csrf_token: String,
    /// The rows of the navigation.
    pub rows: Vec<Row>,
    /// The choice of organizations, for those who see several.
    pub switcher: Option<Switcher>,
    /// The name of the only organization that they see, if there is such a one.
    pub organization: Option<String>,
    /// Who it is.
    pub name: String,
    /// What they are.
    pub role: &'static str,
}

/// The choice of organizations.
pub(crate) struct Switcher {
    /// The one that is chosen.
    pub chosen: Option<String>,
    /// Some to choose from: name and path.
    pub organizations: Vec<(String, String)>,
    /// The path that shows all of them together.
    pub all: String,
    /// The path that shows one, with `%7Bid%7D` for its id.
    pub one: String,
    /// Whether there are more.
    pub more: bool,
}

#[derive(Deserialize)]
struct Organizations {
    data: Vec<Organization>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Organization {
    id: String,
    name: Option<String>,
    status: String,
}

impl Organization {
    fn label(self) -> String {
        self.name.unwrap_or(self.id)
    }
}

impl Frame {
    /// The frame of a page for somebody who is signed in. `organization` is the one that the page is about, if it is about
    /// one.
    pub(crate) async fn of(
        visitor: &Visitor,
        title: &str,
        section: Option<Section>,
        organization: Option<&str>,
    ) -> Self {
        // A script shows only a part of the page, and toasts are not in it.
        let notice = visitor.notice.as_ref().filter(|_| !visitor.by_script);
        let (name, role) = who(visitor);
        let bound = visitor.principal.organization_id.as_ref();
        let signed_in = SignedIn {
            csrf_token: visitor.csrf_token.clone(),
            rows: navigation::rows(visitor, section, organization),
            switcher: switcher(visitor, organization).await,
            organization: bound.map(|id| {
                let found = visitor.service.index.organization(id);
                let name = found.as_ref().and_then(|found| found.name.as_ref());
                name.map_or_else(|| id.to_string(), |name| name.as_str().into())
            }),
            name,
            role,
        };
        Self {
            title: title.into(),
            theme: visitor.theme,
            assets: asset::directory(),
            address: visitor.address.clone(),
            signed_in: Some(signed_in),
            toast: notice.and_then(|notice| notice.toast.clone()),
            notice_was_shown: notice.is_some(),
        }
    }

    /// The frame of a page for everybody.
    pub(crate) fn plain(title: &str, theme: Theme) -> Self {
        Self {
            title: title.into(),
            theme,
            assets: asset::directory(),
            address: "/console".into(),
            signed_in: None,
            toast: None,
            notice_was_shown: false,
        }
    }

    /// What forms carry.
    pub(crate) fn csrf_token(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| &signed_in.csrf_token)
    }

    /// The schemes to choose from, with their signs.
    pub(crate) fn themes(&self) -> [(Theme, Icon, &'static str); 3] {
        let shown = |theme| match theme {
            Theme::System => (theme, Icon::SCREEN, "As the system"),
            Theme::Light => (theme, Icon::SUN, "Light"),
            Theme::Dark => (theme, Icon::MOON, "Dark"),
        };
        Theme::ALL.map(shown)
    }
}

/// Who is signed in, in words.
fn who(visitor: &Visitor) -> (String, &'static str) {
    let index = &visitor.service.index;
    let principal = &visitor.principal;
    match principal.kind {
        ActorKind::PortalSession => {
            let session = index.authenticate_portal_session(visitor.secret(), visitor.now);
            let name = session.as_ref().and_then(|session| session.user_id.as_ref());
            let role = session.as_ref().map_or("", |session| session.role.as_str());
            (name.map_or_else(|| "Portal visitor".into(), |user_id| user_id.as_str().into()), role)
        }
        ActorKind::RootKey => {
            let root_key = principal.id.parse().ok().and_then(|id| index.root_key(id));
            let name = root_key.as_ref().and_then(|root_key| root_key.name.as_ref());
            (name.map_or_else(|| principal.id.to_string(), |name| name.as_str().into()), "root key")
        }
        _ => (principal.id.to_string(), "user"),
    }
}

async fn switcher(visitor: &Visitor, chosen: Option<&str>) -> Option<Switcher> {
    if visitor.principal.organization_id.is_some()
        || visitor.by_script
        || !visitor.may(&Method::GET, "/v1/organizations")
    {
        return None;
    }
    let page: Organizations = visitor.read(&format!("/v1/organizations?limit={SWITCHER_LEN}")).await.ok()?;
    let chosen = match chosen {
        Some(id) => {
            let found: Result<Organization, _> =
                visitor.read(&format!("/v1/organizations/{}", encoded(id))).await;
            Some(found.map_or_else(|_| id.to_owned(), Organization::label))
        }
        None => None,
    };
    // A page about one object is left with its organization; lists are shown again for the other one.
    let path = visitor.address.split('?').next().unwrap_or_default();
    let is_about_organizations = path.starts_with(ORGANIZATIONS);
    let path = if path.split('/').count() == 3 || is_about_organizations { path } else { "/console/keys" };
    let to = |id: Option<&str>| match id {
        Some(id) if is_about_organizations => organization::path(id, ""),
        None if is_about_organizations => ORGANIZATIONS.into(),
        id => QueryString::default().with("organization_id", id).after(path),
    };
    let active = page.data.into_iter().filter(|organization| organization.status == "active");
    let organizations = active.map(|it| {
        let path = to(Some(&it.id));
        (it.label(), path)
    });
    Some(Switcher {
        chosen,
        organizations: organizations.collect(),
        all: to(None),
        one: to(Some("{id}")),
        more: page.next_cursor.is_some(),
    })
}

/// A page's template, which has its frame.
pub(crate) trait Page: Template {
    /// The frame.
    fn frame(&self) -> &Frame;

    /// The page as an answer.
    fn answer(&self, status: StatusCode) -> Response {
        let html = match self.render() {
            Ok(html) => html,
            Err(error) => return Problem::internal(&error).into_response(),
        };
        let media_type = HeaderValue::from_static("text/html; charset=utf-8");
        let mut response = (status, [(header::CONTENT_TYPE, media_type)], html).into_response();
        if self.frame().notice_was_shown {
            Notice::forget(response.headers_mut());
        }
        response
    }
}

/// Makes a template a page: it has a field `frame`.
macro_rules! page {
    ($name:ty) => {
        impl $crate::console::frame::page_frame::Page for $name {
            fn frame(&self) -> &$crate::console::frame::page_frame::Frame {
                &self.frame
            }
        }
    };
}
pub(in crate::console) use page;

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    detail: String,
    help: &'static str,
    code: &'static str,
    request_id: String,
    errors: Vec<String>,
}

page!(ProblemPage);

/// The page of a problem: what happened, the request's id, and a way on.
pub(crate) async fn problem_page(
    visitor: Option<&Visitor>,
    theme: Theme,
    problem: Problem,
    request_id: &RequestId,
) -> Response {
    let title = problem.code.title();
    let frame = match visitor {
        Some(visitor) => Frame::of(visitor, title, None, None).await,
        None => Frame::plain(title, theme),
    };
    let help = match problem.code {
        Code::NotFound => "No page has this address. The navigation leads to those there are.",
        Code::CsrfFailed => {
            "The form was sent by another page, or in a session that has ended. Open the page again and repeat it."
        }
        Code::Forbidden => {
            "What you are signed in as does not include this. Ask whoever let you in for another role."
        }
        code => code.help(),
    };
    let page = ProblemPage {
        frame,
        title,
        detail: if problem.detail == problem.code.help() { String::new() } else { problem.detail.clone() },
        help,
        code: problem.code.as_str(),
        request_id: request_id.as_str().into(),
        errors: problem.errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect(),
    };
    let mut answer = page.answer(problem.code.status());
    if let Some(retry_after) = problem.into_response().headers_mut().remove(header::RETRY_AFTER) {
        answer.headers_mut().insert(header::RETRY_AFTER, retry_after);
    }
    answer
}
