//! The frame around every page, and the kinds of page that several folders share.

pub(crate) mod asset;
pub(crate) mod form_page;
pub(crate) mod list_page;
pub(crate) mod navigation;
pub(crate) mod page_frame;
pub(crate) mod secret_page;
