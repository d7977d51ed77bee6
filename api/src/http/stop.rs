//! The signal that stops connections.

use tokio::sync::watch;

/// Notifies connections that the service is stopping.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns the sender that stops every connection when it sends `true` or is dropped, and a receiver to
    /// clone.
    pub(crate) fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Resolves when the service stops.
    pub(crate) async fn requested(&mut self) {
        // An error means that the sender is gone, which stops connections too.
        let _ = self.0.wait_for(|is_stopping| *is_stopping).await;
    }
}
