//! The domain: what can happen to each aggregate, and the rules that decide it. Pure: the clock, randomness and ids come in as values.

pub mod aggregate;
pub mod application;
pub(crate) mod decision;
pub mod erasure;
pub mod event;
pub mod key;
pub mod organization;
pub mod policy;
pub mod portal_session;
pub mod portfolio;
pub mod record;
pub mod rejection;
pub mod resource_api;
pub mod root_key;
pub mod stream;
pub mod webhook;
