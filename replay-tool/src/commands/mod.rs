//! The commands, one file each, and the table that runs them.

pub(crate) mod backup;
pub(crate) mod diff;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod proof;
pub(crate) mod rebuild;
pub(crate) mod rekey;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod verify;

use std::path::Path;

use crate::arguments::{Command, Options};
use crate::output::report::{Failure, Report};

pub(crate) fn run(command: &Command) -> Result<Report, Failure> {
    match command {
        Command::Verify { options, checkpoints, keys, log_only } => {
            verify::run(options, checkpoints, keys, *log_only)
        }
        Command::Proof { options, checkpoints, position, output } => {
            proof::run(options, checkpoints, *position, output.clone())
        }
        Command::Rebuild { options, projection } => rebuild::run(options, *projection),
        Command::Diff { options, keys } => diff::run(options, keys),
        Command::Export { options, export } => export::run(options, export),
        Command::Backup { origin, keys, file, with_keys, force } => {
            backup::run(origin, keys, file, *with_keys, *force)
        }
        Command::Restore { options, checkpoints, unsigned, file, to } => {
            restore::run(options, checkpoints, *unsigned, file, to.as_deref())
        }
        Command::Erase { options, organization, user } => erase::run(options, organization, user.as_deref()),
        Command::Rekey { options, new } => rekey::run(options, new),
        Command::Stats { options } => stats::run(options),
        Command::Show { options, key, at } => show::run(options, key, at.as_deref()),
    }
}

impl Command {
    /// The command's name on the command line, which is also `command` in its JSON.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Verify { .. } => "verify",
            Self::Proof { .. } => "proof",
            Self::Rebuild { .. } => "rebuild",
            Self::Diff { .. } => "diff",
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::Erase { .. } => "erase",
            Self::Rekey { .. } => "rekey",
            Self::Stats { .. } => "stats",
            Self::Show { .. } => "show",
            Self::Export { .. } => "export",
        }
    }

    /// Whether the command prints one JSON object instead of text.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Backup { origin, .. } => origin.json,
            command => command.options().is_some_and(|options| options.json),
        }
    }

    /// The data directory or service that the command works on, for messages.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Backup { origin, .. } if origin.url.is_some() => origin.url.clone().unwrap_or_default(),
            Self::Backup { origin, .. } => {
                origin.data.as_deref().unwrap_or(Path::new(".")).display().to_string()
            }
            command => {
                command.options().map_or_else(String::new, |options| options.data.display().to_string())
            }
        }
    }

    const fn options(&self) -> Option<&Options> {
        match self {
            Self::Backup { .. } => None,
            Self::Verify { options, .. }
            | Self::Restore { options, .. }
            | Self::Proof { options, .. }
            | Self::Erase { options, .. }
            | Self::Rebuild { options, .. }
            | Self::Diff { options, .. }
            | Self::Rekey { options, .. }
            | Self::Stats { options }
            | Self::Show { options, .. }
            | Self::Export { options, .. } => Some(options),
        }
    }
}
