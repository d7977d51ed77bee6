//! The page of a list, as every list answers it.

use serde::Serialize;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T: Serialize> {
    /// The items.
    pub data: Vec<T>,
    /// The value of `cursor` for the next page. `null` on the last page.
    pub next_cursor: Option<String>,
    /// The number of matching items, exact up to 10,000.
    pub total: u64,
    /// Whether more than `total` items match.
    pub total_capped: bool,
}

impl<T: Serialize> Page<T> {
    /// Returns the only page of a list that is answered whole.
    #[must_use]
    pub(crate) fn whole(data: Vec<T>) -> Self {
        let total = data.len() as u64;
        Self { data, next_cursor: None, total, total_capped: false }
    }
}
