//! The options for what callers may take.

use clap::Args;

use super::rate_limits::RateLimits;
use crate::admission::Options;

#[derive(Args)]
pub(super) struct Admission {
    /// Maximum number of event streams, event files and backups that one caller reads at a time. The callers
    /// of an organization together may read twice as many, and all callers eight times as many.
    #[arg(long, env = "KEYLEDGER_MAX_STREAMS_PER_CALLER", value_name = "N",
        default_value_t = Options::LONG_ANSWERS_OF_CALLER,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_streams_per_caller: u32,
    #[command(flatten)]
    rate_limits: RateLimits,
}

impl Admission {
    pub(super) fn options(self) -> Options {
        Options { long_answers_of_caller: self.max_streams_per_caller, quotas: self.rate_limits.quotas() }
    }
}
