//! Cost of the log on redb: appending keys in groups of several sizes with one writer and durable groups,
//! reading and verifying them, and bytes on disk. Run with `cargo bench -p keyledger-engine --bench log
//! [EVENTS]`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark stops at an error")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{KeyCreated, KeyCreatedPersonal, Owner};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions, RedbReader};
use keyledger_engine::log::{Append, CommandId, CommandKey, EventLog, LogReader, StreamHead};
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{EventId, KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, TokenHint};
use keyledger_engine::vault::{self, Subject, Vault};
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};

fn key_created(number: u64, rng: &mut StdRng) -> Append {
    let millis = 1_790_000_000_000 + i64::try_from(number / 20).unwrap();
    let ulid = |rng: &mut StdRng| u128::try_from(millis).unwrap() << 80 | rng.random::<u128>() >> 48;
    let facts = KeyCreated {
        digest: Digest::from_bytes(rng.random()),
        hint: TokenHint { start: "kl_live_ab12".into(), last_four: "Zz09".into() },
        environment: Environment::Production,
        owner: Owner::in_organization(true),
        api_id: None,
        scopes: vec![Scope::new("read:users").unwrap()],
        expires_at: Some(Timestamp::from_millis(millis + 1_000_000)),
    };
    let personal = KeyCreatedPersonal {
        user_id: Some(UserId::new(&format!("user-{}", number % 1_000)).unwrap()),
        name: Some(Name::new(&format!("integration {number}")).unwrap()),
        description: None,
        metadata: None,
    };
    let organization_id: OrganizationId = "org_01J9ZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap();
    Append {
        subject: Subject::of(Some(&organization_id), personal.user_id.as_ref()),
        stream: StreamId::Key(KeyId::from_u128(ulid(rng))),
        expected: StreamHead::ABSENT,
        time: Timestamp::from_millis(millis),
        organization_id: Some(organization_id),
        actor: Actor {
            kind: ActorKind::RootKey,
            id: "rk_01K40000000000000000000004".into(),
            ip: Some("192.0.2.7".parse().unwrap()),
            user_agent: Some("curl/8.5.0".into()),
        },
        request_id: Some(format!("req_{number:016x}").into()),
        causation: None,
        events: vec![(EventId::from_u128(ulid(rng)), Event::KeyCreated(facts, personal))],
        command: Some(CommandKey { id: CommandId(rng.random()), fingerprint: rng.random() }),
    }
}

/// Wall-clock time, and the processor time of this thread, which is more meaningful on a busy machine.
#[derive(Clone, Copy)]
struct Stopwatch {
    start: Instant,
    start_on_processor: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self { start: Instant::now(), start_on_processor: on_processor() }
    }

    fn rates(self, events: u64) -> String {
        rates(events, self.start.elapsed(), on_processor() - self.start_on_processor)
    }
}

fn on_processor() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(statistics.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn rates(events: u64, elapsed: Duration, on_processor: Duration) -> String {
    let per_second = events as f64 / elapsed.as_secs_f64();
    let each = on_processor.as_secs_f64() / events as f64 * 1e6;
    format!("{per_second:.0} events/s, {each:.2} µs of processor time each")
}

fn main() {
    let events: u64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let directory = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut rng = StdRng::seed_from_u64(1);

    let mut file = File::create(directory.path().join("baseline")).unwrap();
    let start = Instant::now();
    for _ in 0..200 {
        file.write_all(&[0; 4_096]).unwrap();
        file.sync_data().unwrap();
    }
    println!("write of 4 KiB and fdatasync: {:?} each", start.elapsed() / 200);

    let vault = Arc::new(Vault::open(&directory.path().join(vault::FILE_NAME)).unwrap());
    for group in [1, 8, 64, 512] {
        let path = directory.path().join(format!("{group}-{FILE_NAME}"));
        let mut log = RedbLog::open(&path, RedbOptions::default(), Arc::clone(&vault), &mut SysRng).unwrap();
        let count = (events / 512 * group).clamp(1_000, events);
        let (mut appending, mut computing) = (Duration::ZERO, Duration::ZERO);
        for first in (0..count).step_by(usize::try_from(group).unwrap()) {
            let appends = (first..first + group).map(|number| key_created(number, &mut rng)).collect();
            let watch = Stopwatch::start();
            log.append(appends).unwrap();
            appending += watch.start.elapsed();
            computing += on_processor() - watch.start_on_processor;
        }
        println!("append in groups of {group}: {}", rates(count, appending, computing));
        if group < 512 {
            continue;
        }
        let head = log.reader().head().unwrap();
        drop(log);
        let len = std::fs::metadata(&path).unwrap().len();
        let entries: usize = {
            let reader =
                RedbReader::open_read_only(&path, RedbOptions::default(), Arc::clone(&vault)).unwrap();
            reader.read_entries(Position::START, 10_000).unwrap().iter().map(Vec::len).sum()
        };
        println!(
            "on disk: {:.0} bytes/event, of which the entry {}",
            len as f64 / head.get() as f64,
            entries / 10_000
        );

        let start = Instant::now();
        let reader = RedbReader::open_read_only(&path, RedbOptions::default(), Arc::clone(&vault)).unwrap();
        println!("open: {:?}", start.elapsed());
        let watch = Stopwatch::start();
        let mut after = Position::START;
        while after < head {
            after = reader.read(after, 4_096).unwrap().last().unwrap().position;
        }
        println!("read and decode: {}", watch.rates(head.get()));
        let watch = Stopwatch::start();
        assert_eq!(reader.verify(|_, _| {}).unwrap().finding, None);
        println!("verify: {}", watch.rates(head.get()));
    }
}
