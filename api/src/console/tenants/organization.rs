//! An organization as the API returns it, and the paths that lead to it.

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::frame::navigation::{Section, organization_path};
use crate::console::frame::page_frame::Frame;
use crate::console::parts::query_string::encoded;
use crate::console::parts::short_name::shortened;
use crate::console::visit::visitor::Visitor;

/// What an organization can be: the word of the call, and what it means.
pub(crate) const KINDS: [(&str, &str, &str); 4] = [
    ("test", "Test", "Tries things out"),
    ("paid", "Paid", "A customer"),
    ("partner", "Partner", "Works for clients of its own"),
    ("free", "Free", "Has no keys"),
];

/// An organization as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Organization {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// What it is.
    pub kind: String,
    /// Where it stands.
    pub status: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// How many events it has.
    pub version: u32,
}

impl Organization {
    /// Reads one.
    ///
    /// # Errors
    /// What the call answers.
    pub(crate) async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id, "")).await
    }

    /// The name, or what stands for it.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The name as it stands in a sentence.
    pub(crate) fn short_label(&self) -> String {
        shortened(self.label())
    }

    /// Its page, with `tail` after it.
    pub(crate) fn path(&self, tail: &str) -> String {
        organization_path(&self.id, tail)
    }

    /// Whether it is there still.
    pub(crate) fn is_active(&self) -> bool {
        self.status == "active"
    }

    /// What it is, in a word for people.
    pub(crate) fn kind_word(&self) -> &str {
        KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or(self.kind.as_str(), |(_, name, _)| name)
    }
}

/// The path of an organization's call, with `tail` after it.
pub(crate) fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/organizations/{}{tail}", encoded(id))
}

/// The frame of a page about an organization.
pub(crate) async fn frame(visitor: &Visitor, title: &str, id: &str) -> Frame {
    Frame::of(visitor, title, Some(Section::Organizations), Some(id)).await
}
