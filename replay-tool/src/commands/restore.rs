//! `restore`: creates a data directory from a backup. The directory is built beside its final path and
//! renamed when all of it has been verified.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use keyledger_engine::backup::reader::{Entry, Error};
use keyledger_engine::backup::{Header, KeptFile, Part, Reader};
use keyledger_engine::log;
use keyledger_engine::log::redb::{RedbImport, RedbOptions};
use keyledger_engine::storage::data_directory::DataDirectory;
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::note::Verifier;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::arguments::{CheckpointOptions, Options};
use crate::checkpoints;
use crate::output::progress::Progress;
use crate::output::report::{Failure, Report, grouped, hex};
use crate::stopped_log;
use crate::unfinished_directory::UnfinishedDirectory;

/// The last event to restore.
#[derive(Debug, Clone, Copy)]
enum Until {
    Head,
    Position(Position),
    Time(Timestamp),
}

impl Until {
    fn parse(to: Option<&str>) -> Result<Self, Failure> {
        let Some(to) = to else { return Ok(Self::Head) };
        if let Ok(time) = to.parse() {
            return Ok(Self::Time(time));
        }
        to.parse().map(Self::Position).map_err(|_| {
            Failure::could_not_run(format!(
                "--to {to:?}: must be an RFC 3339 time, such as 2026-11-21T09:30:00Z, or a position in the log"
            ))
        })
    }

    fn check(self, head: Position) -> Result<(), Failure> {
        match self {
            Self::Position(position) if position > head => Err(Failure::could_not_run(format!(
                "--to {position}: past the end of the backup; name a position up to {head}, or a time"
            ))),
            _ => Ok(()),
        }
    }

    fn includes(self, entry: &Entry) -> bool {
        match self {
            Self::Head => true,
            Self::Position(position) => entry.record.position <= position,
            Self::Time(time) => entry.record.time <= time,
        }
    }
}

pub(crate) fn run(
    options: &Options,
    checkpoint_options: &CheckpointOptions,
    unsigned: bool,
    file: &Path,
    to: Option<&str>,
) -> Result<Report, Failure> {
    let until = Until::parse(to)?;
    let trust = Trust { log_key: checkpoints::given_verifier(checkpoint_options)?, unsigned };
    let input = File::open(file).map_err(|error| {
        Failure::could_not_run(format!("{}: cannot be read: {error}; check the path", file.display()))
    })?;
    let directory = UnfinishedDirectory::beside(&options.data)?;
    let restored = fill(&directory, file, input, until, &trust)?;
    let root = verify(&DataDirectory::existing(directory.path())?, checkpoint_options, file, &restored)?;
    directory.finish()?;
    restored.report(&options.data, file, &root)
}

/// What shows whose a backup is.
struct Trust {
    /// The log's key, if the operator gives it. Otherwise it is the one that the backup names.
    log_key: Option<Verifier>,
    /// Nothing needs to show it.
    unsigned: bool,
}

impl Trust {
    /// Checks the header: it names the log's key, and ends with a checkpoint that this key signed. Returns
    /// the key. The reader has checked that the header's key signed its checkpoint.
    fn check_header(&self, file: &Path, header: &Header) -> Result<Option<Verifier>, Failure> {
        let shown = file.display();
        let named = header.log_key.as_deref().and_then(|key| key.parse::<Verifier>().ok());
        if let (Some(expected), true) = (&self.log_key, self.log_key != named) {
            let named = named.map_or_else(|| "no key".to_owned(), |key| format!("the key {key}"));
            return Err(Failure::wrong(format!(
                "{shown}: names {named}, not {expected}: it is a backup of another log, or forged; nothing was restored"
            )));
        }
        let signed_up_to = header.checkpoint.as_deref().and_then(Checkpoint::unverified).map(|it| it.size);
        if !self.unsigned && signed_up_to != Some(header.head.get()) {
            return Err(Failure::wrong(format!(
                "{shown}: the events after position {} are under no signed checkpoint, so nothing shows who wrote them; \
                 nothing was restored, use another backup, or add --unsigned",
                signed_up_to.unwrap_or(0)
            )));
        }
        Ok(named)
    }

