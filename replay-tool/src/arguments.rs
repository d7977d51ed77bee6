//! The command line: which commands there are and what each accepts.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use keyledger_engine::storage::secret_source::{OnCommandLine, SecretSource};
use keyledger_projections::export::Format;

/// Checks, rebuilds, backs up and shows a Keyledger data directory while the service is stopped.
///
/// Exit codes: 0 success, 1 the data is damaged, differs or lacks what was asked for, 2 the command could not
/// run.
#[derive(Debug, Parser)]
#[command(name = "replay-tool", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Parses the command line and the environment.
    ///
    /// # Errors
    /// clap's error. Help and version are errors too, with a kind of their own.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = without_empty_variables(Self::command()).try_get_matches()?;
        let mut arguments = Self::from_arg_matches(&matches)?;
        if let Command::Backup { origin, .. } = &mut arguments.command
            && let Some((_, given)) = matches.subcommand()
            && given.value_source("url") == Some(ValueSource::EnvVariable)
            && given.value_source("data") == Some(ValueSource::CommandLine)
        {
            // A typed option wins over an environment variable of another option.
            origin.url = None;
        }
        Ok(arguments)
    }
}

/// Makes a variable that is set to nothing count as not set, as it is in files of variables.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let value = argument.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the whole log: every record, checksum, hash and stream, and every signed checkpoint. Then
    /// compare the projections that the service would answer from with a fresh replay. Read-only.
    Verify {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        checkpoints: CheckpointOptions,
        #[command(flatten)]
        keys: KeyOptions,
        /// Check the log only, and do not compare the projections.
        #[arg(long)]
        log_only: bool,
    },
    /// Write a proof that one event is in the log (C2SP tlog-proof), and a second file with the event's
    /// bytes.
    Proof {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        checkpoints: CheckpointOptions,
        /// The event's position.
        position: u64,
        /// The file to write the proof to. Default: event-POSITION.tlog-proof. The event's bytes go beside
        /// it, in a file with the extension `entry`.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Rebuild the projections from the log. Each replaces the current file when it is complete.
    ///
    /// Without --projection the verification index's snapshot is deleted too: that index is in memory, and
    /// the service replays it from the log when there is no snapshot.
    Rebuild {
        #[command(flatten)]
        options: Options,
        /// Rebuild only this projection. Default: all.
        #[arg(long, value_enum)]
        projection: Option<ProjectionName>,
    },
    /// Compare the projections with a fresh replay of the log. Read-only.
    Diff {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        keys: KeyOptions,
    },
    /// Back up the log and its signed checkpoints to one file, from a stopped service's directory or a
    /// running service.
    ///
    /// The backup is checked while it is written, and signed with the log's key. It contains names and
    /// addresses, so only the file's owner can read it.
    Backup {
        #[command(flatten)]
        origin: Origin,
        #[command(flatten)]
        keys: KeyOptions,
        /// The file to write. It must not exist, unless --force is given.
        file: PathBuf,
        /// Include the keys that sign checkpoints, access tokens and webhook messages. Only with --data.
        #[arg(long)]
        with_keys: bool,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Restore a data directory from a backup and verify it. The directory must be missing or empty.
    ///
    /// The backup must be signed, and end with a signed checkpoint. Whoever wrote it may have signed it with
    /// a key of their own: with --log-key it must be the log's.
    Restore {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        checkpoints: CheckpointOptions,
        /// Restore a backup of which nothing shows who wrote it: without a signature, as older versions make
        /// them, or with events after the last signed checkpoint.
        #[arg(long)]
        unsigned: bool,
        /// The backup file.
        file: PathBuf,
        /// Restore events up to this RFC 3339 time or log position, inclusive. Default: all.
        #[arg(long, value_name = "TIME|POSITION")]
        to: Option<String>,
    },
    /// Erase personal text for good: of one user of an organization, or of a whole organization and its
    /// users.
    ///
    /// Destroys the keys that seal the text and rebuilds the projections. API keys stay valid and proofs
    /// still verify. On a running service use POST /v1/erasures.
    Erase {
        #[command(flatten)]
        options: Options,
        /// The organization's id.
        #[arg(long, value_name = "ID")]
        organization: String,
        /// Erase only this user's text, by the organization's own user id. Default: all of the organization's
        /// text.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
    },
    /// Wrap the secret keys with another key-encryption key, or for the first time, or not any more.
    ///
    /// Rewrites vault.redb, log-key, webhook-key and signing-keys.json. A run that was interrupted is
    /// finished by the same command. Backups that were made before keep their keys wrapped as they were.
    Rekey {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        new: NewKekSource,
    },
    /// Count events by day and type, keys by state, organizations, checkpoints and bytes on disk. Read-only.
    Stats {
        #[command(flatten)]
        options: Options,
    },
    /// Show a key and its history. Read-only.
    Show {
        #[command(flatten)]
        options: Options,
        /// The key's id: `key_...`.
        key: String,
        /// Show the key as of this RFC 3339 time or log position. Default: now.
        #[arg(long, value_name = "TIME|POSITION")]
        at: Option<String>,
    },
    /// Export events for other programs, in the same bytes that GET /v1/events returns. Read-only.
    Export {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        export: ExportOptions,
    },
}

/// Which events `export` writes, and in which format.
#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// The output format. All have one line per event.
    #[arg(long, value_enum)]
    pub(crate) format: FormatName,
    /// Start at this log position, or at the first event at or after this RFC 3339 time. Default: the first
    /// event.
    #[arg(long, value_name = "TIME|POSITION")]
    pub(crate) from: Option<String>,
    /// End at this log position (inclusive), or at the last event before this RFC 3339 time. Default: the
    /// last event.
    #[arg(long, value_name = "TIME|POSITION")]
    pub(crate) to: Option<String>,
    /// Export only events of this organization.
    #[arg(long, value_name = "ID")]
    pub(crate) organization: Option<String>,
    /// The file to write. It must not exist. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Omit the CSV header line, to append the output to an earlier export.
    #[arg(long)]
    pub(crate) no_header: bool,
}

