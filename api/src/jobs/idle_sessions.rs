//! Ends portal sessions that were unused for too long. Such a session is refused before its end is recorded;
//! the event also ends what the session minted, and tells auditors.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::domain::portal_session::{EndReason, PortalSessionCommand, PortalSessionStatus};
use keyledger_engine::ledger::{Command, Error, Request};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::time::Timestamp;

use crate::service::Service;

/// The longest time between two looks, after which the clock may have been set.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The shortest.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// How long to wait after a command failed.
const RETRY_MILLIS: i64 = 1_000;

/// Runs until the service stops.
pub(crate) async fn run(service: Arc<Service>) {
    // A session that begins meanwhile is not due before that.
    let pause_max = service.session_use.idle_max().clamp(PAUSE_MIN, PAUSE_MAX);
    loop {
        let next = end_idle(&service).await;
        let until_next = next.map_or(pause_max, |next| {
            let millis = next.millis().saturating_sub(service.now().millis());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        tokio::select! {
            () = tokio::time::sleep(until_next.clamp(PAUSE_MIN, pause_max)) => {}
            () = service.stopped() => return,
        }
    }
}

/// Ends the sessions that are due. Returns when the next one is due unless it is used.
async fn end_idle(service: &Service) -> Option<Timestamp> {
    let now = service.now();
    let mut sessions = service.index.portal_sessions(None, usize::MAX);
    sessions.retain(|session| session.status(now) == PortalSessionStatus::Active);
    service.session_use.retain(&sessions.iter().map(|session| session.id).collect());
    let mut next = None;
    for session in sessions {
        let idle_at = service.session_use.idle_at(&session);
        if idle_at > now {
            next = Some(next.map_or(idle_at, |next: Timestamp| next.min(idle_at)));
            continue;
        }
        let command = PortalSessionCommand::End { reason: EndReason::Idle };
        let request = Request::new(Command::PortalSession(session.id, command), Actor::system());
        match service.ledger.execute(request).await {
            // A rejection means that it has ended meanwhile.
            Ok(_) | Err(Error::Rejected(_)) => {}
            Err(Error::Stopped) => return None,
            Err(error) => {
                tracing::warn!(%error, "could not end an unused portal session; retrying");
                return Some(now.saturating_add_millis(RETRY_MILLIS));
            }
        }
    }
    next
}
