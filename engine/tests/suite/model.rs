//! Random commands through the ledger, compared with a model that is as plain as the state table it was
//! written from. The model shares no rule with the engine.

mod ask;
mod state_table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use keyledger_engine::codec;
use keyledger_engine::domain::erasure::ErasureCommand;
use keyledger_engine::domain::key::{Key, KeyCommand, KeyStatus};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::policy::Breach;
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::{
    Aggregate, Command, Committed, Error, Ledger, Observer, Request, UserOf, Writer,
};
use keyledger_engine::log::memory::MemoryLog;
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{CommandId, CommandKey, EventLog, LogId};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::{ErasureId, KeyId};
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::{Clock, Timestamp};
use keyledger_engine::vault::Vault;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::ask::{
    Ask, AskOwner, command_of, digest, hint, key_id, key_of, new_key, organization_id, random_ask,
};
use self::state_table::{Model, ModelKey, ModelOrganization, ModelPolicy};
use crate::samples;

const START: i64 = 1_790_000_000_000;

/// Clock that moves only when the test moves it.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Observer that keeps every record it receives.
struct Seen(Arc<Mutex<Vec<Record>>>);

impl Observer for Seen {
    fn committed(&mut self, records: &[Record]) {
        self.0.lock().unwrap().extend_from_slice(records);
    }

    fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> Option<u32> {
        let mut keys: BTreeMap<KeyId, Option<Key>> = BTreeMap::new();
        for record in self.0.lock().unwrap().iter() {
            if let Some(id) = record.stream.key_id() {
                let key = keys.entry(id).or_default();
                *key = Key::apply(key.take(), record);
            }
        }
        let of_user = |key: &&Key| {
            key.organization_id == user.organization_id
                && key.environment == user.environment
                && key.user_id.as_ref() == Some(&user.user_id)
                && key.status(now) == KeyStatus::Active
        };
        Some(keys.values().flatten().filter(of_user).count() as u32)
    }
}

fn word_of(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::KeyExists => "exists",
        Rejection::KeyUnknown => "unknown",
        Rejection::KeyDeleted => "deleted",
        Rejection::KeyExpired => "expired",
        Rejection::KeyRevoked => "revoked",
        Rejection::KeyAlreadyRevoked => "already revoked",
        Rejection::KeyNotRevoked => "not revoked",
        Rejection::ExpiryNotInFuture => "past",
        Rejection::OrganizationDeleted => "organization deleted",
        Rejection::OrganizationKindNotAllowed(_) => "kind",
        Rejection::PolicyViolated(_) => "policy",
        Rejection::PolicyUnknown => "no policy",
        Rejection::NotAPartner(_) => "no partner",
        Rejection::ClientIsPartner => "itself",
        Rejection::ClientNotInPortfolio => "not in portfolio",
        Rejection::ClientNotLinked => "not linked",
        _ => "another",
    }
}

fn check_key(key: &Key, model: &ModelKey, now: i64, context: &str) {
    let status = key.status(Timestamp::from_millis(now)).as_str();
    assert_eq!(status, model.status(now), "{context}");
    assert_eq!(key.name.as_ref().map(Name::as_str), model.name.as_deref(), "{context}");
    assert_eq!(key.expires_at.map(Timestamp::millis), model.expires_at, "{context}");
    assert_eq!(key.digest, digest(model.token), "{context}");
    assert_eq!(key.version, Version::new(model.events), "{context}");
    assert_eq!(key.organization_id, organization_id(model.organization), "{context}");
}

struct Run {
    ledger: Ledger,
    writer: Writer,
    seen: Arc<Mutex<Vec<Record>>>,
    clock: Arc<TestClock>,
    vault: Arc<Vault>,
}

