//! Tests of the console, with and without a browser.

pub(crate) mod audit;
pub(crate) mod forms;
pub(crate) mod in_browser;
pub(crate) mod operators;
pub(crate) mod overview;
