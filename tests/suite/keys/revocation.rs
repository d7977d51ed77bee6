//! The service's central promise: once a revocation is answered, no verification that starts later answers
//! VALID.

use std::collections::HashMap;
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::connection::Connection;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, Issued, key};
use keyledger_tests::data::history::{History, Target};
use keyledger_tests::processes::server::Server;
use keyledger_tests::seed;
use serde_json::{Value, json};

const WRITERS: usize = 8;
const READERS: usize = 8;

/// The service over a kept-alive connection.
struct Service {
    connection: Connection,
    client: Client,
    keys: Arc<Vec<Issued>>,
    verifications: Arc<Vec<Vec<u8>>>,
}

impl Service {
    fn new(client: &Client, keys: &Arc<Vec<Issued>>) -> Self {
        let verification = |key: &Issued| {
            client.post("/v1/keys/verify", &json!({ "token": key.token })).encode("keep-alive")
        };
        Self {
            connection: Connection::open(client.address()).expect("the server listens"),
            client: client.clone(),
            keys: Arc::clone(keys),
            verifications: Arc::new(keys.iter().map(verification).collect()),
        }
    }
}

impl Target for Service {
    fn switch(&mut self, key: usize, active: bool) {
        let command = if active { "/reactivate" } else { "/revoke" };
        let request = self.client.post(&self.keys[key].path(command), &json!({})).encode("keep-alive");
        let (status, body) = self.connection.exchange(&request).expect("the server answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
    }

    fn is_valid(&mut self, key: usize) -> bool {
        let (status, body) = self.connection.exchange(&self.verifications[key]).expect("the server answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
        let answer: Value = serde_json::from_slice(body).expect("an answer is JSON");
        match answer["code"].as_str() {
            Some("VALID") => true,
            Some("REVOKED") => false,
            _ => panic!("{answer}"),
        }
    }
}

fn service() -> (Server, Client, Arc<Vec<Issued>>) {
    let server = Server::start();
    let client = server.client();
    let organization = fixture::organization(&client, "paid");
    let keys = Arc::new((0..WRITERS).map(|_| key(&client, &organization, json!({}))).collect());
    (server, client, keys)
}

#[test]
fn holds_under_load() {
    let seconds =
        env::var("KEYLEDGER_REVOCATION_SECONDS").map_or(30, |it| it.parse().expect("a number of seconds"));
    let mut rng = seed::rng("revocation");
    let (_server, client, keys) = service();
    let time = Duration::from_secs(seconds);
    let history = History::record(WRITERS, READERS, time, &mut rng, || Service::new(&client, &keys));
    let decisive = history.decisive_reads();
    println!(
        "{} writes, {} reads, {decisive} with one right answer",
        history.writes.len(),
        history.reads.len()
    );
    let violations = history.violations();
    assert!(
        violations.is_empty(),
        "{} answers were out of date, the first: {:?}",
        violations.len(),
        violations[0]
    );
    assert!(history.writes.len() > 1_000 && decisive > 1_000, "too few operations for a meaningful run");
}

/// A service with a cache in front of its verifications, as a client might add one.
struct Cached {
    service: Service,
    lifetime: Duration,
    cache: HashMap<usize, (Instant, bool)>,
}

impl Target for Cached {
    fn switch(&mut self, key: usize, active: bool) {
        self.service.switch(key, active);
    }

    fn is_valid(&mut self, key: usize) -> bool {
        let fresh = |entry: &&(Instant, bool)| entry.0.elapsed() < self.lifetime;
        if let Some((_, valid)) = self.cache.get(&key).filter(fresh) {
            return *valid;
        }
        let valid = self.service.is_valid(key);
        self.cache.insert(key, (Instant::now(), valid));
        valid
    }
}

#[test]
fn the_check_detects_a_cache_in_front_of_the_service() {
    let mut rng = seed::rng("cached revocation");
    let (_server, client, keys) = service();
    let history = History::record(WRITERS, READERS, Duration::from_secs(2), &mut rng, || Cached {
        service: Service::new(&client, &keys),
        lifetime: Duration::from_millis(5),
        cache: HashMap::new(),
    });
    assert!(!history.violations().is_empty());
}

/// A write that the index has not applied yet: when it was issued, the key, and whether it reactivates.
type Waiting = (Instant, usize, bool);

/// An index in memory that applies a write before the write is acknowledged, or a little after.
#[derive(Clone)]
struct Index {
    active: Arc<Vec<AtomicBool>>,
    late: Option<Arc<Mutex<Vec<Waiting>>>>,
}

impl Index {
    fn new(late: bool) -> Self {
        Self {
            active: Arc::new((0..WRITERS).map(|_| AtomicBool::new(true)).collect()),
            late: late.then(Arc::default),
        }
    }

    /// Applies the writes that have waited long enough.
    fn catch_up(&self) {
        let Some(late) = &self.late else { return };
        late.lock().unwrap().retain(|(since, key, active)| {
            let waits = since.elapsed() < Duration::from_micros(300);
            if !waits {
                self.active[*key].store(*active, Ordering::SeqCst);
            }
            waits
        });
    }
}

impl Target for Index {
    fn switch(&mut self, key: usize, active: bool) {
        // The time that a commit takes.
        thread::sleep(Duration::from_micros(100));
        match &self.late {
            Some(late) => late.lock().unwrap().push((Instant::now(), key, active)),
            None => self.active[key].store(active, Ordering::SeqCst),
        }
    }

    fn is_valid(&mut self, key: usize) -> bool {
        self.catch_up();
        self.active[key].load(Ordering::SeqCst)
    }
}

#[test]
fn the_check_distinguishes_an_exact_index_from_a_late_one() {
    let mut rng = seed::rng("index");
    let mut violations = |late: bool| {
        let index = Index::new(late);
        History::record(WRITERS, READERS, Duration::from_millis(500), &mut rng, || index.clone())
            .violations()
            .len()
    };
    assert_eq!(violations(false), 0);
    assert!(violations(true) > 0);
}

#[test]
fn the_next_verification_on_another_connection_is_refused() {
    let (_server, client, keys) = service();
    let issued = &keys[0];
    let address: SocketAddr = client.address();
    let mut connections: Vec<Connection> = (0..4).map(|_| Connection::open(address).unwrap()).collect();
    let verification = client.post("/v1/keys/verify", &json!({ "token": issued.token })).encode("keep-alive");
    for _ in 0..100 {
        for (command, expected) in [("/revoke", "\"REVOKED\""), ("/reactivate", "\"VALID\"")] {
            client.post(&issued.path(command), &json!({})).expect(200);
            for connection in &mut connections {
                let (_, body) = connection.exchange(&verification).unwrap();
                assert!(
                    String::from_utf8_lossy(body).contains(expected),
                    "{}",
                    String::from_utf8_lossy(body)
                );
            }
        }
    }
}
