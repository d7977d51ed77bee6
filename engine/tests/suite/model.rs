//! Random commands through the ledger, beside a model that is as plain as the state table it was written from. The model
//! shares no rule with the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use keyledger_engine::codec;
use keyledger_engine::domain::erasure::ErasureCommand;
use keyledger_engine::domain::key::{
    CreateKey, EditKey, Key, KeyCommand, KeyStatus, Owner, RevocationReason,
};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::policy::{Breach, Policy};
use keyledger_engine::domain::portfolio::ClientLinkCommand;
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
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ClientLinkId, ErasureId, KeyId, OrganizationId};
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::text::{Name, UserId};
use keyledger_engine::value::time::{Clock, Timestamp};
use keyledger_engine::value::token::{Digest, TokenHint};
use keyledger_engine::vault::Vault;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::samples;

const START: i64 = 1_790_000_000_000;

/// A clock that stands still until the test moves it.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Keeps what the ledger shows its observers.
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

/// A key as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelKey {
    organization: usize,
    /// The client that it is for, and how often that was linked when it was made.
    client: Option<(usize, u32)>,
    user: Option<u8>,
    created_at: i64,
    name: Option<String>,
    revoked: bool,
    expires_at: Option<i64>,
    expiry_recorded: bool,
    deleted: bool,
    token: u8,
    events: u32,
}

impl ModelKey {
    fn status(&self, now: i64) -> &'static str {
        if self.deleted {
            "deleted"
        } else if self.expiry_recorded || self.expires_at.is_some_and(|end| end <= now) {
            "expired"
        } else if self.revoked {
            "revoked"
        } else {
            "active"
        }
    }
}

/// What is asked, in the model's words.
#[derive(Debug, Clone)]
enum Ask {
    Create { key: usize, organization: usize, owner: AskOwner, name: Option<String>, expires_in: Option<i64> },
    Rename { key: usize, name: Option<String> },
    SetExpiry { key: usize, expires_in: Option<i64> },
    Revoke(usize),
    Reactivate(usize),
    Rotate(usize),
    Delete(usize),
    RecordExpiry(usize),
    DeleteOrganization(usize),
    Link { partner: usize, client: usize },
    Unlink { partner: usize, client: usize },
    SetPolicy { organization: usize, policy: Option<ModelPolicy> },
}

/// What an organization demands of its keys for production; all keys here are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ModelPolicy {
    max_life_seconds: Option<i64>,
    max_keys_per_user: Option<usize>,
    name_required: bool,
}

impl ModelPolicy {
    fn forbids_end(&self, created_at: i64, end: Option<i64>) -> bool {
        let max = self.max_life_seconds.map(|seconds| seconds * 1_000);
        max.is_some_and(|max| end.is_none_or(|end| end - created_at > max))
    }
}

/// Whom a key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskOwner {
    Organization,
    User(u8),
    Partner,
    Client(usize),
}

#[derive(Debug, Clone, Copy)]
struct ModelOrganization {
    kind: OrganizationKind,
    deleted: bool,
    policy: Option<ModelPolicy>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ModelLink {
    linked: bool,
    times: u32,
}

#[derive(Debug, Default)]
struct Model {
    keys: BTreeMap<usize, ModelKey>,
    organizations: Vec<ModelOrganization>,
    /// By partner and client.
    links: BTreeMap<(usize, usize), ModelLink>,
    events: u64,
    tokens: u8,
}

impl Model {
    /// The answer: how many events, or the word of the refusal.
    fn answer(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        let events = self.decide(ask, now)?;
        self.events += events;
        if let Some(key) = key_of(ask).and_then(|key| self.keys.get_mut(&key)) {
            key.events += events as u32;
        }
        Ok(events)
    }

