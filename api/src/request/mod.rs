//! Reading a request: body, query, headers, and the command it asks for.

pub(crate) mod body;
pub(crate) mod entity_tag;
pub(crate) mod execution;
pub(crate) mod idempotency;
pub(crate) mod json_text;
pub(crate) mod paging;
pub(crate) mod precondition;
pub(crate) mod query;
