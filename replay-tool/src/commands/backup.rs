//! `backup`: writes the log to one file (docs/backup.md), from a stopped service's directory or from a
//! running service.
//!
//! Both ways the bytes are parsed as a backup while they are written, so a file gets its name only when it is
//! complete.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use keyledger_engine::backup::reader::Error;
use keyledger_engine::backup::{Header, KeptFile, Part, Reader, Source, signature, source};
use keyledger_engine::kek::Kek;
use keyledger_engine::log::LogReader;
use keyledger_engine::storage::atomic_file;
use keyledger_engine::storage::secret_source::Secret;
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::{Clock, SystemClock};
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::{KeyOptions, Origin};
use crate::key_encryption;
use crate::log_key;
use crate::output::progress::Progress;
use crate::output::report::{Failure, Report, grouped, hex};
use crate::remote;
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

pub(crate) fn run(
    origin: &Origin,
    keys: &KeyOptions,
    file: &Path,
    with_keys: bool,
    force: bool,
) -> Result<Report, Failure> {
    let shown = file.display();
    if !force && file.symlink_metadata().is_ok() {
        return Err(Failure::could_not_run(format!(
            "{shown}: already exists; name another file, or add --force"
        )));
    }
    let directory = atomic_file::directory_of(file);
    let unwritable = |error: &dyn std::fmt::Display| {
        Failure::could_not_run(format!(
            "{shown}: cannot be written: {error}; check its directory and the disk"
        ))
    };
    let unfinished = tempfile::Builder::new().prefix(".keyledger-backup-").tempfile_in(directory);
    // A temporary file is readable by its owner only, as a backup must be: it contains names and addresses.
    let unfinished = unfinished.map_err(|error| unwritable(&error))?;
    let written = match (&origin.url, &origin.data) {
        (Some(_), _) if with_keys => {
            return Err(Failure::could_not_run(
                "--with-keys: a running service does not hand out its keys; omit the option, and keep separate copies of \
                 log-key and webhook-key",
            ));
        }
        (Some(url), _) => {
            let token = origin.token().find().map_err(|error| Failure::could_not_run(error.to_string()))?;
            let token = token.as_ref().map(Secret::expose);
            let answer = remote::backup(url, token, origin.ca_cert.as_deref())?;
            check(answer, unfinished.as_file(), url)?
        }
        (None, Some(data)) => {
            let directory = DataDirectory::existing(data)?;
            let kek = key_encryption::fetch(&origin.kek)?;
            let chunks = stopped(&directory, keys, kek.as_ref(), with_keys)?;
            check(chunks, unfinished.as_file(), &data.display().to_string())?
        }
        (None, None) => {
            return Err(Failure::could_not_run(
                "--data or --url is missing; name a stopped service's directory, or the URL of a running service",
            ));
        }
    };
    unfinished.as_file().sync_all().map_err(|error| unwritable(&error))?;
    let named = if force {
        unfinished.persist(file).map(drop).map_err(|error| error.error)
    } else {
        unfinished.persist_noclobber(file).map(drop).map_err(|error| error.error)
    };
    let named = named.and_then(|()| atomic_file::sync_directory_of(file));
    named.map_err(|error| unwritable(&error))?;
    written.report(file)
}

/// The content of a backup that was written.
struct Written {
    header: Header,
    bytes: u64,
    checkpoints: usize,
    commands: usize,
    files: Vec<&'static str>,
    /// Whether all of it is signed by the key in its header.
    is_signed: bool,
    pace: crate::output::progress::Pace,
}

impl Written {
    fn report(&self, file: &Path) -> Result<Report, Failure> {
        let Self { header, bytes, checkpoints, commands, files, is_signed, pace } = self;
        let (file, log_id, root) = (file.display().to_string(), hex(&header.log_id.0), hex(&header.root));
        let json = json!({
            "command": "backup", "ok": true, "file": file, "bytes": bytes, "log_id": log_id,
            "head": header.head.get(), "root_hash": root, "checkpoints": checkpoints,
            "remembered_commands": commands, "keys": files, "signed": is_signed,
            "signed_up_to": self.signed_up_to(),
            "seconds": pace.seconds(), "events_per_second": pace.events_per_second(),
        });
        let keys = if files.is_empty() {
            "none; keep separate copies of log-key and webhook-key".into()
        } else {
            files.join(", ")
        };
        let text = format!(
            "{file}: backup of log {log_id}\n\
             positions: {}\n\
             root hash: {root}\n\
             checkpoints: {}\n\
             keys: {keys}\n\
             {}\n\
             {} bytes, written and checked in {pace}",
            match header.head {
                Position::START => "none, the log is empty".into(),
                head => format!("1 to {}", grouped(head.get())),
            },
            grouped(*checkpoints as u64),
            self.signature(),
            grouped(*bytes),
        );
        Report::new(text, &json, None)
    }
}

impl Written {
    /// The number of events that the newest checkpoint covers.
    fn signed_up_to(&self) -> Option<u64> {
        self.header.checkpoint.as_deref().and_then(Checkpoint::unverified).map(|it| it.size)
    }

    /// Whether `restore` needs `--unsigned`, in words.
    fn signature(&self) -> String {
        let signed_up_to = self.signed_up_to().unwrap_or(0);
        if !self.is_signed {
            "signature: none, because the log's key is not here (--log-key-file); `restore` will need --unsigned".into()
        } else if signed_up_to < self.header.head.get() {
            format!(
                "signature: by the log's key, but the events after position {signed_up_to} are under no signed checkpoint; \
                 start and stop the service before the backup, or `restore` will need --unsigned"
            )
        } else {
            "signature: by the log's key".into()
        }
    }
}

