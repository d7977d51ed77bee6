//! What callers may take, as the operator set it.

use super::policy::{Policy, Quotas};
use super::quota::Quota;

/// The settings of admission.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The streams, files and backups that a caller may read at a time.
    pub long_answers_of_caller: u32,
    /// How often callers, organizations and addresses may ask.
    pub quotas: Quotas,
}

impl Options {
    /// The default of [`Options::long_answers_of_caller`].
    pub(crate) const LONG_ANSWERS_OF_CALLER: u32 = 128;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            long_answers_of_caller: Self::LONG_ANSWERS_OF_CALLER,
            quotas: Quotas::new(|_: Policy| Quota::NONE),
        }
    }
}
