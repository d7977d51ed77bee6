//! `replay-tool`: checks, rebuilds, backs up and shows a Keyledger data directory while the service is
//! stopped.
//!
//! * [`arguments`]: the command line, parsed by clap.
//! * [`commands`]: one file per command, and the table that runs them.
//!   - [`verify`](commands::verify) checks the log, [`diff`](commands::diff) compares the projections with a
//!     fresh replay, [`rebuild`](commands::rebuild) rebuilds them.
//!   - [`proof`](commands::proof) writes a file that proves one event.
//!   - [`backup`](commands::backup) writes the log to one file, [`restore`](commands::restore) reads it back.
//!   - [`erase`](commands::erase) destroys personal text.
//!   - [`rekey`](commands::rekey) wraps the secret keys with another key-encryption key.
//!   - [`stats`](commands::stats) counts, [`show`](commands::show) prints one key's history,
//!     [`export`](commands::export) writes events for other programs.
//! * [`stopped_log`]: the log of a stopped service. [`checkpoints`]: the signed checkpoints beside it.
//!   [`log_key`]: the key that signs them. [`key_encryption`]: the key that wraps it.
//!   [`comparison`]: the projections' files, compared with a replay.

mod arguments;
mod checkpoints;
mod commands;
mod comparison;
mod key_encryption;
mod log_key;
mod output;
mod remote;
mod replays;
mod stopped_log;
mod unfinished_directory;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use keyledger_engine::storage::storage_panic::{self, StoragePanic, panic_text};
use keyledger_engine::storage::{private_files, private_memory};

use arguments::Arguments;
use output::report::{self, Failure};
use output::usage_error;

/// Decoding records allocates many small objects; with the system's allocator that takes a third of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    private_files::create_files_privately();
    private_memory::keep_memory_private();
    // A damaged file can make the storage engine panic, which must end in one line like any other error.
    std::panic::set_hook(Box::new(|panic| {
        if StoragePanic::of(panic) == Some(StoragePanic::Final) {
            complain(&storage_panic::last_words());
            std::process::exit(report::WRONG.into());
        }
    }));
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return print(&error.to_string()).map_or_else(unprinted, |()| ExitCode::SUCCESS);
        }
        Err(error) => {
            complain(&usage_error::in_one_line(&error));
            return ExitCode::from(report::COULD_NOT_RUN);
        }
    };
    let json = arguments.command.json();
    let ran = catch_unwind(AssertUnwindSafe(|| commands::run(&arguments.command)));
    let result = ran.unwrap_or_else(|panic| {
        let (place, reason) = (arguments.command.place(), panic_text(&*panic));
        Err(Failure::wrong(format!(
            "{place}: reading failed ({reason}); run `replay-tool verify` and `replay-tool diff`, and restore a backup \
             if they report damage"
        )))
    });
    match result {
        Ok(report) => {
            let printed = print(if json { &report.json } else { &report.text });
            match report.wrong {
                None => printed.map_or_else(unprinted, |()| ExitCode::SUCCESS),
                Some(line) => {
                    complain(&line);
                    ExitCode::from(report::WRONG)
                }
            }
        }
        Err(failure) => {
            if json {
                // If this cannot be written, standard error and the exit code still report the failure.
                let _ = print(&failure.to_json(arguments.command.name()));
            }
            complain(&failure.line);
            ExitCode::from(failure.exit_code)
        }
    }
}

/// Reports that the findings could not be written to standard output.
fn unprinted(error: io::Error) -> ExitCode {
    complain(&format!("standard output: cannot be written: {error}; run the command again"));
    ExitCode::from(report::COULD_NOT_RUN)
}

/// Writes to standard output. A reader that closes the pipe early, such as `head`, is not an error.
fn print(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn complain(line: &str) {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(io::stderr().lock(), "{line}");
}
