//! Everything the tool prints: progress, reports, charts, key histories, usage errors.

pub(crate) mod chart;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod timeline;
pub(crate) mod usage_error;