    /// Checks the signature of a backup that was read to its end.
    fn check_signature(&self, file: &Path, is_signed: bool) -> Result<(), Failure> {
        if is_signed || self.unsigned {
            return Ok(());
        }
        Err(Failure::wrong(format!(
            "{}: not signed, so nothing shows who wrote it; nothing was restored, use another backup, or add --unsigned if \
             you know where it comes from",
            file.display()
        )))
    }
}

/// The content of the restored directory.
struct Restored {
    log_id: log::LogId,
    position: Position,
    /// The time of the last event.
    time: Option<Timestamp>,
    /// The backup's last position.
    head: Position,
    checkpoints: usize,
    files: Vec<KeptFile>,
    /// The key that signed the backup, if one did.
    signed_by: Option<Verifier>,
    /// Whether the operator gave that key.
    is_key_given: bool,
    pace: crate::output::progress::Pace,
}

/// Reads the whole backup and writes the part up to `until` into the directory.
fn fill(
    directory: &UnfinishedDirectory,
    file: &Path,
    input: File,
    until: Until,
    trust: &Trust,
) -> Result<Restored, Failure> {
    let unreadable = |error| unreadable(file, error);
    let unstorable = |error| unstorable(file, error);
    let mut backup = Reader::open(BufReader::new(input)).map_err(unreadable)?;
    let header = backup.header().clone();
    until.check(header.head)?;
    let log_key = trust.check_header(file, &header)?;
    let data = DataDirectory::existing(directory.path())?;
    let log = RedbImport::create(&data.log(), RedbOptions::default(), header.log_id);
    let mut log = log.map_err(unstorable)?;
    if let Some(key) = &header.log_key {
        directory.write(&data.log_verifier(), format!("{key}\n").as_bytes())?;
    }
    let mut progress = Progress::start("restore", header.head);
    // The backup has its checkpoints first, when the last restored position is not known yet.
    let mut checkpoints = Vec::new();
    let (mut position, mut time, mut reached) = (Position::START, None, Position::START);
    let mut files = Vec::new();
    while let Some(part) = backup.next_part().map_err(unreadable)? {
        match part {
            Part::Checkpoints(more) => checkpoints.extend(more.into_iter().map(|(line, it)| (it.size, line))),
            Part::Entries(mut entries) => {
                reached = entries.last().map_or(reached, |entry| entry.record.position);
                entries.retain(|entry| until.includes(entry));
                if let Some(last) = entries.last() {
                    (position, time) = (last.record.position, Some(last.record.time));
                    log.append(&entries).map_err(unstorable)?;
                }
                progress.reached(reached);
            }
            Part::Commands(mut commands) => {
                commands.retain(|(_, command)| command.last <= position);
                log.remember(&commands).map_err(unstorable)?;
            }
            Part::File(file, bytes) => {
                directory.write(&data.file(file.name()), &bytes)?;
                files.push(file);
            }
        }
    }
    let pace = progress.finish(reached);
    let signed_by = log_key.filter(|key| backup.is_signed_by(key));
    trust.check_signature(file, signed_by.is_some())?;
    if position == Position::START && header.head > position {
        return Err(Failure::could_not_run(
            "--to: the backup has no event that old; name a later time, or a position from 1 on",
        ));
    }
    log.finish().map_err(unstorable)?;
    checkpoints.retain(|(size, _)| *size <= position.get());
    let lines = checkpoints.iter().map(|(_, line)| line);
    write_lines(directory.create(&data.checkpoints())?, lines)
        .map_err(|error| directory.unwritable(&error))?;
    let (log_id, head, checkpoints) = (header.log_id, header.head, checkpoints.len());
    let is_key_given = trust.log_key.is_some();
    Ok(Restored { log_id, position, time, head, checkpoints, files, signed_by, is_key_given, pace })
}

/// The failure for a backup that cannot be read.
fn unreadable(file: &Path, error: Error) -> Failure {
    let file = file.display();
    match error {
        Error::Io(error) => {
            Failure::could_not_run(format!("{file}: cannot be read: {error}; check the disk"))
        }
        error @ Error::Damaged { .. } => {
            Failure::wrong(format!("{file}: {error}; nothing was restored, use another copy of the backup"))
        }
    }
}

