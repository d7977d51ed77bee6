//! Reading a request: body, query, headers, and the command it asks for.

pub mod body;
pub mod entity_tag;
pub mod execution;
pub mod idempotency;
pub mod json_text;
pub mod paging;
pub mod precondition;
pub mod query;
