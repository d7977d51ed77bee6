//! Measures how fast stored projections are built from a log, and how fast they answer.
//!
//! `cargo bench -p keyledger-projections --bench replay [events]`

#[path = "../tests/stored/history.rs"]
#[allow(dead_code)]
mod history;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyledger_engine::domain::event::{Event, EventType};
use keyledger_engine::domain::key::{KeyRenamedPersonal, KeyStatus};
use keyledger_engine::log::LogReader;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Name, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::{AuditQuery, AuditTrail};
use keyledger_projections::key_list::{KeyList, KeyListProjection, KeyQuery, KeySort};
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::rebuild::Rebuilds;
use keyledger_projections::stored::replay::{BULK_BATCH_LEN, Replay};
use keyledger_projections::stored::runner::{Status, start};

use history::History;

/// The allocator of the measured programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const END: Position = Position::new(u64::MAX);

fn main() -> Result<(), Box<dyn Error>> {
    let events = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000_usize);
    let began = Instant::now();
    let mut history = History::new(1);
    history.organizations = (0..1_000).map(|n| format!("org-{n}").parse()).collect::<Result<_, _>>()?;
    history.extend(events);
    let reader = history.reader();
    println!("log of {events} events, {} keys, made in {:.1?}", history.keys.len(), began.elapsed());
    decoding(&*reader)?;
    replay("key list", KeyList::new().1, &reader)?;
    replay("audit trail", AuditTrail::new(Arc::clone(&reader)).1, &reader)?;
    rebuilt(&reader)?;
    together(&reader)?;
    audit_queries(&history)?;
    drop(reader);
    drop(history);
    key_queries(events)
}

fn rate(events: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    format!("{:>9.0} events/s, {:.2} µs each", events as f64 / seconds, seconds * 1e6 / events as f64)
}

/// Processor time of this thread, independent of other load on the machine.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

fn decoding(reader: &dyn LogReader) -> Result<(), Box<dyn Error>> {
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut after = Position::START;
    while let Some(last) = reader.read(after, 2_048)?.last() {
        after = last.position;
    }
    println!("{:24}{}", "reading alone", rate(after.get(), began.elapsed()));
    println!("{:24}{}", "  processor time", rate(after.get(), cpu_time() - cpu));
    Ok(())
}

fn replay<P: Projection>(
    name: &str,
    projection: P,
    reader: &Arc<dyn LogReader>,
) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut replay = Replay::open(directory.path(), projection, Arc::clone(reader))?;
    let position = replay.catch_up(END, BULK_BATCH_LEN, |_| {})?;
    println!("{name:24}{}", rate(position.get(), began.elapsed()));
    println!("{:24}{}", "  processor time", rate(position.get(), cpu_time() - cpu));
    let began = Instant::now();
    replay.rows().digest()?;
    println!("{:24}{:.2?}", "  digest of rows", began.elapsed());
    drop(replay);
    let file = std::fs::read_dir(directory.path())?.next().ok_or("no file")??;
    println!("{:24}{} MB", "  file", file.metadata()?.len() / 1_000_000);
    Ok(())
}

/// The path that `replay-tool rebuild` takes.
fn rebuilt(reader: &Arc<dyn LogReader>) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let began = Instant::now();
    let mut rebuilds = Rebuilds::new(directory.path(), Arc::clone(reader));
    rebuilds.add(KeyListProjection::without_readers())?;
    rebuilds.add(AuditTrail::new(Arc::clone(reader)).1)?;
    let position = rebuilds.run(|_| {})?;
    println!("{:24}{}", "rebuild of both", rate(position.get(), began.elapsed()));
    Ok(())
}

