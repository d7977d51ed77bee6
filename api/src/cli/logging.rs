//! The service's own log: structured lines on standard error.

use std::io::Write;

use clap::ValueEnum;
use keyledger_engine::storage::storage_panic::{self, StoragePanic};
use tracing_subscriber::EnvFilter;

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log. `RUST_LOG` selects what is logged. Default: `info` and above.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A line that cannot be written, because the disk is full or the pipe is closed, is dropped. Reporting
    // that on the same standard error would end the process.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
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
