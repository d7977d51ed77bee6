//! `stats`: counts what a log contains, in one pass.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use keyledger_engine::domain::event::{Event, EventType};
use keyledger_engine::domain::key::KeyStatus;
use keyledger_engine::domain::organization::OrganizationKind;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::LogReader;
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use serde_json::{Map, Value, json};

use crate::arguments::Options;
use crate::key_encryption;
use crate::output::chart::{section, size};
use crate::output::progress::{Pace, Progress};
use crate::output::report::{Failure, Report, grouped, hex};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

/// Records per read.
const BATCH_LEN: usize = 8_192;
/// At most this many days are printed, the last ones. `--json` has all.
const DAYS_SHOWN_MAX: usize = 31;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    let reader = stopped_log::open(&directory, key_encryption::fetch(&options.kek)?.as_deref())?;
    let head = reader.head()?;
    let mut progress = Progress::start("stats", head);
    let mut counts = Counts::default();
    let mut position = Position::START;
    while position < head {
        let records = reader.read(position, BATCH_LEN)?;
        for record in &records {
            counts.add(record);
        }
        position = records.last().map_or(head, |record| record.position);
        progress.reached(position);
    }
    let pace = progress.finish(position);
    let signed = signed(&directory)?;
    let files = sizes(&options.data)?;
    let now = SystemClock.now();
    let keys = counts.keys_by_state(now);
    let organizations = counts.organizations_by_kind();
    let log_id = hex(&reader.log_id().0);
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let json = json!({
        "command": "stats", "ok": true, "log_id": log_id, "head": head.get(), "at": now,
        "first_event": counts.first, "last_event": counts.last,
        "events_by_day": counts.days.iter().map(|(day, count)| json!({ "day": date(*day), "events": count })).collect::<Vec<_>>(),
        "events_by_type": object(&counts.types()),
        "keys": object(&keys),
        "organizations": object(&organizations),
        "checkpoints": { "count": signed.count, "signed_up_to": signed.last.as_ref().map(|it| it.0), "last_signed": signed.last.as_ref().map(|it| it.1) },
        "bytes": bytes,
        "files": files.iter().map(|(name, bytes)| json!({ "file": name, "bytes": bytes })).collect::<Vec<_>>(),
        "seconds": pace.seconds(), "events_per_second": pace.events_per_second(),
    });
    let summary = Summary { log_id, head, counts, keys, organizations, signed, files, bytes, pace };
    Report::new(summary.text(io::stdout().is_terminal()), &json, None)
}

/// Everything that the text report prints.
struct Summary {
    log_id: String,
    head: Position,
    counts: Counts,
    keys: Vec<(String, u64)>,
    organizations: Vec<(String, u64)>,
    signed: Signed,
    files: Vec<(String, u64)>,
    bytes: u64,
    pace: Pace,
}

impl Summary {
    /// The report as text, with bars if `drawn`.
    fn text(&self, drawn: bool) -> String {
        let Self { log_id, head, counts, signed, files, .. } = self;
        let mut text = format!("log {log_id}\n");
        // Writing to a string cannot fail.
        let _ = match (counts.first, counts.last) {
            (Some(first), Some(last)) => {
                writeln!(text, "{} events, from {first} to {last}", grouped(head.get()))
            }
            _ => writeln!(text, "no events"),
        };
        let last_days: Vec<(String, u64)> =
            counts.last_days().map(|(day, count)| (date(day), count)).collect();
        section(&mut text, &days_title(counts.days.len()), &last_days, drawn);
        section(&mut text, "Events by type", &counts.types(), drawn);
        section(&mut text, "Keys by state", &self.keys, drawn);
        section(&mut text, "Organizations by kind", &self.organizations, drawn);
        let _ = match signed.last {
            None => writeln!(text, "\nCheckpoints\n  none signed"),
            Some((size, time)) => writeln!(
                text,
                "\nCheckpoints\n  {}, the newest up to position {}, signed at {time}",
                grouped(signed.count),
                grouped(size)
            ),
        };
        let _ = writeln!(text, "\nOn disk: {} in {} files", size(self.bytes), files.len());
        let width = files.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, bytes) in files {
            let _ = writeln!(text, "  {name:<width$}  {:>10}", size(*bytes));
        }
        let _ = write!(text, "\nread in {}", self.pace);
        text
    }
}

#[derive(Default)]
struct Counts {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Events by day since 1970-01-01, in UTC.
    days: BTreeMap<i64, u64>,
    types: HashMap<EventType, u64>,
    keys: HashMap<KeyId, (KeyStatus, Option<Timestamp>)>,
    /// `None` for a deleted organization.
    organizations: HashMap<OrganizationId, Option<OrganizationKind>>,
}

impl Counts {
    fn add(&mut self, record: &Record) {
        self.first = self.first.or(Some(record.time));
        self.last = Some(record.time);
        *self.days.entry(record.time.millis().div_euclid(DAY_MILLIS)).or_default() += 1;
        *self.types.entry(record.event.event_type()).or_default() += 1;
        match &record.stream {
            StreamId::Key(id) => self.add_to_key(*id, &record.event),
            StreamId::Organization(id) => {
                let kind = match &record.event {
                    Event::OrganizationCreated(facts, _) => Some(facts.kind),
                    Event::OrganizationKindChanged(facts, ()) => Some(facts.kind),
                    Event::OrganizationDeleted(..) => None,
                    _ => return,
                };
                self.organizations.insert(id.clone(), kind);
            }
            _ => {}
        }
    }

