//! The endpoints, a folder for each kind of object.

pub(crate) mod apis;
pub(crate) mod callers;
pub(crate) mod events;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod oauth;
pub(crate) mod organizations;
pub(crate) mod portal;
pub(crate) mod service;
pub(crate) mod webhooks;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::service::Service;

/// Returns all endpoints and the document that describes them.
pub(crate) fn endpoints() -> (Router<Arc<Service>>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(crate::openapi::document::overview())
        .merge(keys::create::router())
        .merge(keys::key::router())
        .merge(keys::list::router())
        .merge(service::projections::router())
        .merge(events::erasures::router())
        .merge(keys::self_revocation::router())
        .merge(keys::verify::router())
        .merge(keys::forward_auth::router())
        .merge(keys::usage::router())
        .merge(service::overview::router())
        .merge(events::list::router())
        .merge(webhooks::webhook::router())
        .merge(webhooks::deliveries::router())
        .merge(organizations::organization::router())
        .merge(organizations::clients::router())
        .merge(organizations::policies::router())
        .merge(apis::router())
        .merge(callers::root_keys::router())
        .merge(callers::applications::router())
        .merge(callers::console_sessions::router())
        .merge(oauth::router())
        .merge(portal::sessions::router())
        .merge(portal::router())
        .merge(log::transparency::router())
        .merge(log::verifications::router())
        .merge(log::backup::router())
        .merge(service::status::router())
        .split_for_parts();
    crate::openapi::document::complete(&mut document);
    (router, document)
}
