//! `export`: writes events for other programs, in the same bytes that the HTTP interface returns.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use keyledger_engine::log::LogReader;
use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::first_not_before;
use keyledger_projections::export::Format;
use serde_json::json;

use crate::arguments::{ExportOptions, Options};
use crate::key_encryption;
use crate::output::progress::Progress;
use crate::output::report::{Failure, Report, grouped};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

/// Records per read.
const BATCH_LEN: usize = 1_024;

pub(crate) fn run(options: &Options, asked: &ExportOptions) -> Result<Report, Failure> {
    if options.json && asked.output.is_none() {
        return Err(Failure::could_not_run(
            "--json: standard output carries the events; name a file for them with --output",
        ));
    }
    let format = Format::from(asked.format);
    let organization_id = asked.organization.as_deref().map(read_organization).transpose()?;
    let log = stopped_log::open(
        &DataDirectory::existing(&options.data)?,
        key_encryption::fetch(&options.kek)?.as_deref(),
    )?;
    let range = Range::read(&log, asked)?;
    let mut target = Target::open(asked.output.as_deref())?;
    // Output that is appended to an earlier export must not repeat the header.
    let mut chunk = Vec::new();
    if !asked.no_header {
        format.write_header(&mut chunk);
    }
    // Progress counts within the requested range, not the whole log.
    let done = |position: Position| Position::new(position.get().saturating_sub(range.before.get()));
    let mut progress = Progress::start(format!("export {}", format.as_str()), done(range.last));
    let (mut position, mut events) = (range.before, 0_u64);
    loop {
        target.write(&chunk, position)?;
        chunk.clear();
        let left = usize::try_from(range.last.get().saturating_sub(position.get())).unwrap_or(usize::MAX);
        let mut records = log.read(position, left.min(BATCH_LEN))?;
        let Some(last) = records.last().filter(|_| target.is_read) else { break };
        position = last.position;
        if let Some(id) = &organization_id {
            records.retain(|record| record.organization_id.as_ref() == Some(id));
        }
        events += records.len() as u64;
        format.write(log.log_id(), &records, &mut chunk);
        progress.reached(done(position));
    }
    target.finish(position)?;
    let pace = progress.finish(done(position));
    let json = json!({
        "command": "export",
        "ok": true,
        "format": format.as_str(),
        "file": asked.output,
        "events": events,
        "first": range.before.next().get(),
        "last": position.get(),
        "seconds": pace.seconds(),
    });
    // Without a file, standard output carries the events and nothing else.
    let text = match &asked.output {
        None => String::new(),
        Some(file) => format!(
            "{}: {} events, up to position {}; continue with --from {}\nwritten in {:.1} s",
            file.display(),
            grouped(events),
            grouped(position.get()),
            position.next(),
            pace.seconds(),
        ),
    };
    Report::new(text, &json, None)
}

fn read_organization(text: &str) -> Result<OrganizationId, Failure> {
    text.parse().map_err(|error| Failure::could_not_run(format!("--organization {text:?}: {error}")))
}

/// The requested positions: after `before`, up to and including `last`.
struct Range {
    before: Position,
    last: Position,
}

impl Range {
    fn read(log: &RedbReader, asked: &ExportOptions) -> Result<Self, Failure> {
        let head = log.head()?;
        let from = asked.from.as_deref().map(|text| Bound::read("--from", text)).transpose()?;
        let to = asked.to.as_deref().map(|text| Bound::read("--to", text)).transpose()?;
        let before = |position: u64| Position::new(position.saturating_sub(1));
        Ok(Self {
            before: match from {
                None => Position::START,
                Some(Bound::Position(position)) => before(position.get()),
                Some(Bound::Time(time)) => before(first_not_before(log, head, time)?),
            },
            last: match to {
                None => head,
                Some(Bound::Position(position)) => position.min(head),
                Some(Bound::Time(time)) => before(first_not_before(log, head, time)?),
            },
        })
    }
}

/// An end of the range, as the caller gave it.
enum Bound {
    Position(Position),
    Time(Timestamp),
}

impl Bound {
    fn read(option: &str, text: &str) -> Result<Self, Failure> {
        let position = text.parse().map(Self::Position);
        position.or_else(|_| text.parse().map(Self::Time)).map_err(|_| {
            Failure::could_not_run(format!(
                "{option} {text:?}: must be an RFC 3339 time, such as 2026-11-21T09:30:00Z, or a position in the log"
            ))
        })
    }
}

/// The destination of the events.
struct Target<'a> {
    file: Option<(&'a Path, File)>,
    /// False once the reader of standard output has closed the pipe, as `head` does. That is not an error.
    is_read: bool,
}

impl<'a> Target<'a> {
    fn open(path: Option<&'a Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { file: None, is_read: true }) };
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            let shown = path.display();
            Failure::could_not_run(match error.kind() {
                ErrorKind::AlreadyExists => {
                    format!("{shown}: already exists; name another file with --output")
                }
                _ => format!("{shown}: cannot be created: {error}; name another file with --output"),
            })
        })?;
        Ok(Self { file: Some((path, file)), is_read: true })
    }

    /// Writes the events up to `position`.
    fn write(&mut self, bytes: &[u8], position: Position) -> Result<(), Failure> {
        let written = match &mut self.file {
            Some((_, file)) => file.write_all(bytes),
            None if self.is_read => io::stdout().lock().write_all(bytes),
            None => Ok(()),
        };
        match written {
            Err(error) if self.file.is_none() && error.kind() == ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(())
            }
            written => written.map_err(|error| self.failure(&error, position)),
        }
    }

    fn finish(self, position: Position) -> Result<(), Failure> {
        let finished = match &self.file {
            Some((_, file)) => file.sync_all(),
            None => io::stdout().lock().flush(),
        };
        match finished {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(self.failure(&error, position)),
            _ => Ok(()),
        }
    }

    fn failure(&self, error: &io::Error, position: Position) -> Failure {
        let name =
            self.file.as_ref().map_or("standard output".into(), |(path, _)| path.display().to_string());
        Failure::could_not_run(format!(
            "{name}: cannot be written: {error}; free space, then continue with --from after the position of its last \
             complete line, at most {position}"
        ))
    }
}
