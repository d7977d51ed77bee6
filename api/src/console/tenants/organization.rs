//! An organization as the API returns it, and the paths that lead to it.

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::frame::navigation::{Section, organization_path};
use crate::console::frame::page_frame::Frame;
use crate::console::parts::query_string::encoded;
use crate::console::parts::short_name::shortened;
use crate::console::visit::visitor::Visitor;

/// The kinds of organization: the API's word, its name and its meaning.
pub(crate) const KINDS: [(&str, &str, &str); 4] = [
    ("test", "Test", "For trying things out"),
    ("paid", "Paid", "A customer"),
    ("partner", "Partner", "Manages keys for its clients"),
    ("free", "Free", "Can't have keys"),
];

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Organization {
    pub id: String,
    pub name: Option<String>,
    pub kind: String,
    pub status: String,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// The number of events in the organization's stream.
    pub version: u32,
}

impl Organization {
    /// Reads an organization.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id, "")).await
    }

    /// The name, or the id of an unnamed organization.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The label for use in a sentence.
    pub(crate) fn short_label(&self) -> String {
        shortened(self.label())
    }

    /// The path of the organization's page, followed by `tail`.
    pub(crate) fn path(&self, tail: &str) -> String {
        organization_path(&self.id, tail)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.status == "active"
    }

    /// The kind's name.
    pub(crate) fn kind_word(&self) -> &str {
        KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or(self.kind.as_str(), |(_, name, _)| name)
    }
}

/// The path of an organization's endpoint, followed by `tail`.
pub(crate) fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/organizations/{}{tail}", encoded(id))
}

pub(crate) async fn frame(visitor: &Visitor, title: &str, id: &str) -> Frame {
    Frame::of(visitor, title, Some(Section::Organizations), Some(id)).await
}
