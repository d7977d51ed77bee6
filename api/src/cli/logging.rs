//! The service's own log: structured lines on standard error.

use std::io::Write;

use clap::ValueEnum;
use keyledger_engine::storage::storage_panic::{self, StoragePanic};
use tracing_subscriber::EnvFilter;

/// How the log's lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line, for machines.
    Json,
}

/// Starts the log. `RUST_LOG` chooses what is logged; by default everything from `info` on.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A line that cannot be written, as its disk is full or its reader has gone, is lost. Saying so on the same standard
    // error would end the process.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Logs panics as lines like all others. What the storage engine panics with on a damaged file is caught by whoever reads
/// the file and told as an error, so it is not told here as well; where it ends the process, that is said, and the exit code is
/// `exit_code`.
pub(super) fn log_panics(exit_code: u8) {
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("no reason given");
        match StoragePanic::of(panic) {
            Some(StoragePanic::Caught) => tracing::debug!(%location, %reason, "the storage engine gave up"),
            Some(StoragePanic::Final) => {
                let _ = writeln!(std::io::stderr(), "keyledger: {}", storage_panic::last_words());
                std::process::exit(exit_code.into());
            }
            None => tracing::error!(%location, %reason, "a defect: please report it"),
        }
    }));
}
