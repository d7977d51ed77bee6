//! `kill -9` under load, again and again: everything acknowledged is there, and nothing that was not sent.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use keyledger_tests::client::connection::Connection;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, organization, text};
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use keyledger_tests::seed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const WRITERS: usize = 6;

/// The expected verification of a key's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Valid,
    Revoked,
    Gone,
}

impl State {
    const fn code(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Revoked => "REVOKED",
            Self::Gone => "NOT_FOUND",
        }
    }
}

/// A key as its writer knows it.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    token: String,
    state: State,
    /// The position and type of each acknowledged event.
    events: Vec<(u64, &'static str)>,
    /// The last request, if it was not answered before the kill. It may have taken effect.
    unanswered: Option<(&'static str, State)>,
}

/// One writer and its keys, kept across all rounds.
struct Writer {
    keys: Vec<Known>,
    organization: String,
    rng: StdRng,
}

impl Writer {
    /// Writes until the server is gone.
    fn write(&mut self, client: &Client, stop: &AtomicBool) {
        let Ok(mut connection) = Connection::open(client.address()) else { return };
        while !stop.load(Ordering::Relaxed) {
            let done = if self.keys.len() < 3 || self.rng.random_ratio(1, 4) {
                self.create(client, &mut connection)
            } else {
                self.change(client, &mut connection)
            };
            if done.is_none() {
                return;
            }
        }
    }

    fn create(&mut self, client: &Client, connection: &mut Connection) -> Option<()> {
        let body = fixture::key_body(&self.organization, json!({ "name": format!("k{}", self.keys.len()) }));
        let answer = exchange(connection, &client.post("/v1/keys", &body).encode("keep-alive"))?;
        let token = text(&answer["token"]);
        self.keys.push(Known {
            id: text(&answer["key"]["id"]),
            token,
            state: State::Valid,
            events: vec![(answer["position"].as_u64().unwrap(), "KeyCreated")],
            unanswered: None,
        });
        Some(())
    }

    fn change(&mut self, client: &Client, connection: &mut Connection) -> Option<()> {
        let index = self.rng.random_range(0..self.keys.len());
        let key = &mut self.keys[index];
        let path = |tail: &str| format!("/v1/keys/{}{tail}", key.id);
        let (request, event, after) = match (key.state, self.rng.random_range(0..10)) {
            (State::Gone, _) => return Some(()),
            (_, 0) => (client.delete(&path("")), "KeyDeleted", State::Gone),
            (state, 1..=3) => {
                let name = format!("n{}", self.rng.random::<u32>());
                (client.patch(&path(""), &json!({ "name": name })), "KeyRenamed", state)
            }
            (State::Valid, _) => (client.post(&path("/revoke"), &json!({})), "KeyRevoked", State::Revoked),
            (State::Revoked, _) => {
                (client.post(&path("/reactivate"), &json!({})), "KeyReactivated", State::Valid)
            }
        };
        key.unanswered = Some((event, after));
        let answer = exchange(connection, &request.encode("keep-alive"))?;
        key.unanswered = None;
        key.state = after;
        key.events.push((answer["position"].as_u64().unwrap(), event));
        Some(())
    }
}

/// Sends a request that must succeed if it is answered. Returns the answer and its position.
fn exchange(connection: &mut Connection, request: &[u8]) -> Option<Value> {
    connection.write(request).ok()?;
    let (status, position, body) = connection.read_with_position().ok()?;
    assert!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(body));
    let mut answer = if body.is_empty() { json!({}) } else { serde_json::from_slice(body).unwrap() };
    answer["position"] = position.expect("the answer to a write has a position").into();
    Some(answer)
}

/// All events in the log by key. Reading them checks that positions are dense.
#[derive(Default)]
struct Log {
    head: u64,
    keys: HashMap<String, Vec<(u64, String)>>,
}

impl Log {
    /// Reads the events since the last time.
    fn read_on(&mut self, client: &Client) {
        let path = format!("/v1/events?after={}", self.head);
        let answer = client.get(&path).header("accept", "application/x-ndjson").expect(200);
        for line in answer.text().lines() {
            let event: Value = serde_json::from_str(line).expect("a line is an event");
            self.head += 1;
            assert_eq!(event["position"].as_u64(), Some(self.head), "positions are dense");
            if let Some(key) = event["key_id"].as_str() {
                self.keys.entry(key.to_owned()).or_default().push((self.head, text(&event["type"])));
            }
        }
    }
}

