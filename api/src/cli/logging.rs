//! The service's own log: structured lines on standard error.

use std::io::Write;

use clap::ValueEnum;
use keyledger_engine::storage::storage_panic::{self, StoragePanic};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log. `RUST_LOG` selects what is logged: a level, or `target=level` with commas between.
/// Default: `info` and above, also for an empty value, and for a malformed one, which is logged.
pub(super) fn start(format: LogFormat) {
    let selected = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let selected = selected.map(|text| text.parse::<Targets>());
    let (filter, malformed) = match selected {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default_filter(), Some(error)),
        None => (default_filter(), None),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A line that cannot be written, because the disk is full or the pipe is closed, is dropped. Reporting
    // that on the same standard error would end the process.
    let lines = lines.log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).init();
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    if let Some(error) = malformed {
        tracing::warn!(%error, "RUST_LOG is malformed; logging info and above. Write a level, or target=level");
    }
}

fn default_filter() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

/// Logs panics as ordinary lines. A panic of the storage engine on a damaged file is caught by the reader of
/// the file, which returns an error, so here it is a debug line only. When such a panic ends the process, a
/// line on standard error says what to do, and the exit code is `exit_code`.
pub(super) fn log_panics(exit_code: u8) {
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("no reason given");
        match StoragePanic::of(panic) {
            Some(StoragePanic::Caught) => tracing::debug!(%location, %reason, "storage engine panicked"),
            Some(StoragePanic::Final) => {
                let _ = writeln!(std::io::stderr(), "keyledger: {}", storage_panic::last_words());
                std::process::exit(exit_code.into());
            }
            None => tracing::error!(%location, %reason, "unexpected panic; please report this defect"),
        }
    }));
}
