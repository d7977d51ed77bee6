//! What Keyledger owes without being asked: the record that a key's time came, and the deletion of keys whose
//! organization was deleted, or whose client left the portfolio. Both have taken effect already when the housekeeper gets
//! to them: verification judges expiry by the clock, and the one event stops all of the keys. So nothing depends on its being quick, and
//! whatever was left when the process ended is found again at the next start.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::domain::key::KeyCommand;
use keyledger_engine::ledger::{Command, Error, Request};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::EventId;
use tokio::task::JoinSet;

use crate::service::Service;

/// Commands that wait in the ledger's queue at a time; few, so that callers' own go on.
const BATCH_LEN: usize = 256;
/// How long to wait after the ledger had no room, or did not work.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The log may rest when nothing was appended for so long, or up to twice that.
const REST_AFTER: Duration = Duration::from_secs(1);
/// Sleep no longer than this: the machine's clock may be set.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Works until the service stops.
pub(crate) async fn run(service: Arc<Service>) {
    let mut progress = service.index.watch();
    while !service.is_stopping() {
        progress.mark_unchanged();
        let worked = work(&service).await;
        let pause = match worked {
            Ok(0) => time_to_next_expiry(&service),
            Ok(_) => continue,
            Err(Error::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, "housekeeping waits");
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

/// Tells the log whenever nothing was appended for a while, until the service stops.
pub(crate) async fn let_the_log_rest(service: Arc<Service>) {
    let (mut seen, mut rested) = (service.ledger.head(), false);
    loop {
        tokio::select! {
            () = tokio::time::sleep(REST_AFTER) => {}
            () = service.stopped() => return,
        }
        let head = service.ledger.head();
        if head != seen {
            (seen, rested) = (head, false);
        } else if !rested {
            rested = service.ledger.checkpoint_if_idle();
        }
    }
}

fn time_to_next_expiry(service: &Service) -> Duration {
    let Some(next) = service.index.next_expiry() else { return SLEEP_MAX };
    let millis = next.millis().saturating_sub(service.now().millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(SLEEP_MAX)
}

/// Issues the commands that are due, at most [`BATCH_LEN`] of each kind; says how many led to something.
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
            // A rule's "no" means that somebody else was faster.
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
