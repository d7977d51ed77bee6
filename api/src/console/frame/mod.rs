//! What surrounds every page of the console.

pub mod asset;
pub mod icon;
pub mod navigation;
pub mod page_frame;
pub mod theme;
pub mod toast;
