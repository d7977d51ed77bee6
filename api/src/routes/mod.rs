//! The calls, a file for each kind of object.

pub mod apis;
pub mod applications;
pub mod backup;
pub mod clients;
pub mod events;
pub mod forward_auth;
pub mod key_creation;
pub mod key_list;
pub mod keys;
pub mod oauth;
pub mod organizations;
pub mod overview;
pub mod policies;
pub mod portal;
pub mod portal_sessions;
pub mod projections;
pub mod reference;
pub mod root_keys;
pub mod self_revocation;
pub mod status;
pub mod transparency;
pub mod usage;
pub mod verification;
pub mod verify;
pub mod webhook_deliveries;
pub mod webhooks;
