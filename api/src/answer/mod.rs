//! Writing answers: problems, objects, pages of lists.

pub(crate) mod code;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod reply;