/// Copies `input` to `file` and parses it as a backup on the way.
fn check(input: impl Read, file: &File, from: &str) -> Result<Written, Failure> {
    let mut tee = Tee { input: BufReader::new(input), output: BufWriter::new(file), bytes: 0 };
    let failed = |error| failure(from, error);
    let mut reader = Reader::open(&mut tee).map_err(failed)?;
    let header = reader.header().clone();
    let mut progress = Progress::start("backup", header.head);
    let (mut checkpoints, mut commands, mut files, mut reached) = (0, 0, Vec::new(), Position::START);
    while let Some(part) = reader.next_part().map_err(failed)? {
        match part {
            Part::Checkpoints(more) => checkpoints += more.len(),
            Part::Entries(entries) => {
                reached = entries.last().map_or(reached, |entry| entry.record.position);
                progress.reached(reached);
            }
            Part::Commands(more) => commands += more.len(),
            Part::File(file, _) => files.push(file.name()),
        }
    }
    let pace = progress.finish(reached);
    let verifier = header.log_key.as_deref().and_then(|key| key.parse().ok());
    let is_signed = verifier.is_some_and(|verifier| reader.is_signed_by(&verifier));
    tee.output.flush().map_err(|error| failed(Error::Io(error)))?;
    Ok(Written { header, bytes: tee.bytes, checkpoints, commands, files, is_signed, pace })
}

/// The failure for a source `from` whose bytes are not a complete backup.
fn failure(from: &str, error: Error) -> Failure {
    match error {
        Error::Io(error) => match error.downcast::<source::Error>() {
            Ok(source::Error::Log(error)) => error.into(),
            Ok(source::Error::Io(error)) => {
                Failure::could_not_run(format!("{from}: {error}; check its files"))
            }
            Err(error) => Failure::could_not_run(format!(
                "{from}: {error}; no backup was written, check disk and network and try again"
            )),
        },
        Error::Damaged { reason, .. } => Failure::wrong(format!(
            "{from}: damaged backup: {reason}; no backup was written, try again, and if it fails again stop the service \
             and run `replay-tool verify`"
        )),
    }
}

/// A backup of a stopped service's directory. The log is locked while it is read.
fn stopped(
    directory: &DataDirectory,
    keys: &KeyOptions,
    kek: Option<&Arc<Kek>>,
    with_keys: bool,
) -> Result<impl Read + use<>, Failure> {
    let log = stopped_log::open_without_vault(directory).map_err(|failure| match failure.line.split_once(": in use by another process") {
        Some((file, _)) => Failure::could_not_run(format!(
            "{file}: in use by another process; back up the running service with --url and a root key with the permission \
             admin in KEYLEDGER_TOKEN, or stop it"
        )),
        None => failure,
    })?;
    let frontier = log.frontier()?;
    let head = Position::new(frontier.size());
    let path = directory.checkpoints();
    let unreadable =
        |error: io::Error| Failure::wrong(format!("{}: {error}; restore it from a backup", path.display()));
    let mut newest = None;
    for line in checkpoint_file::iter(&path).map_err(unreadable)? {
        let note = line.map_err(unreadable)?.checkpoint;
        let size = Checkpoint::unverified(&note).map_or(0, |checkpoint| checkpoint.size);
        if size > head.get() {
            return Err(Failure::wrong(format!(
                "{}: the log ends at position {head}, but a checkpoint was signed up to position {size}: the log was \
                 truncated, or is an older copy; run `replay-tool verify`",
                log.file()
            )));
        }
        newest = Some(note);
    }
    let signer = log_key::signer(directory, keys, kek)?;
    let log_key = match &signer {
        Some(signer) => Some(signer.verifier().to_string()),
        None => read_if_there(&directory.log_verifier())?
            .and_then(|key| String::from_utf8(key.to_vec()).ok())
            .map(|key| key.trim().to_owned()),
    };
    let sign = signer.map(|signer| -> source::Sign { Box::new(move |hash| signature::sign(hash, &signer)) });
    let header = Header {
        log_id: log.log_id(),
        head,
        root: frontier.root(),
        time: SystemClock.now(),
        checkpoint: newest,
        log_key,
    };
    let mut files = Vec::new();
    for file in KeptFile::ALL.into_iter().filter(|_| with_keys) {
        files.extend(read_if_there(&directory.file(file.name()))?.map(|bytes| (file, bytes)));
    }
    let checkpoints = Box::new(checkpoint_file::iter(&path).map_err(unreadable)?);
    let log: Arc<dyn LogReader> = log;
    Ok(Chunks { source: Source::new(log, header, checkpoints, files, sign), chunk: io::Cursor::default() })
}

fn read_if_there(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let path = path.display();
            Err(Failure::could_not_run(format!(
                "{path}: cannot be read: {error}; check its owner and permissions"
            )))
        }
    }
}

/// A [`Source`] as a [`Read`].
struct Chunks {
    source: Source,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.source.next_chunk().map_err(io::Error::other)? {
                Some(chunk) => self.chunk = io::Cursor::new(chunk),
                None => return Ok(0),
            }
        }
    }
}

/// Passes `input` through and writes a copy of what was read to `output`.
struct Tee<R, W> {
    input: R,
    output: W,
    bytes: u64,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.output.write_all(buffer.get(..count).unwrap_or_default())?;
        self.bytes += count as u64;
        Ok(count)
    }
}
