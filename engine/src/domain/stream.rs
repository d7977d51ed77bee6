//! The stream: all events of one aggregate. Its kinds and ids come from the table of aggregates.

pub use crate::domain::aggregate::{StreamId, StreamKind};
