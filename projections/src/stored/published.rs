//! The state that readers of a projection see.

use std::sync::{Arc, PoisonError, RwLock};

/// Points readers to the state of one projection instance. A reader that still holds the previous state after
/// a switch keeps it until it is done.
pub(crate) struct Published<T>(Arc<RwLock<Arc<RwLock<T>>>>);

impl<T> Published<T> {
    pub(crate) fn new(state: Arc<RwLock<T>>) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    /// Returns the state that new queries read.
    pub(crate) fn current(&self) -> Arc<RwLock<T>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Switches new queries to `state`.
    pub(crate) fn switch_to(&self, state: &Arc<RwLock<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(state);
    }
}

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
