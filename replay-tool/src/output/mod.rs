//! What people see: progress, reports, timelines.

pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod timeline;
