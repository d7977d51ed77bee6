//! Saves when callers were last used, twice a minute. The stop of the service saves once more.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

/// What a crash may lose.
const INTERVAL: Duration = Duration::from_secs(30);

/// Runs until the service stops.
pub(crate) async fn save_periodically(service: Arc<Service>) {
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = service.stopped() => return,
        }
        let saving = Arc::clone(&service);
        let Ok(saved) = service.blocking_when_free(move || saving.last_uses.save()).await else { continue };
        match saved {
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(%error, "could not save when callers were last used; retrying");
            }
            saved => is_failing = saved.is_err(),
        }
    }
}