    fn decide(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        match ask {
            Ask::Create { key, organization, owner, name, expires_in } => {
                if self.keys.contains_key(key) {
                    return Err("exists");
                }
                let ModelOrganization { kind, deleted, policy } = self.organizations[*organization];
                if deleted {
                    return Err("organization deleted");
                }
                if kind == OrganizationKind::Free {
                    return Err("kind");
                }
                if matches!(owner, AskOwner::Partner | AskOwner::Client(_))
                    && kind != OrganizationKind::Partner
                {
                    return Err("no partner");
                }
                let client = match owner {
                    AskOwner::Organization | AskOwner::User(_) | AskOwner::Partner => None,
                    AskOwner::Client(client) => {
                        let link = self.links.get(&(*organization, *client)).copied().unwrap_or_default();
                        if !link.linked || self.organizations[*client].deleted {
                            return Err("not in portfolio");
                        }
                        Some((*client, link.times))
                    }
                };
                let expires_at = expires_in.map(|millis| now + millis);
                if expires_at.is_some_and(|end| end <= now) {
                    return Err("past");
                }
                let user = if let AskOwner::User(user) = owner { Some(*user) } else { None };
                if policy.is_some_and(|policy| {
                    policy.forbids_end(now, expires_at)
                        || policy.name_required && name.is_none()
                        || user.is_some_and(|user| self.has_enough_keys(*organization, user, policy, now))
                }) {
                    return Err("policy");
                }
                self.tokens = self.tokens.wrapping_add(1);
                let (token, name, organization) = (self.tokens, name.clone(), *organization);
                let new = ModelKey {
                    organization,
                    client,
                    user,
                    created_at: now,
                    name,
                    revoked: false,
                    expires_at,
                    expiry_recorded: false,
                    deleted: false,
                    token,
                    events: 0,
                };
                self.keys.insert(*key, new);
                Ok(1)
            }
            Ask::DeleteOrganization(organization) => {
                let organization = &mut self.organizations[*organization];
                if organization.deleted {
                    return Err("organization deleted");
                }
                organization.deleted = true;
                Ok(1)
            }
            Ask::SetPolicy { organization, policy } => {
                let organization = &mut self.organizations[*organization];
                if organization.deleted {
                    return Err("organization deleted");
                }
                if policy.is_none() && organization.policy.is_none() {
                    return Err("no policy");
                }
                let changed = organization.policy != *policy;
                organization.policy = *policy;
                Ok(u64::from(changed))
            }
            Ask::Link { partner, client } => {
                let (taking, taken) = (self.organizations[*partner], self.organizations[*client]);
                if taking.deleted {
                    return Err("organization deleted");
                }
                if taking.kind != OrganizationKind::Partner {
                    return Err("no partner");
                }
                if partner == client {
                    return Err("itself");
                }
                if taken.deleted {
                    return Err("organization deleted");
                }
                let link = self.links.entry((*partner, *client)).or_default();
                if link.linked {
                    return Ok(0);
                }
                *link = ModelLink { linked: true, times: link.times + 1 };
                Ok(1)
            }
            Ask::Unlink { partner, client } => match self.links.get_mut(&(*partner, *client)) {
                Some(link) if link.linked => {
                    link.linked = false;
                    Ok(1)
                }
                _ => Err("not linked"),
            },
            _ => self.decide_on_key(ask, now),
        }
    }

    fn has_enough_keys(&self, organization: usize, user: u8, policy: ModelPolicy, now: i64) -> bool {
        let of_user = |key: &&ModelKey| {
            key.organization == organization && key.user == Some(user) && key.status(now) == "active"
        };
        policy.max_keys_per_user.is_some_and(|max| self.keys.values().filter(of_user).count() >= max)
    }