fn together(reader: &Arc<dyn LogReader>) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let began = Instant::now();
    let threads = [
        start(directory.path(), KeyList::new().1, Arc::clone(reader), None)?,
        start(directory.path(), AuditTrail::new(Arc::clone(reader)).1, Arc::clone(reader), None)?,
    ];
    let head = reader.head()?;
    for (handle, _) in &threads {
        while handle.position() < head {
            if let Status::Failed { reason, .. } | Status::Poisoned { reason, .. } = handle.status() {
                return Err(reason.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    println!("{:24}{}", "both at once", rate(head.get(), began.elapsed()));
    for (_, thread) in threads {
        thread.stop();
    }
    let began = Instant::now();
    let reopened = Replay::open(directory.path(), KeyList::new().1, Arc::clone(reader))?;
    println!("{:24}{:.2?}", "  reopen key list", began.elapsed());
    drop(reopened);
    let began = Instant::now();
    let reopened = Replay::open(directory.path(), AuditTrail::new(Arc::clone(reader)).1, Arc::clone(reader))?;
    println!("{:24}{:.2?}", "  reopen audit trail", began.elapsed());
    drop(reopened);
    Ok(())
}

/// Prints the median and the slowest of some runs.
fn timed<T>(name: &str, mut run: impl FnMut() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let mut times = Vec::new();
    let mut result = run()?;
    for _ in 0..21 {
        let began = Instant::now();
        result = run()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("  {name:44}{median:>10.2?}  slowest {:.2?}", times.last().copied().unwrap_or_default());
    Ok(result)
}

fn audit_queries(history: &History) -> Result<(), Box<dyn Error>> {
    let (trail, projection) = AuditTrail::new(history.reader());
    let mut replay = Replay::in_memory(projection, history.reader())?;
    let head = replay.catch_up(END, BULK_BATCH_LEN, |_| {})?;
    println!("audit trail of {head} events, pages of 50");
    let query = AuditQuery::default();
    let organization_id = Some("org-7".parse()?);
    let middle = Some(history.keys.get(history.keys.len() / 2).ok_or("no keys")?.created_at);
    let ask = |name: &str, query: &AuditQuery| timed(name, || Ok(trail.query(query)?));
    ask("everything", &query)?;
    ask("everything from the middle on, by time", &AuditQuery { from: middle, ..query.clone() })?;
    ask(
        "one of 1,000 organizations",
        &AuditQuery { organization_id: organization_id.clone(), ..query.clone() },
    )?;
    let rare = AuditQuery { organization_id, event_type: Some(EventType::KeyExpired), ..query.clone() };
    ask("one kind of event of it", &rare)?;
    ask("the same, latest first", &AuditQuery { descending: true, ..rare })?;
    ask("an actor who never was", &AuditQuery { actor_id: Some("rk_9".into()), ..query })?;
    Ok(())
}

fn key_queries(count: usize) -> Result<(), Box<dyn Error>> {
    let mut history = History::new(2);
    history.organizations.truncate(1);
    for _ in 0..count {
        history.time += 1;
        history.add_key();
    }
    let marked = history.keys.len() / 3;
    let name = Some(Name::new("The Needle in it")?);
    history.apply(marked, Event::KeyRenamed((), KeyRenamedPersonal { name }));
    history.keys = Vec::new();
    let directory = tempfile::tempdir()?;
    let (list, projection) = KeyList::new();
    let mut replay = Replay::open(directory.path(), projection, history.reader())?;
    replay.catch_up(END, BULK_BATCH_LEN, |_| {})?;
    println!("key list of {count} keys in one organization, pages of 50");
    let all = KeyQuery {
        organization_id: history.organizations.first().cloned(),
        ..KeyQuery::new(Timestamp::from_millis(0))
    };
    let ask = |name: &str, query: KeyQuery| timed(name, || Ok(list.query(&query)?));
    let text = |needle: &str| KeyQuery { text: Some(needle.into()), ..all.clone() };
    let first = ask("default page", all.clone())?;
    ask("its second page", KeyQuery { cursor: first.next_cursor, ..all.clone() })?;
    ask("by name", KeyQuery { sort: KeySort::NameAsc, ..all.clone() })?;
    ask("by expiry", KeyQuery { sort: KeySort::ExpiresAsc, ..all.clone() })?;
    let found = ask("text that one key has", text("NEEDLE"))?;
    assert_eq!(found.total, 1);
    ask("text that no key has", text("nowhere to be found"))?;
    ask("text that most keys have", text("production"))?;
    ask("text that most keys have, by name", KeyQuery { sort: KeySort::NameDesc, ..text("production") })?;
    ask("not ASCII: STRASSE", text("STRASSE"))?;
    ask("one of nine users", KeyQuery { user_id: Some(UserId::new("user-3")?), ..all.clone() })?;
    ask("no such user", KeyQuery { user_id: Some(UserId::new("nobody")?), ..all.clone() })?;
    let preview = Some(Environment::Preview);
    ask(
        "preview, revoked (none)",
        KeyQuery { environment: preview, status: vec![KeyStatus::Revoked], ..all.clone() },
    )?;
    let began = Instant::now();
    let mut changed = 0;
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let searching = scope.spawn(|| {
            let began = Instant::now();
            let mut queries = 0_u32;
            while began.elapsed() < Duration::from_secs(2) {
                queries += u32::from(list.query(&text("nowhere to be found")).is_ok());
            }
            queries
        });
        while !searching.is_finished() {
            history.add_key();
            replay.step(512, false)?;
            changed += 1;
        }
        let queries = searching.join().map_err(|_| "the searching thread panicked")?;
        let each = began.elapsed() / changed;
        println!("  {changed} single-event batches of {each:.2?} beside {queries} searches in 2 s");
        Ok(())
    })
}