/// Options of every command but `backup`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The service's data directory.
    #[arg(long, value_name = "DIR", env = "KEYLEDGER_DATA")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) kek: KekSource,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the key-encryption key of the data directory comes from.
#[derive(Debug, Args)]
pub(crate) struct KekSource {
    /// File with the key-encryption key that wraps the data directory's secret keys, if they are wrapped.
    #[arg(long, env = "KEYLEDGER_KEK_FILE", value_name = "FILE", conflicts_with = "kek_command")]
    pub(crate) kek_file: Option<PathBuf>,
    /// Command for the shell that prints the key-encryption key.
    #[arg(long, env = "KEYLEDGER_KEK_COMMAND", value_name = "COMMAND")]
    pub(crate) kek_command: Option<String>,
}

/// Where the key-encryption key comes from that `rekey` wraps with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NewKekSource {
    /// File with the new key-encryption key: 32 random bytes in base64 or hexadecimal, as `openssl rand
    /// -base64 32` makes them.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_kek_file: Option<PathBuf>,
    /// Command for the shell that prints the new key-encryption key.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) new_kek_command: Option<String>,
    /// Do without a key-encryption key: the secret keys are stored in clear.
    #[arg(long)]
    pub(crate) no_kek: bool,
}

/// The source of a backup, and `backup`'s output format.
#[derive(Debug, Args)]
pub(crate) struct Origin {
    /// The data directory of a stopped service.
    #[arg(long, value_name = "DIR", env = "KEYLEDGER_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// The URL of a running service, such as http://127.0.0.1:7070. It wins over --data, unless the URL comes
    /// from the environment and --data from the command line.
    #[arg(long, value_name = "URL", env = "KEYLEDGER_URL")]
    pub(crate) url: Option<String>,
    /// File with a root key of the running service with the permission admin. The key itself can be in the
    /// environment variable KEYLEDGER_TOKEN.
    #[arg(long, value_name = "FILE", env = "KEYLEDGER_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Refused: process lists show command lines.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    token: Option<OnCommandLine>,
    /// Trust the certificates in this PEM file instead of the built-in authorities.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kek: KekSource,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Origin {
    /// Where the root key of the running service is.
    pub(crate) fn token(&self) -> SecretSource<'_> {
        SecretSource {
            variable: "KEYLEDGER_TOKEN",
            file: self.token_file.as_deref(),
            on_command_line: self.token,
        }
    }
}

/// What the log is compared with, besides the checkpoints in the data directory.
#[derive(Debug, Args)]
pub(crate) struct CheckpointOptions {
    /// A checkpoint file that was kept outside the data directory, or apart from the backup.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The log's verifier key, as `keyledger log-key` prints it. Default: the key in the data directory or
    /// backup. Give it when that itself is not trusted.
    #[arg(long, value_name = "KEY")]
    pub(crate) log_key: Option<String>,
}

/// Where the secret keys are.
#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    /// File with the private key that signs checkpoints. It also shows whether the service itself wrote the
    /// verification index's snapshot. Default: the file in the data directory.
    #[arg(long, value_name = "FILE", env = "KEYLEDGER_LOG_KEY_FILE")]
    pub(crate) log_key_file: Option<PathBuf>,
}

/// A stored projection, as `--projection` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProjectionName {
    KeyList,
    AuditTrail,
}

/// An export format, as `--format` names it.
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
