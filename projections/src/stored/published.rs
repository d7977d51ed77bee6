//! The state that readers of a projection see.

use std::sync::{Arc, PoisonError, RwLock};

/// Points readers to the state of one projection instance. A reader that still holds the previous state after
/// a switch keeps it until it is done.
pub(crate) struct Front<T>(Arc<RwLock<Arc<RwLock<T>>>>);

impl<T> Front<T> {
    pub(crate) fn new(shown: Arc<RwLock<T>>) -> Self {
        Self(Arc::new(RwLock::new(shown)))
    }

    /// Returns the state that new queries read.
    pub(crate) fn shown(&self) -> Arc<RwLock<T>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Switches new queries to `state`.
    pub(crate) fn show(&self, shown: &Arc<RwLock<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(shown);
    }
}

impl<T> Clone for Front<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
