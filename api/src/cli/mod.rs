//! The service's command line: parses it, runs the command, and prints an error as one line.
//!
//! A module for each noun has its arguments and its commands.

mod data;
mod duration;
mod environment;
mod health;
mod kek;
mod log_key;
mod logging;
mod root_key;
mod serve;
mod signing_key;

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use keyledger_engine::storage::{private_files, private_memory};

use self::data::DataPath;
use self::health::Health;
use self::root_key::RootKeyCommand;
use self::serve::Serve;
use self::signing_key::SigningKeyCommand;
use crate::auth::access;
use crate::openapi;
use crate::routes;

/// The exit code of a command that failed.
const COULD_NOT_RUN: u8 = 2;

/// The result of a command. An error is one line for the operator.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Issues, verifies and audits API keys.
#[derive(Parser)]
#[command(name = "keyledger", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service.
    Serve(Box<Serve>),
    /// Create root keys while the service is stopped, and generate tokens for them.
    #[command(subcommand)]
    RootKey(RootKeyCommand),
    /// Manage the keys that sign access tokens.
    #[command(subcommand)]
    SigningKey(SigningKeyCommand),
    /// Print the public key that verifies the event log's checkpoints.
    LogKey(DataPath),
    /// Check that a service answers: exit code 0 if it does. For health checks of containers.
    Health(Health),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the permissions that each endpoint needs (docs/permissions.md).
    Permissions,
}

impl Command {
    fn run(self) -> Outcome {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::RootKey(command) => command.run(),
            Self::SigningKey(command) => command.run(),
            Self::Health(health) => health.run(),
            Self::LogKey(path) => log_key::print(&path),
            Self::Openapi => print_text(&openapi::document_text(&routes::endpoints().1)?),
            Self::Permissions => print_text(&access::document()),
        }
    }
}

/// Runs the command line of this process and returns its exit code: 0, or 2 after an error, which is printed
/// to standard error as one line.
pub fn run() -> ExitCode {
    private_files::create_files_privately();
    private_memory::keep_memory_private();
    logging::log_panics(COULD_NOT_RUN);
    let mut command = environment::without_empty_variables(CommandLine::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let command_line = match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(command_line) => command_line,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.exit()
        }
        Err(error) => {
            let message = in_one_line(&error);
            return match environment::variable_at_fault(&error, &mut command) {
                Some(variable) => fail(&format!("{variable}: {message}")),
                None => fail(&message),
            };
        }
    };
    match command_line.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    // When standard error cannot be written to either, the exit code has to suffice.
    let _ = writeln!(std::io::stderr(), "keyledger: {error}");
    ExitCode::from(COULD_NOT_RUN)
}

/// Returns clap's error as one line, with the command that prints the help.
fn in_one_line(error: &clap::Error) -> String {
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let message =
                lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
            message.collect::<Vec<_>>().join(" ")
        }
    };
    let message = message.trim_start_matches("error: ");
    format!("{message}; see `keyledger --help` or `keyledger <command> --help`")
}

fn print_text(text: &str) -> Outcome {
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader such as `head` closes the pipe when it has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
