//! The signed-in visitor: who they are, what they submit, and what the next page tells them.

pub(crate) mod cookie;
pub(crate) mod identity;
pub(crate) mod notice;
pub(crate) mod submission;
pub(crate) mod theme;
pub(crate) mod visitor;
