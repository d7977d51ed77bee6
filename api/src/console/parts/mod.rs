//! Building blocks of the console's pages. Nothing here knows who is signed in.

pub(crate) mod badge;
pub(crate) mod field;
pub(crate) mod field_errors;
pub(crate) mod form;
pub(crate) mod icon;
pub(crate) mod key;
pub(crate) mod marked;
pub(crate) mod moment;
pub(crate) mod number;
pub(crate) mod outcome;
pub(crate) mod query_string;
pub(crate) mod short_name;
pub(crate) mod table;
pub(crate) mod tags;
