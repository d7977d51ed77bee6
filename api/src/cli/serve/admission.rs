//! The options for what callers may take.

use clap::Args;

use super::rate_limits::RateLimits;
use crate::admission::Options;
use crate::admission::caps::{Cap, Caps};
use crate::admission::disk_reserve::ReserveSize;

#[derive(Args)]
pub(super) struct Admission {
    /// Maximum number of event streams, event files and backups that one caller reads at a time. The callers
    /// of an organization together may read twice as many, and all callers eight times as many.
    #[arg(long, env = "KEYLEDGER_MAX_STREAMS_PER_CALLER", value_name = "N",
        default_value_t = Options::LONG_ANSWERS_OF_CALLER,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_streams_per_caller: u32,
    /// What an organization of a kind may have at most, and bytes of events that it may write on a day: the
    /// kind (test, paid, partner or free), a colon, keys, applications, root-keys, webhooks, sessions or
    /// bytes-per-day, and a number or unlimited, such as paid:keys=1000 or test:bytes-per-day=100MiB. Repeat
    /// for several, or separate them with commas.
    #[arg(
        long = "organization-caps",
        env = "KEYLEDGER_ORGANIZATION_CAPS",
        value_name = "CAP",
        value_delimiter = ','
    )]
    organization_caps: Vec<Cap>,
    /// Disk space that only revocations, deletions and erasures may use: bytes, also with KiB, MiB or GiB, or
    /// a percentage of the file system. The default is 2 %, at most 256 MiB.
    #[arg(long, env = "KEYLEDGER_DISK_RESERVE", value_name = "SIZE")]
    disk_reserve: Option<ReserveSize>,
    #[command(flatten)]
    rate_limits: RateLimits,
}

impl Admission {
    pub(super) fn options(self) -> Options {
        Options {
            long_answers_of_caller: self.max_streams_per_caller,
            quotas: self.rate_limits.quotas(),
            caps: Caps::with(&self.organization_caps),
            disk_reserve: self.disk_reserve.unwrap_or_default(),
        }
    }
}
