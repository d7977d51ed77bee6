//! The page of an organization's keys that violate its policies.

use axum::extract::Path;
use axum::response::Response;
use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::frame::list_page::Listing;
use crate::console::frame::navigation::Section;
use crate::console::parts::key::Key;
use crate::console::parts::table::{Cell, Row};
use crate::console::tenants::organization::{Organization, call_path};
use crate::console::visit::visitor::Visitor;

#[derive(Deserialize)]
struct Violation {
    key: Key,
    violations: Vec<Breach>,
}

#[derive(Deserialize)]
struct Breach {
    pointer: String,
    detail: String,
}

impl Breach {
    /// Names the key's field and the rule that it violates.
    fn sentence(&self, key: &Key) -> String {
        let mut segments = self.pointer.trim_start_matches('/').split('/');
        let scope = |index: Option<&str>| key.scopes.get(index?.parse::<usize>().ok()?);
        let subject = match segments.next() {
            Some("scopes") => match scope(segments.next()) {
                Some(scope) => format!("Scope {scope}"),
                None => "Scopes".into(),
            },
            Some("expires_at" | "expires_in") => "Expiry".into(),
            Some("name") => "Name".into(),
            Some("user_id") => "User".into(),
            _ => self.pointer.clone(),
        };
        format!("{subject}: {}", self.detail)
    }
}

pub(crate) async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    let organization = Organization::read(&visitor, &id).await?;
    let listing = Listing {
        section: Section::Organizations,
        title: "Policy violations",
        lead: "Active and revoked keys that would be refused if created today, oldest first. They stay as \
               they are until you change them.",
        path: organization.path("/violations"),
        call: call_path(&id, "/policy-violations"),
        noun: ("key", "keys"),
        search: None,
        by_organization: false,
        columns: vec!["Name", "Key", "Environment", "Status", "Violation"],
        create: None,
        of: Some(organization.id.clone()),
        above: Some((organization.short_label(), organization.path(""))),
        empty: "Every key of this organization complies with its policies, or there are no policies.",
    };
    let row = |it: Violation, _: Option<&str>| Row {
        label: it.key.short_title(),
        cells: vec![
            Cell::Title {
                text: it.key.title().into(),
                path: Some(it.key.path("")),
                under: None,
                searched: None,
            },
            Cell::Code(it.key.masked()),
            Cell::Text(Some(it.key.environment.clone())),
            Cell::Badge(it.key.status.badge()),
            Cell::Lines(it.violations.iter().map(|breach| breach.sentence(&it.key)).collect()),
        ],
        menu: Vec::new(),
        is_over: false,
    };
    listing.answer(&visitor, row).await
}
