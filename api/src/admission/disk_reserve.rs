//! The disk reserve: space that commands do not use, so that a full disk never takes verification,
//! revocations and the deletion of personal text with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::statvfs;

use super::caps::bytes;
use crate::service::Service;

/// How often the free space is read. Commands write some megabytes in this time.
const INTERVAL: Duration = Duration::from_millis(500);
const DEFAULT_MAX: u64 = 256 * 1024 * 1024;
const DEFAULT_PERCENT: u64 = 2;

/// How much space is kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ReserveSize {
    /// 2 % of the file system, at most 256 MiB.
    #[default]
    Default,
    /// So many bytes; zero for none.
    Bytes(u64),
    /// So many percent of the file system.
    Percent(u64),
}

/// Why a text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number of bytes, also with KiB, MiB or GiB, or a percentage up to 90%, such as 1GiB or 5%"
)]
pub(crate) struct InvalidReserve;

impl FromStr for ReserveSize {
    type Err = InvalidReserve;

    fn from_str(text: &str) -> Result<Self, InvalidReserve> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 90);
                percent.map(Self::Percent).ok_or(InvalidReserve)
            }
            None => bytes(text).filter(|_| !text.is_empty()).map(Self::Bytes).ok_or(InvalidReserve),
        }
    }
}

impl ReserveSize {
    /// The reserve in a file system of this size, in bytes.
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Default => (total / 100 * DEFAULT_PERCENT).min(DEFAULT_MAX),
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * percent,
        }
    }
}

/// The space that is free, as read last.
pub(crate) struct DiskReserve {
    directory: PathBuf,
    size: ReserveSize,
    free: AtomicU64,
    reserve: AtomicU64,
}

impl DiskReserve {
    /// Reads the free space of a directory's file system.
    #[must_use]
    pub(crate) fn of(directory: &Path, size: ReserveSize) -> Self {
        let (free, reserve) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let disk = Self { directory: directory.to_owned(), size, free, reserve };
        disk.read();
        disk
    }

    /// Whether less than the reserve is free.
    #[must_use]
    pub(crate) fn is_low(&self) -> bool {
        self.free() < self.reserve()
    }

    /// The free space, in bytes.
    #[must_use]
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// The reserve, in bytes.
    #[must_use]
    pub(crate) fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// What is wrong and what to do, if less than the reserve is free.
    #[must_use]
    pub(crate) fn problem(&self) -> Option<String> {
        self.is_low().then(|| self.to_string())
    }

    /// Reads the free space again. Blocks for as long as the file system does. An unreadable file system
    /// keeps the last figure.
    fn read(&self) {
        if let Ok(disk) = statvfs(&self.directory) {
            self.reserve.store(self.size.of(disk.f_blocks.saturating_mul(disk.f_frsize)), Ordering::Relaxed);
            self.free.store(disk.f_bavail.saturating_mul(disk.f_frsize), Ordering::Relaxed);
        }
    }
}

impl fmt::Display for DiskReserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / 1024 / 1024;
        write!(
            f,
            "{} MiB of disk space are free, less than the reserve of {} MiB: only revocations, deletions and \
             erasures are accepted; make space, or set --disk-reserve",
            mib(self.free()),
            mib(self.reserve())
        )
    }
}

/// Reads the free space until the service stops, and logs when it falls below the reserve and rises again.
pub(crate) async fn watch(service: Arc<Service>) {
    let mut was_low = false;
    loop {
        let reading = Arc::clone(&service);
        if tokio::task::spawn_blocking(move || reading.disk_reserve.read()).await.is_err() {
            return;
        }
        let is_low = service.disk_reserve.is_low();
        if is_low && !was_low {
            let directory = service.disk_reserve.directory.display();
            tracing::error!(%directory, "{}", service.disk_reserve);
        } else if was_low && !is_low {
            tracing::info!("there is disk space again; all commands are accepted");
        }
        was_low = is_low;
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = service.stopped() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_bytes_or_a_part_of_the_disk() {
        const GIB: u64 = 1024 * 1024 * 1024;
        for (text, of_10_gib) in [("0", 0), ("1MiB", 1024 * 1024), ("5%", 10 * GIB / 100 * 5)] {
            assert_eq!(text.parse::<ReserveSize>().unwrap().of(10 * GIB), of_10_gib, "{text}");
        }
        assert_eq!(ReserveSize::default().of(GIB), GIB / 100 * 2);
        assert_eq!(ReserveSize::default().of(1_000 * GIB), DEFAULT_MAX);
        for bad in ["", "%", "100%", "-1", "1TB", "MiB"] {
            assert!(bad.parse::<ReserveSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_low_when_less_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let of = |size| DiskReserve::of(directory.path(), size);
        assert!(of(ReserveSize::Bytes(0)).problem().is_none());
        let low = of(ReserveSize::Bytes(u64::MAX));
        assert!(low.problem().unwrap().contains("--disk-reserve"));
    }
}
