//! Measures a verification, with and without recording usage, against SHA-256 of the token alone, in one run.
//! `KEYLEDGER_BENCH_KEYS` sets the number of keys (default 1,000,000), `KEYLEDGER_BENCH_SEED` the order in
//! which they are verified.
//!
//! Prints the median and the quartiles of batch means. Tokens are laid out side by side before the clock
//! starts: in a service they come from the network and are in the cache.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at anything unexpected"
)]

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{KeyCreated, KeyCreatedPersonal, Owner};
use keyledger_engine::domain::organization::{OrganizationCreated, OrganizationKind, OrganizationPersonal};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::domain::resource_api::ApiRegistered;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, EventId, KeyId, OrganizationId};
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::text::{Audience, Name, Scope};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{PresentedToken, Token, TokenPrefix};
use keyledger_projections::beside_the_log::usage::{Address, Usage};
use keyledger_projections::verification::{Code, Question, VerificationIndex};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// The allocator of the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ORGANIZATIONS: usize = 1_000;
const TOKENS_PER_BATCH: usize = 256;
const ROUNDS: usize = 5;
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn main() {
    let keys = number("KEYLEDGER_BENCH_KEYS", 1_000_000);
    let seed = number("KEYLEDGER_BENCH_SEED", 1) as u64;
    let mut rng = StdRng::seed_from_u64(seed);
    let tokens: Vec<Token> = (0..keys)
        .map(|_| Token::generate(&TokenPrefix::default(), Environment::Production, &mut rng).unwrap())
        .collect();
    println!("{keys} keys in {ORGANIZATIONS} organizations, seed {seed}");
    let index = build(&tokens, &mut rng);
    measure(&index, &tokens, &mut rng);
    save_and_load(index);
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn build(tokens: &[Token], rng: &mut StdRng) -> VerificationIndex {
    let index = VerificationIndex::new();
    let mut position = Position::START;
    let mut record = |stream, organization_id, event| {
        position = position.next();
        Record {
            position,
            id: EventId::from_u128(position.get().into()),
            time: NOW,
            stream,
            version: Version::new(1),
            organization_id,
            actor: Actor::system(),
            request_id: None,
            causation: None,
            event,
            personal: Personal::Readable,
        }
    };
    let api_id = ApiId::from_u128(1);
    let scopes = ["read:users", "write:users"].map(|scope| Scope::new(scope).unwrap()).to_vec();
    let facts = ApiRegistered {
        name: Name::new("Users").unwrap(),
        audience: Audience::new("https://users.example").unwrap(),
        token_prefix: TokenPrefix::default(),
        scopes: scopes.clone(),
    };
    index.apply(&record(StreamId::Api(api_id), None, Event::ApiRegistered(facts, ()))).unwrap();
    let organizations: Vec<OrganizationId> =
        (0..ORGANIZATIONS).map(|number| format!("org-{number}").parse().unwrap()).collect();
    for id in &organizations {
        let facts = OrganizationCreated { kind: OrganizationKind::Paid };
        let event = Event::OrganizationCreated(facts, OrganizationPersonal { name: None });
        index.apply(&record(StreamId::Organization(id.clone()), Some(id.clone()), event)).unwrap();
    }
    let resident_before = resident_bytes();
    let mut applying = Vec::new();
    let mut batch_time = Duration::ZERO;
    for (number, token) in tokens.iter().enumerate() {
        let facts = KeyCreated {
            digest: token.digest(),
            hint: token.hint(),
            environment: Environment::Production,
            owner: Owner::in_organization(false),
            api_id: Some(api_id),
            scopes: scopes.clone(),
            expires_at: None,
        };
        let name = Some(Name::new(&format!("Integration {number}")).unwrap());
        let personal = KeyCreatedPersonal { user_id: None, name, description: None, metadata: None };
        let organization_id = organizations[rng.random_range(0..ORGANIZATIONS)].clone();
        let key_id = KeyId::from_u128(
            (NOW.millis() as u128 + number as u128 / 100) << 80 | rng.random::<u64>() as u128,
        );
        let record = record(StreamId::Key(key_id), Some(organization_id), Event::KeyCreated(facts, personal));
        let started = Instant::now();
        index.apply(&record).unwrap();
        batch_time += started.elapsed();
        if (number + 1) % TOKENS_PER_BATCH == 0 {
            applying.push(batch_time.as_nanos() as f64 / TOKENS_PER_BATCH as f64);
            batch_time = Duration::ZERO;
        }
    }
    let resident = resident_bytes().saturating_sub(resident_before);
    let count = tokens.len() as f64;
    println!("apply KeyCreated {} ns", Quartiles::of(applying));
    println!("memory           {:7.0} bytes per key", resident as f64 / count);
    index
}

fn measure(index: &VerificationIndex, tokens: &[Token], rng: &mut StdRng) {
    let sha = |token: &str| {
        use sha2::Digest as _;
        black_box(sha2::Sha256::digest(black_box(token.as_bytes())));
    };
    let parse = |token: &str| {
        black_box(PresentedToken::parse(black_box(token)).is_ok());
    };
    let verify = |token: &str| {
        let code = index.verify(black_box(token), &Question::default(), NOW, |verdict| verdict.code);
        assert_eq!(code, Code::Valid);
    };
    let directory = tempfile::tempdir().unwrap();
    let (usage, _thread) = Usage::open(&directory.path().join("usage.redb"), NOW, HashSet::new).unwrap();
    let from = Address::of(Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    let record = |token: &str| {
        let code = index.verify(black_box(token), &Question::default(), NOW, |verdict| {
            usage.record(&verdict, NOW, from);
            verdict.code
        });
        assert_eq!(code, Code::Valid);
    };
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    let mut batch = Batch::default();
    let mut times: [Vec<f64>; 6] = Default::default();
    for _ in 0..ROUNDS {
        order.shuffle(rng);
        for numbers in order.chunks_exact(TOKENS_PER_BATCH.min(order.len())) {
            batch.fill(numbers.iter().map(|number| tokens[*number as usize].expose()));
            let [sha_times, parse_times, random_times, hot_times, ..] = &mut times;
            sha_times.push(batch.nanos_each(sha));
            parse_times.push(batch.nanos_each(parse));
            random_times.push(batch.nanos_each(verify));
            hot_times.push(batch.nanos_each(verify));
        }
        for numbers in order.chunks_exact(TOKENS_PER_BATCH.min(order.len())) {
            let [.., record_times, record_hot_times] = &mut times;
            batch.fill(numbers.iter().map(|number| tokens[*number as usize].expose()));
            record_times.push(batch.nanos_each(record));
            record_hot_times.push(batch.nanos_each(record));
        }
    }
    let [sha, parse, random, hot, recorded, recorded_hot] = times.map(Quartiles::of);
    println!("SHA-256 alone    {sha} ns");
    println!("form, checksum   {parse} ns");
    println!("verify, hot      {hot} ns, {:.2} x SHA-256", hot.median / sha.median);
    println!("verify, random   {random} ns, {:.2} x SHA-256", random.median / sha.median);
    println!("usage, hot       {:7.1} ns more", recorded_hot.median - hot.median);
    println!("usage, random    {:7.1} ns more", recorded.median - random.median);
    println!("verify, random, without SHA-256: {:.0} ns", random.median - sha.median);
}

/// Tokens laid out side by side.
#[derive(Default)]
struct Batch {
    text: String,
    ends: Vec<usize>,
}

impl Batch {
    fn fill<'a>(&mut self, tokens: impl Iterator<Item = &'a str>) {
        self.text.clear();
        self.ends.clear();
        for token in tokens {
            self.text.push_str(token);
            self.ends.push(self.text.len());
        }
    }

    fn nanos_each(&self, f: impl Fn(&str)) -> f64 {
        let started = Instant::now();
        let mut start = 0;
        for end in &self.ends {
            f(&self.text[start..*end]);
            start = *end;
        }
        started.elapsed().as_nanos() as f64 / self.ends.len() as f64
    }
}

/// Quartiles of batch means: a batch interrupted by another process is an outlier, not a property of this
/// one.
struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

impl Quartiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |percent: usize| values[(values.len() - 1) * percent / 100];
        Self { low: at(25), median: at(50), high: at(75) }
    }
}

impl std::fmt::Display for Quartiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:7.1} ({:.1}-{:.1})", self.median, self.low, self.high)
    }
}

fn key() -> MacKey {
    MacKey::derive(&[3; 32], "a benchmark")
}

fn save_and_load(index: VerificationIndex) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("verification.snapshot");
    let keys = index.key_counts().active as f64;
    let started = Instant::now();
    index.save_snapshot(&path, SourceId([0; 16]), [0; 32], &key()).unwrap();
    let len = fs::metadata(&path).unwrap().len() as f64;
    println!(
        "snapshot, save   {:7.0} ns and {:.0} bytes per key",
        started.elapsed().as_nanos() as f64 / keys,
        len / keys
    );
    drop(index);
    let started = Instant::now();
    let loaded = VerificationIndex::load_snapshot(&path, Some(&key())).unwrap();
    println!("snapshot, load   {:7.0} ns per key", started.elapsed().as_nanos() as f64 / keys);
    assert_eq!(loaded.index.key_counts().active as f64, keys);
}

/// Resident memory of this process (Linux; 0 elsewhere).
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok());
    kibibytes.unwrap_or(0) * 1_024
}