fn start(log: Box<dyn EventLog>, seed: u64) -> Run {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let clock = Arc::new(TestClock(AtomicI64::new(START)));
    let observers: Vec<Box<dyn Observer>> = vec![Box::new(Seen(Arc::clone(&seen)))];
    let (ids, vault) = (StdRng::seed_from_u64(seed), log.vault());
    let (ledger, writer) = Ledger::start(log, observers, Arc::clone(&clock) as Arc<dyn Clock>, ids).unwrap();
    Run { ledger, writer, seen, clock, vault }
}

fn execute(run: &Run, command: Command) -> Result<Committed, Error> {
    run.ledger.execute_blocking(Request::new(command, Actor::system()))
}

/// Runs one random history through a ledger over `log`.
fn history(log: Box<dyn EventLog>, seed: u64, steps: usize) {
    let run = start(log, seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let kinds = [OrganizationKind::Partner, OrganizationKind::Paid, OrganizationKind::Free];
    let organizations = kinds.map(|kind| ModelOrganization { kind, deleted: false, policy: None });
    let mut model = Model { organizations: organizations.into(), ..Model::default() };
    for (index, kind) in kinds.into_iter().enumerate() {
        let command = OrganizationCommand::Create { name: None, kind };
        execute(&run, Command::Organization(organization_id(index), command)).unwrap();
        model.events += 1;
    }
    let mut now = START;
    for step in 0..steps {
        now += rng.random_range(0..30);
        run.clock.0.store(now, Ordering::SeqCst);
        let ask = random_ask(&mut rng, model.organizations.len());
        let context = format!("seed {seed}, step {step}, {ask:?}; KEYLEDGER_SEED={seed} runs it again");
        let before = model.events;
        let command = command_of(&ask, now, model.tokens.wrapping_add(1));
        let answer = execute(&run, command);
        match (model.answer(&ask, now), answer) {
            (Err(word), Err(Error::Rejected(rejection))) => {
                assert_eq!(word, word_of(&rejection), "{context}")
            }
            (Ok(events), Ok(committed)) => {
                assert_eq!(committed.position, Position::new(before + events), "{context}");
                if let (Aggregate::Key(key), Some(index)) = (&committed.aggregate, key_of(&ask)) {
                    check_key(key, &model.keys[&index], now, &context);
                }
            }
            (model, engine) => panic!("{context}: the model says {model:?}, the engine {engine:?}"),
        }
        assert_eq!(run.ledger.head(), Position::new(model.events), "{context}");
    }
    check_log(&run, &model, now, seed);
    run.writer.stop().unwrap();
}

/// Checks that the log returns what the observers received, and that its streams fold to the states of the
/// model.
fn check_log(run: &Run, model: &Model, now: i64, seed: u64) {
    let reader = run.ledger.reader();
    let records = reader.read(Position::START, usize::MAX).unwrap();
    assert_eq!(*run.seen.lock().unwrap(), records, "seed {seed}: observers receive what the log stores");
    assert_eq!(stored(run), records, "seed {seed}: readers return what the log stores");
    let positions: Vec<u64> = records.iter().map(|record| record.position.get()).collect();
    assert_eq!(positions, (1..=model.events).collect::<Vec<_>>(), "seed {seed}");
    for (index, model) in &model.keys {
        let stream = reader.read_stream(&StreamId::Key(key_id(*index))).unwrap();
        let Ok(Some(Aggregate::Key(key))) = Aggregate::fold(&stream.records) else { panic!("seed {seed}") };
        check_key(&key, model, now, &format!("seed {seed}, key {index}"));
    }
}

/// All records, decoded from their stored bytes.
fn stored(run: &Run) -> Vec<Record> {
    let entries = run.ledger.reader().read_entries(Position::START, usize::MAX).unwrap();
    entries.iter().map(|entry| codec::decode_with(entry, Some(&run.vault)).unwrap()).collect()
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("KEYLEDGER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::in_memory().unwrap())
}

fn open_redb(directory: &tempfile::TempDir) -> RedbLog {
    let path: PathBuf = directory.path().join("events.redb");
    RedbLog::open(&path, RedbOptions::default(), vault(), &mut StdRng::seed_from_u64(7)).unwrap()
}

#[test]
fn an_overlap_is_not_shortened_by_a_clock_that_was_set_back() {
    let mut log = MemoryLog::new(LogId([1; 16]), Arc::new(Vault::in_memory().unwrap()));
    log.append(vec![samples::issue(1, "one")]).unwrap();
    let last = log.reader().read(Position::START, 1).unwrap()[0].time;
    let run = start(Box::new(log), 1);
    let set = |time: Timestamp| run.clock.0.store(time.millis(), Ordering::SeqCst);
    set(last.saturating_add_millis(-3_600_000));
    assert_eq!(run.ledger.now(), last, "also after a restart");

    let paid = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
    execute(&run, Command::Organization(organization_id(0), paid)).unwrap();
    let created_at = last.saturating_add_millis(60_000);
    set(created_at);
    execute(&run, command_of(&new_key(0), created_at.millis(), 1)).unwrap();
    set(created_at.saturating_add_millis(-40_000));
    let rotate = KeyCommand::Rotate { digest: digest(2), hint: hint(), overlap_millis: 30_000 };
    let committed = execute(&run, Command::Key(key_id(0), rotate)).unwrap();
    let Aggregate::Key(key) = &committed.aggregate else { panic!("a rotation returns a key") };
    assert_eq!(committed.time, created_at);
    let [previous] = key.previous_tokens.as_slice() else { panic!("{:?}", key.previous_tokens) };
    assert_eq!(previous.valid_until, created_at.saturating_add_millis(30_000));
    run.writer.stop().unwrap();
}

#[test]
fn random_commands_agree_with_the_model_over_a_log_in_memory() {
    for seed in seeds(200) {
        history(Box::new(MemoryLog::new(LogId([1; 16]), vault())), seed, 120);
    }
}

#[test]
fn random_commands_agree_with_the_model_over_redb() {
    for seed in seeds(10) {
        let directory = tempfile::tempdir().unwrap();
        history(Box::new(open_redb(&directory)), seed, 60);
    }
}

#[test]
fn records_in_memory_do_not_outlive_an_erasure() {
    let directory = tempfile::tempdir().unwrap();
    let run = start(Box::new(open_redb(&directory)), 1);
    let create = |name: &str| OrganizationCommand::Create {
        name: Some(Name::new(name).unwrap()),
        kind: OrganizationKind::Paid,
    };
    for (index, name) in ["to be erased", "to stay"].into_iter().enumerate() {
        execute(&run, Command::Organization(organization_id(index), create(name))).unwrap();
    }
    let read = || {
        let records = run.ledger.reader().read(Position::START, usize::MAX).unwrap();
        assert_eq!(records, stored(&run));
        records.iter().map(|record| record.personal).collect::<Vec<_>>()
    };
    assert_eq!(read(), [Personal::Readable; 2]);
    let erase = ErasureCommand::Erase { organization_id: organization_id(0), user_id: None };
    execute(&run, Command::Erasure(ErasureId::from_u128(1), erase)).unwrap();
    assert_eq!(read()[..2], [Personal::Erased, Personal::Readable]);
    execute(&run, Command::Organization(organization_id(2), create("another"))).unwrap();
    assert_eq!(read()[..2], [Personal::Erased, Personal::Readable]);
    run.writer.stop().unwrap();
}

/// Commands that wait together share a commit, but each is decided after the previous ones.
#[test]
fn commands_in_one_group_are_decided_in_order() {
    let run = start(Box::new(MemoryLog::new(LogId([1; 16]), vault())), 1);
    let paid = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
    execute(&run, Command::Organization(organization_id(0), paid)).unwrap();
    let create = new_key(0);
    execute(&run, command_of(&create, START, 1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answers = runtime.block_on(async {
        let asks = (0..64).map(|_| Request::new(command_of(&Ask::Revoke(0), START, 0), Actor::system()));
        let running: Vec<_> = asks
            .map(|request| {
                let ledger = run.ledger.clone();
                tokio::task::spawn(async move { ledger.execute(request).await })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in running {
            answers.push(answer.await.unwrap());
        }
        answers
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let refused = |answer: &&Result<Committed, Error>| {
        matches!(answer, Err(Error::Rejected(Rejection::KeyAlreadyRevoked)))
    };
    assert_eq!(answers.iter().filter(refused).count(), 63);
}

/// Limits of a policy also count commands that share a commit.
#[test]
fn a_policy_limits_the_keys_of_a_user_within_one_group() {
    let run = start(Box::new(MemoryLog::new(LogId([1; 16]), vault())), 1);
    let paid = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
    execute(&run, Command::Organization(organization_id(0), paid)).unwrap();
    let policy = ModelPolicy { max_life_seconds: None, max_keys_per_user: Some(3), name_required: false };
    execute(&run, command_of(&Ask::SetPolicy { organization: 0, policy: Some(policy) }, START, 0)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut made, mut refused) = (0, 0);
    runtime.block_on(async {
        let owner = AskOwner::User(1);
        let running: Vec<_> = (0..64_u8)
            .map(|number| {
                let key = usize::from(number);
                let ask = Ask::Create { key, organization: 0, owner, name: None, expires_in: None };
                let request = Request::new(command_of(&ask, START, number), Actor::system());
                let ledger = run.ledger.clone();
                tokio::task::spawn(async move { ledger.execute(request).await })
            })
            .collect();
        for answer in running {
            match answer.await.unwrap() {
                Ok(_) => made += 1,
                Err(Error::Rejected(Rejection::PolicyViolated(breaches))) => {
                    assert_eq!(breaches, [Breach::TooManyKeysOfUser { max: 3 }]);
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!((made, refused), (3, 61));
}

#[test]
fn a_command_with_an_id_is_executed_once() {
    for log in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let log: Box<dyn EventLog> = if log {
            Box::new(open_redb(&directory))
        } else {
            Box::new(MemoryLog::new(LogId([1; 16]), vault()))
        };
        let run = start(log, 1);
        let paid = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
        execute(&run, Command::Organization(organization_id(0), paid)).unwrap();
        let named = |index: usize, token: u8, fingerprint: u8| {
            let create = new_key(index);
            let key = CommandKey { id: CommandId([9; 16]), fingerprint: [fingerprint; 16] };
            Request {
                command_key: Some(key),
                ..Request::new(command_of(&create, START, token), Actor::system())
            }
        };
        let first = run.ledger.execute_blocking(named(0, 1, 1)).unwrap();
        assert!(!first.replayed);
        // A repeated creation draws a new id and a new token, but the answer has those of the first one.
        let again = run.ledger.execute_blocking(named(1, 2, 1)).unwrap();
        assert!(again.replayed);
        assert_eq!((again.aggregate, again.position), (first.aggregate, first.position));
        assert!(matches!(run.ledger.execute_blocking(named(2, 3, 2)), Err(Error::CommandReused)));
        assert_eq!(run.ledger.head(), Position::new(2));
        run.writer.stop().unwrap();
    }
}

#[test]
fn an_expected_version_that_is_not_the_current_one_is_refused() {
    let run = start(Box::new(MemoryLog::new(LogId([1; 16]), vault())), 1);
    let paid = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
    execute(&run, Command::Organization(organization_id(0), paid)).unwrap();
    let create = new_key(0);
    execute(&run, command_of(&create, START, 1)).unwrap();
    let revoke = |version: u32| Request {
        expected_version: Some(Version::new(version)),
        ..Request::new(command_of(&Ask::Revoke(0), START, 0), Actor::system())
    };
    let refused = run.ledger.execute_blocking(revoke(2));
    assert!(matches!(refused, Err(Error::Rejected(Rejection::VersionConflict { .. }))));
    let Aggregate::Key(key) = run.ledger.execute_blocking(revoke(1)).unwrap().aggregate else { panic!() };
    assert_eq!(key.status(Timestamp::from_millis(START)), KeyStatus::Revoked);
}
