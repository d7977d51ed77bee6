//! The state that all pages share.

use std::sync::Arc;

use axum::Router;

use super::sign_in::pending::Pending;
use crate::service::Service;

pub(crate) struct Console {
    pub service: Arc<Service>,
    /// The API's routes, which pages call in process.
    pub api: Router,
    /// Sign-ins that wait for the OpenID provider.
    pub pending: Pending,
}
