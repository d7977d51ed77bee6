//! Reading a request: body, query, paging, preconditions, idempotency; and executing its command.

pub(crate) mod body;
pub(crate) mod context;
pub(crate) mod entity_tag;
pub(crate) mod execution;
pub(crate) mod idempotency;
pub(crate) mod json_text;
pub(crate) mod object;
pub(crate) mod paging;
pub(crate) mod precondition;
pub(crate) mod query;