    fn decide_on_key(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        let enough = key_of(ask).and_then(|key| self.keys.get(&key)).is_some_and(|key| {
            let policy = self.organizations[key.organization].policy;
            let user = key.user.zip(policy);
            user.is_some_and(|(user, policy)| self.has_enough_keys(key.organization, user, policy, now))
        });
        let Some(key) = key_of(ask).and_then(|key| self.keys.get_mut(&key)) else { return Err("unknown") };
        let client_gone = key.client.is_some_and(|(client, times)| {
            let link = self.links[&(key.organization, client)];
            self.organizations[client].deleted || !link.linked || link.times != times
        });
        let policy = self.organizations[key.organization].policy;
        let organization_deleted = self.organizations[key.organization].deleted || client_gone;
        if let Ask::RecordExpiry(_) = ask {
            let due = !key.deleted && !key.expiry_recorded && key.expires_at.is_some_and(|end| end <= now);
            key.expiry_recorded |= due;
            return Ok(u64::from(due));
        }
        let status = key.status(now);
        if status == "deleted" || (organization_deleted && !matches!(ask, Ask::Delete(_))) {
            return Err("deleted");
        }
        match (ask, status) {
            (Ask::Delete(_), _) => key.deleted = true,
            (Ask::Rename { name, .. }, _) => {
                if key.name == *name {
                    return Ok(0);
                }
                if name.is_none() && policy.is_some_and(|policy| policy.name_required) {
                    return Err("policy");
                }
                key.name.clone_from(name);
            }
            (Ask::SetExpiry { expires_in, .. }, _) => {
                let end = expires_in.map(|millis| now + millis);
                if end == key.expires_at {
                    return Ok(0);
                }
                if status == "expired" {
                    return Err("expired");
                }
                if end.is_some_and(|end| end <= now) {
                    return Err("past");
                }
                if policy.is_some_and(|policy| policy.forbids_end(key.created_at, end)) {
                    return Err("policy");
                }
                key.expires_at = end;
            }
            (_, "expired") => return Err("expired"),
            (Ask::Revoke(_), "active") => key.revoked = true,
            (Ask::Revoke(_), _) => return Err("already revoked"),
            (Ask::Reactivate(_), "revoked") if enough => return Err("policy"),
            (Ask::Reactivate(_), "revoked") => key.revoked = false,
            (Ask::Reactivate(_), _) => return Err("not revoked"),
            (Ask::Rotate(_), "revoked") => return Err("revoked"),
            _ => {
                self.tokens = self.tokens.wrapping_add(1);
                key.token = self.tokens;
            }
        }
        Ok(1)
    }
}

const fn key_of(ask: &Ask) -> Option<usize> {
    match ask {
        Ask::Create { key, .. } | Ask::Rename { key, .. } | Ask::SetExpiry { key, .. } => Some(*key),
        Ask::Revoke(key)
        | Ask::Reactivate(key)
        | Ask::Rotate(key)
        | Ask::Delete(key)
        | Ask::RecordExpiry(key) => Some(*key),
        Ask::DeleteOrganization(_) | Ask::Link { .. } | Ask::Unlink { .. } | Ask::SetPolicy { .. } => None,
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

fn random_ask(rng: &mut StdRng, organizations: usize) -> Ask {
    let key = rng.random_range(0..12);
    let name = rng.random_bool(0.7).then(|| format!("name {}", rng.random_range(0..3)));
    let expires_in = rng.random_bool(0.5).then(|| rng.random_range(-20..400));
    let (partner, client) = (rng.random_range(0..organizations), rng.random_range(0..organizations));
    let owner = match rng.random_range(0..6) {
        0 => AskOwner::Partner,
        4 | 5 => AskOwner::User(rng.random_range(0..2)),
        1 | 2 => AskOwner::Client(client),
        _ => AskOwner::Organization,
    };
    match rng.random_range(0..22) {
        20 | 21 => {
            let policy = ModelPolicy {
                max_life_seconds: rng.random_bool(0.2).then_some(0),
                max_keys_per_user: rng.random_bool(0.7).then(|| rng.random_range(1..4)),
                name_required: rng.random_bool(0.2),
            };
            Ask::SetPolicy { organization: partner, policy: rng.random_bool(0.7).then_some(policy) }
        }
        0..=3 => Ask::Create { key, organization: partner, owner, name, expires_in },
        16..=18 => Ask::Link { partner, client },
        19 => Ask::Unlink { partner, client },
        4 | 5 => Ask::Rename { key, name },
        6 => Ask::SetExpiry { key, expires_in },
        7 | 8 => Ask::Revoke(key),
        9 | 10 => Ask::Reactivate(key),
        11 | 12 => Ask::Rotate(key),
        13 => Ask::RecordExpiry(key),
        14 if rng.random_bool(0.1) => Ask::DeleteOrganization(rng.random_range(0..organizations)),
        _ => Ask::Delete(key),
    }
}

/// A key of the first organization, with nothing said of it.
const fn new_key(key: usize) -> Ask {
    Ask::Create { key, organization: 0, owner: AskOwner::Organization, name: None, expires_in: None }
}

fn organization_id(index: usize) -> OrganizationId {
    format!("org-{index}").parse().unwrap()
}

fn link_id(partner: usize, client: usize) -> ClientLinkId {
    ClientLinkId { partner_id: organization_id(partner), client_id: organization_id(client) }
}

fn key_id(index: usize) -> KeyId {
    KeyId::from_u128(1 + index as u128)
}

fn hint() -> TokenHint {
    TokenHint { start: "kl_live_abcd".into(), last_four: "wxyz".into() }
}

/// The token's number stands for the token, in both the model and the digest.
fn digest(token: u8) -> Digest {
    Digest::from_bytes([token; 32])
}

fn command_of(ask: &Ask, now: i64, next_token: u8) -> Command {
    let at = |millis: Option<i64>| millis.map(|millis| Timestamp::from_millis(now + millis));
    let name_of = |name: &Option<String>| name.as_deref().map(|name| Name::new(name).unwrap());
    let (key, command) = match ask {
        Ask::DeleteOrganization(index) => {
            return Command::Organization(organization_id(*index), OrganizationCommand::Delete);
        }
        Ask::SetPolicy { organization, policy } => {
            let command = match policy {
                None => OrganizationCommand::RemovePolicy(Environment::Production),
                Some(policy) => {
                    let policy = Policy {
                        max_lifetime_seconds: policy.max_life_seconds.map(i64::unsigned_abs),
                        max_keys_per_user: policy.max_keys_per_user.map(|max| max as u32),
                        name_required: policy.name_required,
                        ..Policy::default()
                    };
                    OrganizationCommand::SetPolicy(Environment::Production, policy)
                }
            };
            return Command::Organization(organization_id(*organization), command);
        }
        Ask::Link { partner, client } => {
            return Command::ClientLink(link_id(*partner, *client), ClientLinkCommand::Link);
        }
        Ask::Unlink { partner, client } => {
            return Command::ClientLink(link_id(*partner, *client), ClientLinkCommand::Unlink);
        }
        Ask::Create { key, organization, owner, name, expires_in } => {
            let create = CreateKey {
                organization_id: organization_id(*organization),
                api_id: None,
                owner: match owner {
                    AskOwner::Organization => Owner::in_organization(false),
                    AskOwner::User(_) => Owner::in_organization(true),
                    AskOwner::Partner => Owner::partner(),
                    AskOwner::Client(client) => Owner::client(organization_id(*client)),
                },
                user_id: match owner {
                    AskOwner::User(user) => Some(UserId::new(&format!("user-{user}")).unwrap()),
                    _ => None,
                },
                name: name_of(name),
                description: None,
                metadata: None,
                environment: Environment::Production,
                scopes: Vec::new(),
                expires_at: at(*expires_in),
                digest: digest(next_token),
                hint: hint(),
            };
            (*key, KeyCommand::Create(Box::new(create)))
        }
        Ask::Rename { key, name } => {
            (*key, KeyCommand::Edit(Box::new(EditKey { name: Some(name_of(name)), ..EditKey::default() })))
        }
        Ask::SetExpiry { key, expires_in } => {
            let edit = EditKey { expires_at: Some(at(*expires_in)), ..EditKey::default() };
            (*key, KeyCommand::Edit(Box::new(edit)))
        }
        Ask::Revoke(key) => (*key, KeyCommand::Revoke { reason: RevocationReason::Superseded, note: None }),
        Ask::Reactivate(key) => (*key, KeyCommand::Reactivate),
        Ask::Rotate(key) => {
            (*key, KeyCommand::Rotate { digest: digest(next_token), hint: hint(), overlap_millis: 0 })
        }
        Ask::Delete(key) => (*key, KeyCommand::Delete),
        Ask::RecordExpiry(key) => (*key, KeyCommand::RecordExpiry),
    };
    Command::Key(key_id(key), command)
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

/// Runs one history through a ledger over `log`.
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

/// What the log gives back leads to the same states as the answers did.
fn check_log(run: &Run, model: &Model, now: i64, seed: u64) {
    let reader = run.ledger.reader();
    let records = reader.read(Position::START, usize::MAX).unwrap();
    assert_eq!(*run.seen.lock().unwrap(), records, "seed {seed}: observers see what the log holds");
    assert_eq!(stored(run), records, "seed {seed}: the log gives back what it holds");
    let positions: Vec<u64> = records.iter().map(|record| record.position.get()).collect();
    assert_eq!(positions, (1..=model.events).collect::<Vec<_>>(), "seed {seed}");
    for (index, model) in &model.keys {
        let stream = reader.read_stream(&StreamId::Key(key_id(*index))).unwrap();
        let Ok(Some(Aggregate::Key(key))) = Aggregate::fold(&stream.records) else { panic!("seed {seed}") };
        check_key(&key, model, now, &format!("seed {seed}, key {index}"));
    }
}

/// All records as their stored bytes say them.
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
fn what_is_to_last_from_an_event_on_lasts_though_the_clock_was_set_back() {
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
    let Aggregate::Key(key) = &committed.aggregate else { panic!("a rotation gives a key") };
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
fn the_newest_records_do_not_outlive_an_erasure() {
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

/// Commands that wait together share a commit; each is still decided after the ones before it.
#[test]
fn commands_in_one_group_are_decided_one_after_the_other() {
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

/// What a policy bounds is counted also among commands that share a commit.
#[test]
fn a_user_gets_no_more_keys_than_the_policy_says_from_one_group() {
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
fn a_command_with_a_name_takes_place_once() {
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
        // A repeated creation draws a new id and a new token; what comes back is the first one's.
        let again = run.ledger.execute_blocking(named(1, 2, 1)).unwrap();
        assert!(again.replayed);
        assert_eq!((again.aggregate, again.position), (first.aggregate, first.position));
        assert!(matches!(run.ledger.execute_blocking(named(2, 3, 2)), Err(Error::CommandReused)));
        assert_eq!(run.ledger.head(), Position::new(2));
        run.writer.stop().unwrap();
    }
}

#[test]
fn an_expected_version_that_is_not_the_present_one_is_refused() {
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
