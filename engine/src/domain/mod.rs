//! The domain: the commands, events, state and rules of each aggregate. It does no IO and has no clock and no
//! randomness of its own: the time, random numbers and ids are arguments.
//!
//! [`aggregate`] and [`event`] are the tables of all aggregates and all events.

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
