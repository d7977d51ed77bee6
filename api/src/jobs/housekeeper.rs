//! The housekeeper: records the expiry of keys, and deletes keys whose organization was deleted or whose
//! client left the portfolio. Both take effect before the housekeeper acts: verification compares expiry with
//! the clock, and the event that deletes an organization or unlinks a client disables all its keys. So the
//! housekeeper may be slow, and finds unfinished work again at the next start.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::domain::key::KeyCommand;
use keyledger_engine::ledger::{Command, Error, Request};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::EventId;
use tokio::task::JoinSet;

use crate::service::Service;

/// Commands in the ledger's queue at a time. Few, so that they do not delay requests.
const BATCH_LEN: usize = 256;
/// How long to wait after the ledger's queue was full, or a command failed.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long to wait while there is too little disk space.
const LOW_DISK_PAUSE: Duration = Duration::from_secs(1);
/// The log is idle when nothing was appended for this long. It is noticed within twice this time.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// The longest sleep, as the machine's clock may be changed.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Runs until the service stops.
pub(crate) async fn run(service: Arc<Service>) {
    let mut progress = service.index.watch();
    // Nothing is appended to a log that is not served.
    while !service.is_stopping() && !service.inconsistency.is_refused() {
        progress.mark_unchanged();
        // Both kinds of events can wait: what they record holds already.
        if service.disk_reserve.is_low() {
            tokio::select! {
                () = tokio::time::sleep(LOW_DISK_PAUSE) => continue,
                () = service.stopped() => return,
            }
        }
        let worked = work(&service).await;
        let pause = match worked {
            Ok(0) => time_to_next_expiry(&service),
            Ok(_) => continue,
            Err(Error::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, "housekeeping failed; retrying");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = progress.changed() => if changed.is_err() { return },
            () = service.stopped() => return,
        }
    }
}

/// Checkpoints the log whenever it becomes idle, until the service stops.
pub(crate) async fn checkpoint_when_idle(service: Arc<Service>) {
    let (mut seen, mut is_checkpointed) = (service.ledger.head(), false);
    loop {
        tokio::select! {
            () = tokio::time::sleep(IDLE_AFTER) => {}
            () = service.stopped() => return,
        }
        let head = service.ledger.head();
        if head != seen {
            (seen, is_checkpointed) = (head, false);
        } else if !is_checkpointed {
            is_checkpointed = service.ledger.checkpoint_if_idle();
        }
    }
}

fn time_to_next_expiry(service: &Service) -> Duration {
    let Some(next) = service.index.next_expiry() else { return SLEEP_MAX };
    let millis = next.millis().saturating_sub(service.now().millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(SLEEP_MAX)
}

/// Issues the due commands, at most [`BATCH_LEN`] of each kind. Returns how many were executed or rejected.
async fn work(service: &Arc<Service>) -> Result<usize, Error> {
    let expired = service.index.due_expiries(service.now(), BATCH_LEN);
    let doomed = service.index.orphaned_keys(BATCH_LEN);
    let expiries = expired.into_iter().map(|id| (Command::Key(id, KeyCommand::RecordExpiry), None));
    let deletions = doomed.into_iter().map(|(id, cause)| (Command::Key(id, KeyCommand::Delete), Some(cause)));
    let mut running = JoinSet::new();
    for (command, causation) in expiries.chain(deletions) {
        running.spawn(issue(Arc::clone(service), command, causation));
    }
    let mut done = 0;
    while let Some(issued) = running.join_next().await {
        match issued {
            // A rejection means that another command has done the same meanwhile.
            Ok(Ok(()) | Err(Error::Rejected(_))) => done += 1,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::Stopped),
        }
    }
    Ok(done)
}

async fn issue(service: Arc<Service>, command: Command, causation: Option<EventId>) -> Result<(), Error> {
    let request = Request { causation, ..Request::new(command, Actor::system()) };
    service.ledger.execute(request).await.map(|_| ())
}
