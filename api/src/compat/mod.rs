//! The calls of other key services, in their own words, so that their clients go on working. Each is a thin
//! translation onto the commands that Keyledger's own calls issue: no rule lives here. All of them are off
//! unless `--compat` names them.

mod kinde;
mod kintsugi;

use std::sync::Arc;

use axum::Router;

use crate::service::Service;

/// Another service whose calls can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compat {
    /// Kinde's API keys: docs/compat-kinde.md.
    Kinde,
    /// Kintsugi's partner and organization keys: docs/compat-kintsugi.md.
    Kintsugi,
}

/// The calls of the services named.
pub(crate) fn router(services: &[Compat]) -> Router<Arc<Service>> {
    services.iter().fold(Router::new(), |router, service| match service {
        Compat::Kinde => router.merge(kinde::router()),
        Compat::Kintsugi => router.merge(kintsugi::router()),
    })
}