/// The failure for entries that the new log does not accept.
fn unstorable(file: &Path, error: log::Error) -> Failure {
    match error {
        log::Error::Damaged { position, reason, .. } => Failure::wrong(format!(
            "{}: damaged at position {position}: {reason}; nothing was restored, use another backup",
            file.display()
        )),
        error => Failure::could_not_run(format!("{error}; nothing was restored, check the disk")),
    }
}

/// Writes one JSON object per line, durably.
fn write_lines(file: File, lines: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
    let mut output = BufWriter::new(file);
    for line in lines {
        serde_json::to_writer(&mut output, &line)?;
        output.write_all(b"\n")?;
    }
    output.into_inner()?.sync_all()
}

/// Reads the new directory back from the disk, verifies it, also against the checkpoint in `options`, and
/// returns the root hash.
fn verify(
    directory: &DataDirectory,
    options: &CheckpointOptions,
    file: &Path,
    restored: &Restored,
) -> Result<String, Failure> {
    let reader = stopped_log::open_without_vault(directory)?;
    let checkpoints = checkpoints::read(directory, options)?;
    let mut progress = Progress::start("verify", restored.position);
    let verified =
        reader.verify_with_roots(&checkpoints.sizes(), |position, _| progress.reached(position))?;
    progress.finish(verified.head);
    let own = verified.finding.as_ref().map(|it| (it.position, it.reason.clone()));
    let difference = || checkpoints.first_difference(&verified).map(|it| (it.position(), it.to_string()));
    if let (None, Some(checkpoint), Some((_, reason))) = (&own, &options.checkpoint, difference()) {
        return Err(Failure::wrong(format!(
            "{}: {reason}, as {} shows; nothing was restored, use a newer backup, or omit --checkpoint",
            file.display(),
            checkpoint.display()
        )));
    }
    match own.or_else(difference) {
        None if verified.head == restored.position => Ok(hex(&verified.root)),
        finding => {
            let (position, reason) =
                finding.unwrap_or((verified.head.next(), "the log is incomplete".into()));
            Err(Failure::could_not_run(format!(
                "read back from the disk, the log is damaged at position {position}: {reason}; nothing was restored, check \
                 the disk"
            )))
        }
    }
}

impl Restored {
    fn report(&self, data: &Path, file: &Path, root: &str) -> Result<Report, Failure> {
        let Self { position, head, .. } = self;
        let (data, log_id) = (data.display().to_string(), hex(&self.log_id.0));
        let names: Vec<&str> = self.files.iter().map(|file| file.name()).collect();
        let json = json!({
            "command": "restore", "ok": true, "file": file, "data": data, "log_id": log_id,
            "head": position.get(), "time": self.time, "backup_head": head.get(), "root_hash": root,
            "checkpoints": self.checkpoints, "keys": names, "signed_by": self.signed_by.as_ref().map(ToString::to_string),
            "seconds": self.pace.seconds(), "events_per_second": self.pace.events_per_second(),
        });
        let mut lines = vec![format!("{data}: log {log_id}, restored and verified")];
        lines.push(match self.time {
            None => "positions: none, the log is empty".into(),
            Some(time) => format!("positions: 1 to {}, the last from {time}", grouped(position.get())),
        });
        lines.push(format!("root hash: {root}"));
        lines.push(format!("checkpoints: {}", grouped(self.checkpoints as u64)));
        lines.push(match &self.signed_by {
            None => "signature: not checked; nothing shows who wrote the backup".into(),
            Some(key) if self.is_key_given => format!("signature: by the log's key {key}"),
            Some(key) => {
                format!("signature: by the key {key} that the backup itself names; --log-key says which key it must be")
            }
        });
        lines.push(format!("read in {}", self.pace));
        if position < head {
            lines.push(format!(
                "omitted: {} later events and their checkpoints; witnesses and auditors that saw those will notice that the \
                 log was truncated",
                grouped(head.get() - position.get())
            ));
        }
        let needed =
            [(KeptFile::LogKey, "signs checkpoints"), (KeptFile::WebhookKey, "derives webhook secrets")];
        for (file, purpose) in needed.into_iter().filter(|(file, _)| !self.files.contains(file)) {
            lines.push(format!(
                "the key that {purpose} is not in the backup: copy it to {data}/{} before the service starts",
                file.name()
            ));
        }
        Report::new(lines.join("\n"), &json, None)
    }
}
