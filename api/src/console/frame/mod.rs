//! What surrounds every page of the console.

pub(crate) mod asset;
pub(crate) mod icon;
pub(crate) mod navigation;
pub(crate) mod page_frame;
pub(crate) mod theme;
pub(crate) mod toast;
