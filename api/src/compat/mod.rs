//! Endpoints in the form of other key services, so that their clients keep working. Each one is a thin
//! translation to the commands of Keyledger's own endpoints, without rules of its own. All of them are off
//! unless `--compat` names their service.

mod kinde;
mod kintsugi;

use std::sync::Arc;

use axum::Router;

use crate::service::Service;

/// Another service whose endpoints are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compat {
    /// Kinde's API keys: docs/compat-kinde.md.
    Kinde,
    /// Kintsugi's partner and organization keys: docs/compat-kintsugi.md.
    Kintsugi,
}

/// Returns the endpoints of the named services.
pub(crate) fn router(services: &[Compat]) -> Router<Arc<Service>> {
    services.iter().fold(Router::new(), |router, service| match service {
        Compat::Kinde => router.merge(kinde::router()),
        Compat::Kintsugi => router.merge(kintsugi::router()),
    })
}
