//! Webhooks: deliveries, failures, expiry notices.

pub(crate) mod expiry_notices;
pub(crate) mod failures;
pub(crate) mod receivers;
