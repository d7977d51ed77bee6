//! Parts that pages of the console are made of.

pub(crate) mod badge;
pub(crate) mod field;
pub(crate) mod field_errors;
pub(crate) mod form_page;
pub(crate) mod list_page;
pub(crate) mod marked;
pub(crate) mod moment;
pub(crate) mod outcome;
pub(crate) mod query_string;
pub(crate) mod secret_page;
pub(crate) mod table;
pub(crate) mod tags;
