//! Clients that ask for the whole log and do not read it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::client::source::connect_to_stall;
use keyledger_tests::client::stream::Stream;
use keyledger_tests::data::fixture::{key, organization, root_key, signed_in, text};
use keyledger_tests::data::large_log::LargeLog;
use keyledger_tests::data::token;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::{poll, seed};
use serde_json::json;

const EVENTS: usize = 20_000;
const READERS: usize = 100;
const MIB: usize = 1024 * 1024;
const TIME_MAX: Duration = Duration::from_secs(20);

fn stall(client: &Client, accept: &str) -> TcpStream {
    let mut socket = connect_to_stall(client.address()).unwrap();
    let request = client.get("/v1/events?after=0").header("accept", accept).encode("close");
    socket.write_all(&request).unwrap();
    socket
}

/// The open connections, beside the one that asks.
fn connections(server: &Server) -> usize {
    let text = server.anonymous().get("/metrics").expect(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix("keyledger_http_connections "));
    line.unwrap().parse::<usize>().unwrap() - 1
}

#[test]
fn readers_that_do_not_read_cost_little_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng("slow readers"));
    log.organization("acme", "paid");
    let keys = log.keys("acme", None, EVENTS);
    log.finish();
    // The metrics are asked for often below.
    let arguments = ["--rate-limit-anonymous", "0"].map(str::to_owned).to_vec();
    let options = Options { arguments, ..Options::default() };
    let server = Server::start_in(directory, &token::root(), options).unwrap_or_else(|it| panic!("{it:?}"));
    let client = server.client();
    // Read once, so that what reading takes by itself is not counted.
    let all = client.get("/v1/events").header("accept", "application/x-ndjson").expect(200).text();
    assert!(all.lines().count() > EVENTS);
    let before = server.resident();
    let begun = Instant::now();
    let formats = ["application/x-ndjson", "text/csv", "text/event-stream"];
    let readers: Vec<TcpStream> =
        formats.iter().cycle().take(READERS).map(|format| stall(&client, format)).collect();
    poll::until("all readers to be there", TIME_MAX, || (connections(&server) >= READERS).then_some(()));
    // Others are served.
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(3) {
        let key = &keys[begun.elapsed().subsec_micros() as usize % keys.len()];
        let asked = Instant::now();
        let verdict = client.post("/v1/keys/verify", &json!({ "token": key.token })).expect(200).json();
        assert_eq!(verdict["code"], "VALID");
        slowest = slowest.max(asked.elapsed());
        let _ = organization(&client, "paid");
    }
    assert!(slowest < Duration::from_secs(1), "a verification took {slowest:?}");
    let grown = server.resident().saturating_sub(before) / MIB;
    assert!(grown < 100, "{READERS} readers take {grown} MiB");
    // They are disconnected, although the answer continues.
    poll::until("the readers to be disconnected", Duration::from_secs(60), || {
        (connections(&server) == 0).then_some(())
    });
    assert!(begun.elapsed() > Duration::from_secs(25), "{:?}", begun.elapsed());
    drop(readers);
}

#[test]
fn a_caller_reads_a_bounded_number_of_streams_files_and_backups() {
    let arguments = ["--max-streams-per-caller", "2"].map(str::to_owned).to_vec();
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let organization = organization(&client, "paid");
    let _ = key(&client, &organization, json!({}));
    let follow = |client: &Client| -> Stream {
        client.get("/v1/events?after=0").header("accept", "text/event-stream").stream()
    };
    let mut open = vec![follow(&client), follow(&client)];
    assert!(open.iter().all(|stream| stream.status == 200));
    for request in [
        client.get("/v1/events").header("accept", "text/event-stream"),
        client.get("/v1/events?format=ocsf"),
        client.get("/v1/backup"),
    ] {
        let refused = request.expect(429);
        assert_eq!(refused.code(), "rate_limited");
        assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
        let policy = refused.header("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"long-answers\";q=2;qu=\"concurrent-requests\"");
        assert_eq!(refused.header("ratelimit").unwrap(), "\"long-answers\";r=0");
        assert!(text(&refused.json()["detail"]).contains('2'));
    }
    // Pages are no streams, and others have streams of their own.
    client.get("/v1/events").expect(200);
    let auditors: Vec<Client> = (0..3).map(|_| signed_in(&client, &organization, "auditor")).collect();
    let (_, bound) = root_key(&client, &["events:read"], Some(&organization));
    let of_organization: Vec<Stream> =
        [&auditors[0], &auditors[0], &auditors[1], &auditors[1]].into_iter().map(follow).collect();
    assert!(of_organization.iter().all(|stream| stream.status == 200));
    // All callers of an organization share twice as many.
    assert_eq!(follow(&auditors[2]).status, 429);
    assert_eq!(follow(&client.with_token(&bound)).status, 429);
    // Whoever ends one may begin another.
    drop(open.pop());
    let mut again = poll::until("room for another stream", TIME_MAX, || {
        Some(follow(&client)).filter(|stream| stream.status == 200)
    });
    assert!(again.read(&mut [0; 16]).is_ok_and(|count| count > 0));
}
