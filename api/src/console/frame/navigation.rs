//! The navigation. A visitor sees a row if they may use an endpoint that its page reads.

use http::Method;

use crate::console::parts::icon::Icon;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::visit::visitor::Visitor;

/// A row of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Keys,
    Audit,
    Test,
    /// All organizations, or the visitor's own if they are bound to one.
    Organizations,
    Apis,
    Applications,
    RootKeys,
    PortalLinks,
    Webhooks,
    ConsoleSessions,
}

/// A row's texts, and the endpoints of which a visitor must be allowed at least one.
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
    Entry {
        section: Section::ConsoleSessions,
        name: "Console sessions",
        icon: Icon::SCREEN,
        path: "/console/sessions",
        calls: &[(Method::GET, "/v1/console-sessions")],
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

/// A row as a visitor sees it.
pub(crate) struct Row {
    pub name: &'static str,
    pub icon: Icon,
    pub path: String,
    pub is_current: bool,
}

/// Returns the rows that a visitor sees. Their links keep the chosen organization.
pub(crate) fn rows(visitor: &Visitor, current: Option<Section>, organization: Option<&str>) -> Vec<Row> {
    let row = |entry: &Entry| Row {
        name: entry.name_for(visitor),
        icon: entry.icon,
        path: QueryString::default().with("organization_id", organization).after(entry.path),
        is_current: Some(entry.section) == current,
    };
    ENTRIES.iter().filter(|entry| entry.is_for(visitor)).map(row).collect()
}

/// Returns the path of the first page that a visitor may see.
pub(crate) fn first(visitor: &Visitor) -> Option<&'static str> {
    ENTRIES.iter().find(|entry| entry.is_for(visitor)).map(|entry| entry.path)
}

/// Returns the path of an organization's page, followed by `tail`.
pub(crate) fn organization_path(id: &str, tail: &str) -> String {
    format!("/console/organizations/{}{tail}", encoded(id))
}