/// Compares the log and the verifications with what every writer observed. Returns the number of acknowledged
/// events.
fn check_round(client: &Client, log: &mut Log, writers: &mut [Writer]) -> usize {
    log.read_on(client);
    let mut acknowledged = 0;
    for key in writers.iter_mut().flat_map(|writer| &mut writer.keys) {
        acknowledged += key.events.len();
        let stored = log.keys.get(&key.id).map_or(&[] as &[_], Vec::as_slice);
        if let Some((event, after)) = key.unanswered.take()
            && let [.., (position, last)] = stored
            && stored.len() == key.events.len() + 1
            && last == event
        {
            key.events.push((*position, event));
            key.state = after;
        }
        let stored: Vec<(u64, &str)> =
            stored.iter().map(|(position, event)| (*position, event.as_str())).collect();
        assert_eq!(stored, key.events, "the stored events of {} and the acknowledged ones", key.id);
    }
    let keys: Vec<&Known> = writers.iter().flat_map(|writer| &writer.keys).collect();
    for chunk in keys.chunks(500) {
        let tokens: Vec<&str> = chunk.iter().map(|key| key.token.as_str()).collect();
        let answer = client.post("/v1/keys/verify-batch", &json!({ "tokens": tokens })).expect(200).json();
        let codes: Vec<String> = fixture::batch(&answer).iter().map(|it| text(&it["code"])).collect();
        for (key, code) in chunk.iter().zip(codes) {
            assert_eq!(code, key.state.code(), "{} after {:?}", key.id, key.events);
        }
    }
    acknowledged
}

fn replay_tool(arguments: &[&str], data: &Path) {
    let output =
        Command::new(binaries::path("replay-tool")).args(arguments).arg("--data").arg(data).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{arguments:?}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn nothing_acknowledged_is_lost_in_fifty_kills() {
    let rounds: usize =
        env::var("KEYLEDGER_CRASH_ROUNDS").map_or(50, |it| it.parse().expect("a number of rounds"));
    let mut rng = seed::rng("crash");
    let mut server = Server::start();
    let client = server.client();
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|_| Writer {
            keys: Vec::new(),
            organization: organization(&client, "paid"),
            rng: StdRng::seed_from_u64(rng.random()),
        })
        .collect();
    let mut log = Log::default();
    for round in 1..=rounds {
        let client = server.client();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in &mut writers {
                let (client, stop) = (&client, &stop);
                scope.spawn(move || writer.write(client, stop));
            }
            thread::sleep(Duration::from_millis(rng.random_range(50..300)));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        // The tools must also cope with the data right after the kill, before a server has repaired it.
        replay_tool(&["verify"], &server.data());
        if round % 10 == 0 {
            replay_tool(&["diff"], &server.data());
        }
        server.start_again();
        let acknowledged = check_round(&server.client(), &mut log, &mut writers);
        println!("round {round}: {acknowledged} acknowledged events of {} are stored", log.head);
    }
    for writer in &writers {
        for key in &writer.keys {
            server.transcript().issue(&key.token);
        }
    }
    assert!(log.head > rounds as u64 * 10, "too few events for a meaningful run");
    server.stop();
    replay_tool(&["verify"], &server.data());
    replay_tool(&["diff"], &server.data());
    server.start_again();
    let total: usize = writers.iter().map(|writer| writer.keys.len()).sum();
    let live = writers.iter().flat_map(|it| &it.keys).filter(|it| it.state != State::Gone).count() as u64;
    let page = server.client().get("/v1/keys?limit=1").expect(200).json();
    let listed = page["total"].as_u64().unwrap();
    // Keys whose creation was not answered exist beside the known ones.
    let unknown = (rounds * WRITERS) as u64;
    assert!(
        listed >= live.min(10_000) && listed <= live + unknown,
        "{listed} listed, {live} of {total} known and live"
    );
}
