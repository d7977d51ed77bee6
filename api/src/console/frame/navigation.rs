//! The rows of the navigation. A row is shown to those who may make the call that its page begins with.

use http::Method;

use crate::console::parts::icon::Icon;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::visit::visitor::Visitor;

/// A page with a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// Everything at a glance.
    Overview,
    /// Keys.
    Keys,
    /// The audit log.
    Audit,
    /// Test a key.
    Test,
    /// Organizations; the own one for those who are bound to it.
    Organizations,
    /// APIs.
    Apis,
    /// Applications.
    Applications,
    /// Root keys.
    RootKeys,
    /// Links to the portal.
    PortalLinks,
    /// Webhooks.
    Webhooks,
}

/// A page's row: its name, its sign, its path, and the calls one of which somebody must be allowed to make to see it.
struct Entry {
    section: Section,
    name: &'static str,
    icon: Icon,
    path: &'static str,
    calls: &'static [(Method, &'static str)],
}

const ENTRIES: &[Entry] = &[
    Entry {
        section: Section::Overview,
        name: "Overview",
        icon: Icon::CHART,
        path: "/console/overview",
        calls: &[(Method::GET, "/v1/overview")],
    },
    Entry {
        section: Section::Keys,
        name: "Keys",
        icon: Icon::KEY,
        path: "/console/keys",
        calls: &[(Method::GET, "/v1/keys")],
    },
    Entry {
        section: Section::Audit,
        name: "Audit log",
        icon: Icon::LOG,
        path: "/console/audit",
        calls: &[(Method::GET, "/v1/events")],
    },
    Entry {
        section: Section::Test,
        name: "Test a key",
        icon: Icon::TEST,
        path: "/console/test",
        calls: &[(Method::POST, "/v1/keys/verify"), (Method::POST, "/v1/keys/find")],
    },
    Entry {
        section: Section::Organizations,
        name: "Organizations",
        icon: Icon::BUILDING,
        path: "/console/organizations",
        calls: &[(Method::GET, "/v1/organizations")],
    },
    Entry {
        section: Section::PortalLinks,
        name: "Portal links",
        icon: Icon::PEOPLE,
        path: "/console/portal-links",
        calls: &[(Method::GET, "/v1/portal-sessions")],
    },
    Entry {
        section: Section::Apis,
        name: "APIs",
        icon: Icon::BOX,
        path: "/console/apis",
        calls: &[(Method::GET, "/v1/apis")],
    },
    Entry {
        section: Section::Applications,
        name: "Applications",
        icon: Icon::WINDOW,
        path: "/console/applications",
        calls: &[(Method::GET, "/v1/applications")],
    },
    Entry {
        section: Section::Webhooks,
        name: "Webhooks",
        icon: Icon::PLUG,
        path: "/console/webhooks",
        calls: &[(Method::GET, "/v1/webhooks")],
    },
    Entry {
        section: Section::RootKeys,
        name: "Root keys",
        icon: Icon::SHIELD,
        path: "/console/root-keys",
        calls: &[(Method::GET, "/v1/root-keys")],
    },
];

impl Entry {
    fn name_for(&self, visitor: &Visitor) -> &'static str {
        let is_bound = visitor.principal.organization_id.is_some();
        if is_bound && self.section == Section::Organizations { "Organization" } else { self.name }
    }

    fn is_for(&self, visitor: &Visitor) -> bool {
        self.calls.iter().any(|(method, path)| visitor.may(method, path))
    }
}

/// A row as it is shown.
pub(crate) struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its sign.
    pub icon: Icon,
    /// Where it leads.
    pub path: String,
    /// Whether this is the page.
    pub is_current: bool,
}

/// The rows that somebody sees. What is chosen stays chosen: the organization goes along.
pub(crate) fn rows(visitor: &Visitor, current: Option<Section>, organization: Option<&str>) -> Vec<Row> {
    let row = |entry: &Entry| Row {
        name: entry.name_for(visitor),
        icon: entry.icon,
        path: QueryString::default().with("organization_id", organization).after(entry.path),
        is_current: Some(entry.section) == current,
    };
    ENTRIES.iter().filter(|entry| entry.is_for(visitor)).map(row).collect()
}

/// The path of the first page that somebody sees, if they see any.
pub(crate) fn first(visitor: &Visitor) -> Option<&'static str> {
    ENTRIES.iter().find(|entry| entry.is_for(visitor)).map(|entry| entry.path)
}

/// Returns the path of an organization's page, followed by `tail`.
pub(crate) fn organization_path(id: &str, tail: &str) -> String {
    format!("/console/organizations/{}{tail}", encoded(id))
}
