//! Verification over HTTP, compared with a service that does nothing and with a lookup in Redis. The servers
//! run on one core in turn, and the client on the other.

use keyledger_tests::processes::server::{Options, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;

use crate::Settings;
use crate::baseline::Baseline;
use crate::neighbours::{Redis, command};
use crate::ratio::{Figures, Report, cpu_seconds};
use keyledger_tests::client::load::{Load, Protocol};
use keyledger_tests::data::keys::{self, CONNECTIONS, body_of};

const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";

/// Runs the comparison and adds it to the report.
pub(crate) fn measure(settings: &Settings, report: &mut Report) {
    let place = settings.place();
    let server =
        Server::start_with(Options { core: Some(0), place: Some(place.into()), ..Options::default() });
    let client = server.client();
    eprintln!("creating {} keys", settings.keys);
    let mut tokens = keys::create(&client, settings.keys);
    tokens.shuffle(&mut StdRng::seed_from_u64(1));

    let verify =
        |token: &String| client.post("/v1/keys/verify", &json!({ "token": token })).encode("keep-alive");
    let requests: Vec<Vec<u8>> = tokens.iter().map(verify).collect();
    let sample = client.post("/v1/keys/verify", &json!({ "token": tokens[0] })).expect(200);
    let answer_len = sample.body.len();
    let baseline = Baseline::start(SERVER_CORE, answer_len);
    let redis = Redis::start(SERVER_CORE, place);
    redis.fill(&tokens, answer_len);
    let gets: Vec<_> = tokens.iter().map(|token| command(&["GET", token])).collect();
    move_to_core(std::process::id(), CLIENT_CORE);

    let mut own = Load::connect(client.address(), Protocol::Http, CONNECTIONS);
    let mut nothing = Load::connect(baseline.address, Protocol::Http, CONNECTIONS);
    let mut lookup = Load::connect(redis.address, Protocol::Redis, CONNECTIONS);
    let (mut verified, mut noop, mut got) = (Figures::default(), Figures::default(), Figures::default());
    let (mut got_by_its_own, mut spent, mut served) = (Figures::default(), [0.0; 3], [0.0; 3]);
    for round in 0..=settings.rounds {
        // The first round is a warm-up.
        let length = if round == 0 { settings.round / 3 } else { settings.round };
        let (mut a, mut b, mut c) = (requests.iter().cycle(), requests.iter().cycle(), gets.iter().cycle());
        let pids = [server.pid(), baseline.pid(), redis.pid()];
        let before = pids.map(cpu_seconds);
        let figures = [
            own.run(length, || a.next().unwrap(), check_valid),
            nothing.run(length, || b.next().unwrap(), |_| {}),
            lookup.run(length, || c.next().unwrap(), |_| {}),
        ];
        for (index, pid) in pids.into_iter().enumerate() {
            spent[index] += cpu_seconds(pid) - before[index];
            served[index] += figures[index] * length.as_secs_f64();
        }
        let by_its_own = redis.gets(CLIENT_CORE, CONNECTIONS, length);
        eprintln!(
            "verify {:.0}/s, no-op {:.0}/s, Redis GET {:.0}/s, by redis-benchmark {by_its_own:.0}/s",
            figures[0], figures[1], figures[2]
        );
        if round > 0 {
            verified.0.push(figures[0]);
            noop.0.push(figures[1]);
            got.0.push(figures[2]);
            got_by_its_own.0.push(by_its_own);
        }
    }
    move_to_core(std::process::id(), &format!("{SERVER_CORE},{CLIENT_CORE}"));
    report.compare("HTTP verify / no-op axum endpoint of the same sizes", &verified, &noop, 0.90);
    report.compare(
        "HTTP verify / Redis GET of the same size by redis-benchmark",
        &verified,
        &got_by_its_own,
        1.0,
    );
    report.show("... / Redis GET by Keyledger's load generator", &verified, &got);
    note_costs(report, spent, served);
    report.note(format!(
        "verify: {} keys, {CONNECTIONS} connections, request {} bytes, answer {answer_len} bytes of JSON, {} rounds of {:?}",
        tokens.len(),
        requests[0].len(),
        settings.rounds,
        settings.round
    ));
}

pub(crate) fn check_valid(answer: &[u8]) {
    let body = body_of(answer);
    assert!(body.windows(7).any(|it| it == b"\"VALID\""), "{}", String::from_utf8_lossy(body));
}

/// Notes the processor time per request of each server.
fn note_costs(report: &mut Report, spent: [f64; 3], served: [f64; 3]) {
    let cost = |index: usize| spent[index] / served[index] * 1e6;
    report.note(format!(
        "processor time per request: verify {:.1} us, no-op {:.1} us, Redis GET {:.1} us",
        cost(0),
        cost(1),
        cost(2)
    ));
}

/// Pins a process to cores.
pub(crate) fn move_to_core(pid: u32, cores: &str) {
    let pid = pid.to_string();
    let moved = std::process::Command::new("taskset").args(["-a", "-p", "-c", cores, &pid]).output();
    if !moved.is_ok_and(|output| output.status.success()) {
        eprintln!("cannot pin process {pid} to core {cores}; client and servers share cores");
    }
}
