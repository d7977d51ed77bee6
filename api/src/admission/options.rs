//! What callers may take, as the operator set it.

use super::caps::Caps;
use super::disk_reserve::ReserveSize;
use super::rate_limits::policy::{Policy, Quotas};
use super::rate_limits::quota::Quota;

/// The settings of admission.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The streams, files and backups that a caller may read at a time.
    pub long_answers_of_caller: u32,
    /// How often callers, organizations and addresses may ask.
    pub quotas: Quotas,
    /// How much organizations may hold and write.
    pub caps: Caps,
    /// The disk space that commands leave.
    pub disk_reserve: ReserveSize,
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
            caps: Caps::default(),
            disk_reserve: ReserveSize::default(),
        }
    }
}
