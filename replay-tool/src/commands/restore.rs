//! `restore`: a data directory from a backup. It is made beside its place and gets its name when all of it was checked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keyledger_engine::backup::reader::{Entry, Error};
use keyledger_engine::backup::{KeptFile, Part, Reader};
use keyledger_engine::log;
use keyledger_engine::log::redb::{RedbImport, RedbOptions};
use keyledger_engine::storage::atomic_file;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use serde_json::json;

use crate::arguments::{CheckpointOptions, Options};
use crate::checkpoints;
use crate::output::progress::Progress;
use crate::output::report::{Failure, Report, grouped, hex};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

/// Up to where a log is restored.
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

    fn includes(self, entry: &Entry) -> bool {
        match self {
            Self::Head => true,
            Self::Position(position) => entry.record.position <= position,
            Self::Time(time) => entry.record.time <= time,
        }
    }
}

pub(crate) fn run(options: &Options, file: &Path, to: Option<&str>) -> Result<Report, Failure> {
    let until = Until::parse(to)?;
    let input = File::open(file).map_err(|error| {
        Failure::could_not_run(format!("{}: cannot be read: {error}; check the path", file.display()))
    })?;
    let place = Place::beside(&options.data)?;
    let restored = fill(&place, file, input, until)?;
    let directory = DataDirectory::existing(&place.unfinished)?;
    let root = verify(&directory, &restored)?;
    place.finish()?;
    restored.report(&options.data, file, &root)
}

/// Where the directory comes to be. What is unfinished is deleted when this is dropped.
struct Place {
    data: PathBuf,
    unfinished: PathBuf,
}

impl Place {
    /// A new directory beside `data`, which must not be there or be empty.
    fn beside(data: &Path) -> Result<Self, Failure> {
        let shown = data.display();
        let refused = |what: &str| Failure::could_not_run(format!("{shown}: {what}"));
        match fs::read_dir(data).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(refused("is not empty; name a directory that is missing or empty with --data"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(&format!("cannot be used: {error}; name another with --data"))),
        }
        // As the system knows it, so that `.` and links have a place beside them.
        let data = fs::canonicalize(data).or_else(|_| std::path::absolute(data));
        let data =
            data.map_err(|error| refused(&format!("cannot be used: {error}; name another with --data")))?;
        let parent = data.parent().map(Path::to_path_buf);
        let parent = parent.ok_or_else(|| refused("cannot be restored to; name another with --data"))?;
        let unfinished = tempfile::Builder::new().prefix(".keyledger-restore-").tempdir_in(&parent);
        let unfinished = unfinished.map_err(|error| {
            refused(&format!(
                "nothing can be made beside it: {error}; make its parent directory, or check its permissions"
            ))
        })?;
        // The one inside gets the name: it is made with the permissions that a data directory has.
        let unfinished = unfinished.keep();
        let place = Self { data, unfinished: unfinished.join("data") };
        DirBuilder::new().mode(0o700).create(&place.unfinished).map_err(|error| place.unwritable(&error))?;
        Ok(place)
    }

    fn unwritable(&self, error: &dyn std::fmt::Display) -> Failure {
        let path = self.unfinished.display();
        Failure::could_not_run(format!(
            "{path}: cannot be written: {error}; nothing was restored, check the disk"
        ))
    }

