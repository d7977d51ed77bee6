//! Parts that pages of the console are made of.

pub mod badge;
pub mod field;
pub mod field_errors;
pub mod form_page;
pub mod list_page;
pub mod marked;
pub mod moment;
pub mod outcome;
pub mod query_string;
pub mod secret_page;
pub mod table;
pub mod tags;
