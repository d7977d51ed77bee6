//! What one client can do to others: verification's latency while a member creates as fast as it can, while
//! hundreds of readers do not read, and the service while one address holds thousands of connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::connection::Connection;
use keyledger_tests::client::http::Client;
use keyledger_tests::client::source::{ELSEWHERE, connect_from, connect_to_stall};
use keyledger_tests::data::fixture::{follow, key_body, organization, portal_link};
use keyledger_tests::data::keys;
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::Settings;
use crate::ratio::Report;

/// The argument that selects this part.
pub(crate) const ARGUMENT: &str = "abuse";

const EVENTS: usize = 20_000;
const READERS: usize = 200;
const MEMBER_CONNECTIONS: usize = 12;
const IDLE_CONNECTIONS: usize = 8_192;
/// The time of one measurement.
const TIME: Duration = Duration::from_secs(10);
/// The pause between two verifications.
const PAUSE: Duration = Duration::from_millis(1);
const MIB: usize = 1024 * 1024;

/// Latencies of verifications.
struct Latencies(Vec<Duration>);

impl Latencies {
    /// Verifies again and again on one connection.
    fn measure(client: &Client, tokens: &[String]) -> Self {
        let mut connection = Connection::open(client.address()).unwrap();
        let (begun, mut all) = (Instant::now(), Vec::new());
        let mut tokens = tokens.iter().cycle();
        while begun.elapsed() < TIME {
            let body = json!({ "token": tokens.next().unwrap() });
            let request = client.post("/v1/keys/verify", &body).encode("keep-alive");
            let asked = Instant::now();
            let (status, answer) = connection.exchange(&request).unwrap();
            all.push(asked.elapsed());
            assert!(status == 200 && answer.starts_with(b"{\"valid\":true"), "{status}");
            thread::sleep(PAUSE);
        }
        all.sort_unstable();
        Self(all)
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn shown(&self) -> String {
        let [median, p99] = [50, 99].map(|percent| self.percentile(percent));
        format!("{} verifications, median {median:.1?}, p99 {p99:.1?}", self.0.len())
    }
}

fn verdict(holds: bool) -> &'static str {
    if holds { "PASS" } else { "FAIL" }
}

/// Compares the 99th percentile with that of a quiet service.
fn compare(report: &mut Report, what: &str, quiet: &Latencies, under: &Latencies, most: f64) {
    let ratio = under.percentile(99).as_secs_f64() / quiet.percentile(99).as_secs_f64();
    let line = format!("{what}: {}; p99 {ratio:.2} times the quiet one, at most {most}", under.shown());
    report.note(format!("{line}  {}", verdict(ratio <= most)));
}

/// Runs all three parts and adds them to the report.
pub(crate) fn measure(settings: &Settings, report: &mut Report) {
    let place = Some(settings.place().into());
    let server = Server::start_with(Options { place, ..Options::default() });
    let client = server.client();
    let tokens = keys::create(&client, EVENTS);
    let quiet = Latencies::measure(&client, &tokens);
    report.note(format!("quiet: {}", quiet.shown()));
    flood(&server, &tokens, &quiet, report);
    stall(&server, &tokens, &quiet, report);
    occupy(settings, report);
}

/// A member creates keys with as much metadata as fits, on many connections.
fn flood(server: &Server, tokens: &[String], quiet: &Latencies, report: &mut Report) {
    let client = server.client();
    let organization = organization(&client, "paid");
    let (_, link) = portal_link(&client, &organization, "member", json!({ "user_id": "u1" }));
    let (cookie, csrf_token) = follow(&client, &link);
    let member = client.with_session(&cookie, &csrf_token);
    let metadata = json!({ "metadata": { "text": "x".repeat(16_000) } });
    let request = member.post("/v1/keys", &key_body(&organization, metadata)).encode("keep-alive");
    let (ended, created, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let before = server.resident();
    let under = thread::scope(|scope| {
        for _ in 0..MEMBER_CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::open(client.address()).unwrap();
                while !ended.load(Ordering::Relaxed) {
                    let status = connection.exchange(&request).unwrap().0;
                    let counter = if status == 201 { &created } else { &refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let under = Latencies::measure(&client, tokens);
        ended.store(true, Ordering::Relaxed);
        under
    });
    compare(report, "a member creates as fast as it can", quiet, &under, 1.5);
    let [created, refused] = [created, refused].map(AtomicU64::into_inner);
    let grown = server.resident().saturating_sub(before) / MIB;
    report.note(format!("  {created} created, {refused} refused, memory +{grown} MiB"));
}

/// Readers ask for the whole log and read nothing.
fn stall(server: &Server, tokens: &[String], quiet: &Latencies, report: &mut Report) {
    let client = server.client();
    let operators: Vec<Client> = (0..2)
        .map(|_| {
            client.with_token(&keyledger_tests::data::fixture::root_key(&client, &["events:read"], None).1)
        })
        .collect();
    let before = server.resident();
    let readers: Vec<TcpStream> = (0..READERS)
        .map(|number| {
            let accept = ["application/x-ndjson", "text/event-stream"][number % 2];
            let request = operators[number % 2].get("/v1/events?after=0").header("accept", accept);
            let mut socket = connect_to_stall(client.address()).unwrap();
            socket.write_all(&request.encode("close")).unwrap();
            socket
        })
        .collect();
    let under = Latencies::measure(&client, tokens);
    compare(report, &format!("{READERS} readers do not read"), quiet, &under, 3.0);
    let grown = server.resident().saturating_sub(before) / MIB;
    drop(readers);
    let begun = Instant::now();
    let given_back = || server.resident().saturating_sub(before) / MIB < 16;
    while !given_back() && begun.elapsed() < Duration::from_secs(40) {
        thread::sleep(Duration::from_millis(200));
    }
    let took = begun.elapsed().as_secs();
    report.note(format!(
        "  memory +{grown} MiB, at most 256  {}; back within 16 MiB after {took} s, at most 30  {}",
        verdict(grown <= 256),
        verdict(given_back() && took <= 30)
    ));
}

/// One address opens as many connections as the service has, and sends nothing.
fn occupy(settings: &Settings, report: &mut Report) {
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    let socket = settings.place().join("keyledger.sock");
    let place = Some(settings.place().into());
    let arguments = vec!["--listen".into(), format!("unix:{}", socket.display())];
    let server = Server::start_with(Options { arguments, place, ..Options::default() });
    let client = server.client();
    let request = client.get("/healthz").encode("close");
    let idle: Vec<TcpStream> =
        (0..IDLE_CONNECTIONS).filter_map(|_| TcpStream::connect(client.address()).ok()).collect();
    let answers = |socket: &mut dyn ReadWrite| {
        let mut answer = String::new();
        let _ = socket.write_all(&request);
        let _ = socket.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 200")
    };
    let others = answers(&mut connect_from(ELSEWHERE, client.address()).unwrap());
    let unix = answers(&mut UnixStream::connect(&socket).unwrap());
    report.note(format!(
        "{} idle connections of one address: another address is served  {}; the Unix socket is served  {}",
        idle.len(),
        verdict(others),
        verdict(unix)
    ));
    poll::until("the idle connections to be closed", Duration::from_secs(30), || {
        answers(&mut TcpStream::connect(client.address()).unwrap()).then_some(())
    });
}

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}
