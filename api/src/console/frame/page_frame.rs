//! The frame of every page: navigation, organization switcher, visitor and toast.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

use super::asset;
use super::navigation::{self, Row, Section};
use crate::console::parts::icon::Icon;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::visit::identity::Identity;
use crate::console::visit::notice::{Notice, Toast};
use crate::console::visit::theme::Theme;
use crate::console::visit::visitor::Visitor;

/// The number of organizations in the switcher; its search finds the others.
const SWITCHER_LEN: usize = 12;

/// The path of the organization list.
const ORGANIZATIONS: &str = "/console/organizations";

pub(crate) struct Frame {
    /// The title of the browser window.
    pub title: String,
    pub theme: Theme,
    /// The directory of the asset files.
    pub assets: &'static str,
    /// The page's own address, for forms that return to it.
    pub address: String,
    pub signed_in: Option<SignedIn>,
    pub toast: Option<Toast>,
    notice_was_shown: bool,
}

pub(crate) struct SignedIn {
    pub csrf_token: String,
    pub rows: Vec<Row>,
    /// For visitors who see several organizations.
    pub switcher: Option<Switcher>,
    /// The name of the organization that the visitor is bound to.
    pub organization: Option<String>,
    /// The visitor's name.
    pub name: String,
    /// The visitor's role.
    pub role: &'static str,
}

/// The organization switcher.
pub(crate) struct Switcher {
    /// The name of the chosen organization.
    pub chosen: Option<String>,
    /// The first organizations: name and path.
    pub organizations: Vec<(String, String)>,
    /// The path that shows all organizations.
    pub all: String,
    /// The path that shows one organization, with `%7Bid%7D` in place of its id.
    pub one: String,
    /// Whether there are more organizations than listed.
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
    /// The frame for a signed-in visitor. `organization` is the organization that the page is about, if any.
    pub(crate) async fn of(
        visitor: &Visitor,
        title: &str,
        section: Option<Section>,
        organization: Option<&str>,
    ) -> Self {
        // A script shows only part of the page and would lose the toast.
        let notice = visitor.notice.as_ref().filter(|_| !visitor.by_script);
        let Identity { name, role, organization: bound_to } = visitor.identity();
        let signed_in = SignedIn {
            csrf_token: visitor.csrf_token.clone(),
            rows: navigation::rows(visitor, section, organization),
            switcher: switcher(visitor, organization).await,
            organization: bound_to,
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

    /// The frame of a page that needs no sign-in.
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

    pub(crate) fn csrf_token(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| &signed_in.csrf_token)
    }

    /// The themes to choose from, with icon and name.
    pub(crate) fn themes(&self) -> [(Theme, Icon, &'static str); 3] {
        let shown = |theme| match theme {
            Theme::System => (theme, Icon::SCREEN, "System theme"),
            Theme::Light => (theme, Icon::SUN, "Light theme"),
            Theme::Dark => (theme, Icon::MOON, "Dark theme"),
        };
        Theme::ALL.map(shown)
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
    // A page about one object belongs to its organization, so switching leaves it; a list stays open for the
    // new one.
    let path = visitor.address.split('?').next().unwrap_or_default();
    let is_about_organizations = path.starts_with(ORGANIZATIONS);
    let path = if path.split('/').count() == 3 || is_about_organizations { path } else { "/console/keys" };
    let to = |id: Option<&str>| match id {
        Some(id) if is_about_organizations => navigation::organization_path(id, ""),
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

/// A page template with a frame.
pub(crate) trait Page: Template {
    fn frame(&self) -> &Frame;

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

/// Implements [`Page`] for a template with a field `frame`.
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
#[template(path = "frame/problem.html")]
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

/// Renders a problem as a page that says what happened, what to do, and the request's id.
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
        Code::NotFound => "There is no page at this address. Use the menu to find your page.",
        Code::CsrfFailed => {
            "The form came from another site or from a session that has ended. Reload the page and try again."
        }
        Code::Forbidden => {
            "You are signed in without permission for this. Ask an administrator for another role."
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