    /// A new file that only its owner may read.
    fn create(&self, path: &Path) -> Result<File, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.map_err(|error| self.unwritable(&error))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let mut file = self.create(path)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| self.unwritable(&error))
    }

    fn finish(self) -> Result<(), Failure> {
        let synced = File::open(&self.unfinished).and_then(|directory| directory.sync_all());
        synced.map_err(|error| self.unwritable(&error))?;
        // An empty directory of that name gives way.
        atomic_file::rename(&self.unfinished, &self.data).map_err(|error| {
            let data = self.data.display();
            Failure::could_not_run(format!(
                "{data}: what was restored cannot get this name: {error}; name a directory that is missing or empty and no mount point"
            ))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody has use for what is unfinished; that it cannot be deleted is no reason to fail.
        if let Some(around) = self.unfinished.parent() {
            let _ = fs::remove_dir_all(around);
        }
    }
}

/// What was restored.
struct Restored {
    log_id: log::LogId,
    position: Position,
    /// Of the last event.
    time: Option<Timestamp>,
    /// Where the backup ends.
    head: Position,
    checkpoints: usize,
    files: Vec<KeptFile>,
    pace: crate::output::progress::Pace,
}

/// Reads the whole backup, and puts what belongs to `until` into the directory.
fn fill(place: &Place, file: &Path, input: File, until: Until) -> Result<Restored, Failure> {
    let shown = file.display();
    let damaged = |error: Error| match error {
        Error::Io(error) => {
            Failure::could_not_run(format!("{shown}: cannot be read: {error}; check the disk"))
        }
        error @ Error::Damaged { .. } => {
            Failure::wrong(format!("{shown}: {error}; nothing was restored, use another copy of it"))
        }
    };
    let stored = |error: log::Error| match error {
        log::Error::Damaged { position, reason, .. } => Failure::wrong(format!(
            "{shown}: damaged at position {position}: {reason}; nothing was restored, use another backup"
        )),
        error => Failure::could_not_run(format!("{error}; nothing was restored, check the disk")),
    };
    let mut backup = Reader::open(BufReader::new(input)).map_err(damaged)?;
    let header = backup.header().clone();
    if let Until::Position(position) = until
        && position > header.head
    {
        return Err(Failure::could_not_run(format!(
            "--to {position}: past the end of the backup; name a position up to {}, or a time",
            header.head
        )));
    }
    let directory = DataDirectory::existing(&place.unfinished)?;
    let mut import =
        RedbImport::create(&directory.log(), RedbOptions::default(), header.log_id).map_err(stored)?;
    if let Some(key) = &header.log_key {
        place.write(&directory.log_verifier(), format!("{key}\n").as_bytes())?;
    }
    let mut progress = Progress::start("restore", header.head);
    // Those of a moment that is not reached are taken out again below.
    let mut notes = Vec::new();
    let (mut position, mut time, mut reached) = (Position::START, None, Position::START);
    let mut files = Vec::new();
    while let Some(part) = backup.next_part().map_err(damaged)? {
        match part {
            Part::Checkpoints(more) => notes.extend(more.into_iter().map(|(line, it)| (it.size, line))),
            Part::Entries(mut entries) => {
                reached = entries.last().map_or(reached, |entry| entry.record.position);
                entries.retain(|entry| until.includes(entry));
                if let Some(last) = entries.last() {
                    (position, time) = (last.record.position, Some(last.record.time));
                    import.append(&entries).map_err(stored)?;
                }
                progress.reached(reached);
            }
            Part::Commands(mut commands) => {
                commands.retain(|(_, command)| command.last <= position);
                import.remember(&commands).map_err(stored)?;
            }
            Part::File(file, bytes) => {
                place.write(&directory.file(file.name()), &bytes)?;
                files.push(file);
            }
        }
    }
    let pace = progress.finish(reached);
    if position == Position::START && header.head > position {
        return Err(Failure::could_not_run(
            "--to: no event is that old; name a later time, or a position from 1 on",
        ));
    }
    import.finish().map_err(stored)?;
    notes.retain(|(size, _)| *size <= position.get());
    let mut lines = BufWriter::new(place.create(&directory.checkpoints())?);
    let written = notes.iter().try_for_each(|(_, line)| {
        serde_json::to_writer(&mut lines, line)?;
        lines.write_all(b"\n")
    });
    let written = written.and_then(|()| lines.into_inner()?.sync_all());
    written.map_err(|error| place.unwritable(&error))?;
    let (log_id, head, checkpoints) = (header.log_id, header.head, notes.len());
    Ok(Restored { log_id, position, time, head, checkpoints, files, pace })
}

/// Reads what was written again, and gives back the root of the tree.
fn verify(directory: &DataDirectory, restored: &Restored) -> Result<String, Failure> {
    let reader = stopped_log::open(directory)?;
    let options = CheckpointOptions { checkpoint: None, log_key: None };
    let checkpoints = checkpoints::read(directory, &options)?;
    let mut progress = Progress::start("verify", restored.position);
    let verified =
        reader.verify_with_roots(&checkpoints.sizes(), |position, _| progress.reached(position))?;
    progress.finish(verified.head);
    let own = verified.finding.as_ref().map(|it| (it.position, it.reason.clone()));
    let difference = || checkpoints.first_difference(&verified).map(|it| (it.position(), it.to_string()));
    match own.or_else(difference) {
        None if verified.head == restored.position => Ok(hex(&verified.root)),
        finding => {
            let (position, reason) = finding.unwrap_or((verified.head.next(), "the log is not whole".into()));
            Err(Failure::could_not_run(format!(
                "what was written is not what was read back, at position {position}: {reason}; nothing was restored, check the disk"
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
            "checkpoints": self.checkpoints, "keys": names,
            "seconds": self.pace.seconds(), "events_per_second": self.pace.events_per_second(),
        });
        let mut lines = vec![format!("{data}: log {log_id}, restored and verified")];
        lines.push(match self.time {
            None => "positions: none, the log is empty".into(),
            Some(time) => format!("positions: 1 to {}, the last of {time}", grouped(position.get())),
        });
        lines.push(format!("root hash: {root}"));
        lines.push(format!("checkpoints: {}", grouped(self.checkpoints as u64)));
        lines.push(format!("read in {}", self.pace));
        if position < head {
            lines.push(format!(
                "left out: {} later events and their checkpoints; whoever has seen those will notice that the log was cut off",
                grouped(head.get() - position.get())
            ));
        }
        let needed = [
            (KeptFile::LogKey, "signs checkpoints"),
            (KeptFile::WebhookKey, "webhooks' secrets are made from"),
        ];
        for (file, purpose) in needed.into_iter().filter(|(file, _)| !self.files.contains(file)) {
            lines.push(format!(
                "the key that {purpose} is not in the backup: put it at {data}/{} before the service starts",
                file.name()
            ));
        }
        Report::new(lines.join("\n"), &json, None)
    }
}
