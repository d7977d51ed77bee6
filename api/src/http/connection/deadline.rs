//! A time limit inside a `poll` function, set only when there is something to wait for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// A timer that is reused. Setting it costs more than most reads and writes, so it is set by the first poll
/// that has to wait.
#[derive(Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    is_set: bool,
}

impl Deadline {
    /// Whether `limit` has passed since the first poll after the deadline was [cleared](Self::clear).
    pub(crate) fn poll_passed(&mut self, context: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.is_set {
            timer.as_mut().reset(Instant::now() + limit);
            self.is_set = true;
        }
        timer.as_mut().poll(context)
    }

    /// Ends the wait: the next poll sets the timer again.
    pub(crate) const fn clear(&mut self) {
        self.is_set = false;
    }
}
