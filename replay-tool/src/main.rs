//! `replay-tool`: checks, rebuilds and shows what a Keyledger data directory holds, while the service is stopped.
//!
//! * [`verify`]: the log itself. [`diff`]: the projections against a fresh replay. [`rebuild`]: the projections anew.
//! * [`proof`]: a file that proves one event, under the [`checkpoints`] that were signed.
//! * [`backup`], from [`remote`] if the service runs, and [`restore`]: the log in one file, and back.
//! * [`erase`]: personal text, for good.
//! * [`stats`]: what there is, at a glance. [`show`]: one key, with [`timeline`] for its events in words.
//! * [`export`]: events as files for other programs.
//! * [`stopped_log`], [`progress`], [`report`]: where the files are, how far the work has come, what came of it.
//!
//! Exit codes: 0 good, 1 what was read is wrong, 2 could not run. A command says what it found on standard output, as
//! text or as one JSON object, and what is wrong in one line on standard error.

mod arguments;
mod checkpoints;
mod commands;

mod output;
mod remote;
mod replays;
mod stopped_log;

use commands::{backup, diff, erase, export, proof, rebuild, restore, show, stats, verify};
use output::report;

use std::any::Any;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use keyledger_engine::storage::storage_panic::{self, StoragePanic};

use arguments::{Arguments, Command};
use output::report::{Failure, Report};

/// Records are many small pieces of memory; the system's allocator spends a third of the time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A damaged file can make a storage engine panic. That is answered with a line, like everything else.
    std::panic::set_hook(Box::new(|panic| {
        if StoragePanic::of(panic) == Some(StoragePanic::Final) {
            complain(&storage_panic::last_words());
            std::process::exit(report::WRONG.into());
        }
    }));
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return print(&error.to_string()).map_or_else(not_said, |()| ExitCode::SUCCESS);
        }
        Err(error) => {
            complain(&arguments::in_one_line(&error));
            return ExitCode::from(report::COULD_NOT_RUN);
        }
    };
    let json = arguments.command.json();
    let ran = catch_unwind(AssertUnwindSafe(|| run(&arguments.command)));
    let result = ran.unwrap_or_else(|panic| {
        let (place, reason) = (arguments.command.place(), panic_text(&*panic));
        Err(Failure::wrong(format!(
            "{place}: cannot be read ({reason}); run `replay-tool verify` and `diff`, and restore a backup if they agree"
        )))
    });
    match result {
        Ok(report) => {
            let printed = print(if json { &report.json } else { &report.text });
            match report.wrong {
                None => printed.map_or_else(not_said, |()| ExitCode::SUCCESS),
                Some(line) => {
                    complain(&line);
                    ExitCode::from(report::WRONG)
                }
            }
        }
        Err(failure) => {
            if json {
                // The line on standard error and the exit code say the same.
                let _ = print(&failure.to_json(arguments.command.name()));
            }
            complain(&failure.line);
            ExitCode::from(failure.exit_code)
        }
    }
}

/// What was found could not be written where it was to be read.
fn not_said(error: io::Error) -> ExitCode {
    complain(&format!("standard output: {error}; what was found is not said, so run the command again"));
    ExitCode::from(report::COULD_NOT_RUN)
}

fn run(command: &Command) -> Result<Report, Failure> {
    match command {
        Command::Verify { options, checkpoints } => verify::run(options, checkpoints),
        Command::Proof { options, checkpoints, position, output } => {
            proof::run(options, checkpoints, *position, output.clone())
        }
        Command::Rebuild { options, projection } => rebuild::run(options, *projection),
        Command::Diff { options } => diff::run(options),
        Command::Export { options, export } => export::run(options, export),
        Command::Backup { origin, file, with_keys, force } => backup::run(origin, file, *with_keys, *force),
        Command::Restore { options, file, to } => restore::run(options, file, to.as_deref()),
        Command::Erase { options, organization, user } => erase::run(options, organization, user.as_deref()),
        Command::Stats { options } => stats::run(options),
        Command::Show { options, key, at } => show::run(options, key, at.as_deref()),
    }
}

/// A reader that has seen enough, such as `head`, is no error.
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

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned()
}
