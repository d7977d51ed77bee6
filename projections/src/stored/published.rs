//! What the readers of a projection look at.

use std::sync::{Arc, PoisonError, RwLock};

/// Holds what one instance of a projection shows, until another takes its place. Whoever looks at the one before meanwhile
/// goes on doing so.
pub(crate) struct Front<T>(Arc<RwLock<Arc<RwLock<T>>>>);

impl<T> Front<T> {
    pub(crate) fn new(shown: Arc<RwLock<T>>) -> Self {
        Self(Arc::new(RwLock::new(shown)))
    }

    /// What readers are to look at now.
    pub(crate) fn shown(&self) -> Arc<RwLock<T>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets readers look at something else from now on.
    pub(crate) fn show(&self, shown: &Arc<RwLock<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(shown);
    }
}

impl<T> Clone for Front<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