    fn add_to_key(&mut self, id: KeyId, event: &Event) {
        let key = self.keys.entry(id).or_insert((KeyStatus::Active, None));
        match event {
            Event::KeyCreated(facts, _) => key.1 = facts.expires_at,
            Event::KeyExpiryChanged(facts, ()) => key.1 = facts.expires_at,
            Event::KeyRevoked(..) => key.0 = KeyStatus::Revoked,
            Event::KeyReactivated(..) => key.0 = KeyStatus::Active,
            Event::KeyExpired(..) => key.0 = KeyStatus::Expired,
            Event::KeyDeleted(..) => key.0 = KeyStatus::Deleted,
            _ => {}
        }
    }

    /// The last days up to the last event, including days without events.
    fn last_days(&self) -> impl Iterator<Item = (i64, u64)> {
        let last = self.days.keys().next_back().copied().unwrap_or(-1);
        let shown = i64::try_from(DAYS_SHOWN_MAX).unwrap_or(i64::MAX);
        let first = self.days.keys().next().map_or(0, |first| *first.max(&(last - shown + 1)));
        (first..=last).map(|day| (day, self.days.get(&day).copied().unwrap_or(0)))
    }

    /// Event types with their counts, most frequent first.
    fn types(&self) -> Vec<(String, u64)> {
        let mut types: Vec<_> =
            self.types.iter().map(|(event_type, count)| (event_type.as_str().to_owned(), *count)).collect();
        types.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        types
    }

    /// Counts a key as expired from its expiry on, also before `KeyExpired` is in the log.
    fn keys_by_state(&self, now: Timestamp) -> Vec<(String, u64)> {
        let states = [KeyStatus::Active, KeyStatus::Revoked, KeyStatus::Expired, KeyStatus::Deleted];
        let mut counts = states.map(|state| (state, 0));
        for (status, end) in self.keys.values() {
            let lives = matches!(status, KeyStatus::Active | KeyStatus::Revoked);
            let state = if lives && end.is_some_and(|end| end <= now) { KeyStatus::Expired } else { *status };
            for (_, count) in counts.iter_mut().filter(|(counted, _)| *counted == state) {
                *count += 1;
            }
        }
        counts.map(|(state, count)| (state.as_str().to_owned(), count)).to_vec()
    }

    fn organizations_by_kind(&self) -> Vec<(String, u64)> {
        let count = |kind| self.organizations.values().filter(|it| **it == kind).count() as u64;
        let kinds = OrganizationKind::names().zip(0..).map(|(name, code)| {
            (name.to_owned(), OrganizationKind::from_code(code).map_or(0, |kind| count(Some(kind))))
        });
        kinds.chain([("deleted".to_owned(), count(None))]).collect()
    }
}

/// The signed checkpoints.
struct Signed {
    count: u64,
    /// The newest one's size and time.
    last: Option<(u64, Timestamp)>,
}

fn signed(directory: &DataDirectory) -> Result<Signed, Failure> {
    let path = directory.checkpoints();
    let wrong =
        |error: io::Error| Failure::wrong(format!("{}: {error}; restore it from a backup", path.display()));
    let mut signed = Signed { count: 0, last: None };
    for line in checkpoint_file::iter(&path).map_err(wrong)? {
        let line = line.map_err(wrong)?;
        signed.count += 1;
        signed.last = Checkpoint::unverified(&line.checkpoint).map(|it| (it.size, line.time));
    }
    Ok(signed)
}

/// The sizes of all files under a directory, sorted by name.
fn sizes(data: &Path) -> Result<Vec<(String, u64)>, Failure> {
    let unreadable = |path: &Path, error: io::Error| {
        Failure::could_not_run(format!(
            "{}: cannot be read: {error}; check its owner and permissions",
            path.display()
        ))
    };
    let mut files = Vec::new();
    let mut directories: Vec<PathBuf> = vec![data.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|error| unreadable(&directory, error))? {
            let entry = entry.map_err(|error| unreadable(&directory, error))?;
            let metadata = entry.metadata().map_err(|error| unreadable(&entry.path(), error))?;
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                let path = entry.path();
                let name = path.strip_prefix(data).unwrap_or(&path).display().to_string();
                files.push((name, metadata.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn object(counts: &[(String, u64)]) -> Value {
    Value::Object(counts.iter().map(|(name, count)| (name.clone(), json!(count))).collect::<Map<_, _>>())
}

/// The date of a day since 1970-01-01.
fn date(day: i64) -> String {
    Timestamp::from_millis(day.saturating_mul(DAY_MILLIS)).to_string().chars().take(10).collect()
}

fn days_title(days: usize) -> String {
    if days > DAYS_SHOWN_MAX {
        format!("Events by day (UTC, the last {DAYS_SHOWN_MAX})")
    } else {
        "Events by day (UTC)".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_days_include_days_without_events() {
        assert_eq!([date(0), date(20_000), date(-1)], ["1970-01-01", "2024-10-04", "1969-12-31"]);
        let mut counts = Counts::default();
        assert_eq!(counts.last_days().count(), 0);
        counts.days.extend([(5, 2), (8, 1)]);
        assert_eq!(counts.last_days().collect::<Vec<_>>(), [(5, 2), (6, 0), (7, 0), (8, 1)]);
        counts.days.insert(1_000, 1);
        assert_eq!((counts.last_days().count(), counts.last_days().next()), (31, Some((970, 0))));
    }
}
