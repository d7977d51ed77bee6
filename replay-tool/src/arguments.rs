//! The command line.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use keyledger_projections::export::Format;
use zeroize::Zeroizing;

/// Checks, rebuilds and shows what a Keyledger data directory holds, while the service is stopped.
///
/// Exit codes: 0 good, 1 what was read is wrong, 2 could not run.
#[derive(Debug, Parser)]
#[command(name = "replay-tool", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// What clap says; also when help was asked for.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut arguments = Self::from_arg_matches(&matches)?;
        if let Command::Backup { origin, .. } = &mut arguments.command
            && let Some((_, given)) = matches.subcommand()
            && given.value_source("url") == Some(ValueSource::EnvVariable)
            && given.value_source("data") == Some(ValueSource::CommandLine)
        {
            // What was typed goes before what happens to stand in the environment.
            origin.url = None;
        }
        Ok(arguments)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read the whole log again: every record, checksum, hash and stream, and every checkpoint that was signed. Changes
    /// nothing.
    Verify {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        checkpoints: CheckpointOptions,
    },
    /// Write a file that proves that one event is in the log (C2SP tlog-proof), and one with the event's bytes.
    Proof {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        checkpoints: CheckpointOptions,
        /// The event's position.
        position: u64,
        /// Where to write the proof; event-POSITION.tlog-proof if left out. The event's bytes go beside it.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make the projections anew from the log; each takes the place of the present one when it is complete.
    ///
    /// Without --projection the verification index's snapshot goes too: that index lives in memory, and the service
    /// replays it from the log when there is no snapshot.
    Rebuild {
        #[command(flatten)]
        options: Options,
        /// Only this one.
        #[arg(long, value_enum)]
        projection: Option<ProjectionName>,
    },
    /// Compare the projections with a fresh replay of the log. Changes nothing.
    Diff {
        #[command(flatten)]
        options: Options,
    },
    /// Write the log into one file, with the checkpoints that were signed for it: of a stopped service's directory, or from
    /// a running service.
    ///
    /// The file is checked as it is written. It holds names and addresses: only its owner may read it.
    Backup {
        #[command(flatten)]
        origin: Origin,
        /// The file to write; it must not be there.
        file: PathBuf,
        /// Also the keys that sign checkpoints, access tokens and webhooks' messages, of a stopped service's directory.
        #[arg(long)]
        with_keys: bool,
        /// Write over the file if it is there.
        #[arg(long)]
        force: bool,
    },
    /// Make a data directory from a backup, and verify it. It must be missing or empty.
    Restore {
        #[command(flatten)]
        options: Options,
        /// The backup.
        file: PathBuf,
        /// Only what had happened by then: an RFC 3339 time, or a position in the log.
        #[arg(long, value_name = "TIME|POSITION")]
        to: Option<String>,
    },
    /// Erase personal text for good: of a user of an organization, or of a whole organization with its users.
    ///
    /// The keys that it is sealed with are destroyed, and the projections made anew. Keys go on being valid, proofs go on
    /// holding. A running service does the same with POST /v1/erasures.
    Erase {
        #[command(flatten)]
        options: Options,
        /// The organization's id.
        #[arg(long, value_name = "ID")]
        organization: String,
        /// One user of it, as the organization names them; all of the organization's text goes if left out.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
    },
    /// Count what the log holds: events by day and type, keys by state, organizations, checkpoints, bytes. Changes nothing.
    Stats {
        #[command(flatten)]
        options: Options,
    },
    /// Show a key and what happened to it. Changes nothing.
    Show {
        #[command(flatten)]
        options: Options,
        /// The key's id: `key_...`.
        key: String,
        /// The key as it was then: an RFC 3339 time, or a position in the log.
        #[arg(long, value_name = "TIME|POSITION")]
        at: Option<String>,
    },
    /// Write events to a file that other programs read: the bytes that GET /v1/events answers. Changes nothing.
    Export {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        export: ExportOptions,
    },
}

/// Which events, and how they are written.
#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// How: a line for each event.
    #[arg(long, value_enum)]
    pub(crate) format: FormatName,
    /// The first event: a position, or that at or after an RFC 3339 time.
    #[arg(long, value_name = "TIME|POSITION")]
    pub(crate) from: Option<String>,
    /// The last event: a position, or that before an RFC 3339 time.
    #[arg(long, value_name = "TIME|POSITION")]
    pub(crate) to: Option<String>,
    /// Only what concerns this organization.
    #[arg(long, value_name = "ID")]
    pub(crate) organization: Option<String>,
    /// A new file to write to; the standard output if left out.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Without the line of CSV that names the columns, for what is to be joined to another file.
    #[arg(long)]
    pub(crate) no_header: bool,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The service's data directory.
    #[arg(long, value_name = "DIR", env = "KEYLEDGER_DATA")]
    pub(crate) data: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a backup comes from.
#[derive(Debug, Args)]
pub(crate) struct Origin {
    /// The data directory of a service that is stopped.
    #[arg(long, value_name = "DIR", env = "KEYLEDGER_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where a running service answers, such as http://127.0.0.1:7070; --data does not count then, unless it is given and
    /// this comes from the environment.
    #[arg(long, value_name = "URL", env = "KEYLEDGER_URL")]
    pub(crate) url: Option<String>,
    /// A root key of the running service with the permission admin; rather put it into the environment.
    #[arg(long, value_name = "TOKEN", env = "KEYLEDGER_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// Trust these certificates, in PEM, instead of the usual authorities.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the log is compared with beside the checkpoints in the data directory.
#[derive(Debug, Args)]
pub(crate) struct CheckpointOptions {
    /// A checkpoint that was kept elsewhere.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The key that checks signatures, as `keyledger log-key` prints it; the data directory's own if left out. Whoever does
    /// not trust the directory gives the key they know.
    #[arg(long, value_name = "KEY")]
    pub(crate) log_key: Option<String>,
}

/// A token on the command line. Whoever prints what was asked for does not print it.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// The token, for the request that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.trim().to_owned())))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A stored projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProjectionName {
    KeyList,
    AuditTrail,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    Ndjson,
    Csv,
    Cloudevents,
    Ocsf,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Ndjson => Self::NdJson,
            FormatName::Csv => Self::Csv,
            FormatName::Cloudevents => Self::CloudEvents,
            FormatName::Ocsf => Self::Ocsf,
        }
    }
}

impl Command {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Verify { .. } => "verify",
            Self::Proof { .. } => "proof",
            Self::Rebuild { .. } => "rebuild",
            Self::Diff { .. } => "diff",
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::Erase { .. } => "erase",
            Self::Stats { .. } => "stats",
            Self::Show { .. } => "show",
            Self::Export { .. } => "export",
        }
    }

    /// Whether the answer is one JSON object.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Backup { origin, .. } => origin.json,
            command => command.options().is_some_and(|options| options.json),
        }
    }

    /// What the command is about, for messages.
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
            | Self::Diff { options }
            | Self::Stats { options }
            | Self::Show { options, .. }
            | Self::Export { options, .. } => Some(options),
        }
    }
}

/// What is wrong with a command line, and where to read what is right.
pub(crate) fn in_one_line(error: &clap::Error) -> String {
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim);
            let said = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
            said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
        }
    };
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    format!("{text}; `replay-tool --help` tells the commands, `replay-tool <command> --help` what each takes")
}
