//! The service compared with another build of it, in alternating rounds.

use std::env;
use std::path::PathBuf;

use keyledger_tests::client::load::{Load, Protocol};
use keyledger_tests::data::keys::{self, CONNECTIONS, create_requests};
use keyledger_tests::processes::server::{Options, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;

use crate::Settings;
use crate::ratio::{Figures, Report, cpu_seconds};
use crate::verifications::{check_valid, move_to_core};

/// The argument that selects this part. The next argument is the path of the other binary.
pub(crate) const ARGUMENT: &str = "versions";

/// One build under load.
struct Contestant {
    server: Server,
    verify: Vec<Vec<u8>>,
    create: Vec<Vec<u8>>,
    load: Load,
    verified: Figures,
    created: Figures,
    /// Processor time per verification and per creation, in microseconds.
    spent: [Figures; 2],
}

impl Contestant {
    fn start(settings: &Settings, program: Option<PathBuf>) -> Self {
        let place = Some(settings.place().into());
        let server = Server::start_with(Options { program, place, ..Options::default() });
        let client = server.client();
        let mut tokens = keys::create(&client, settings.keys);
        tokens.shuffle(&mut StdRng::seed_from_u64(1));
        let verify = |token| client.post("/v1/keys/verify", &json!({ "token": token })).encode("keep-alive");
        Self {
            verify: tokens.iter().map(verify).collect(),
            create: create_requests(&client),
            load: Load::connect(client.address(), Protocol::Http, CONNECTIONS),
            verified: Figures::default(),
            created: Figures::default(),
            spent: [Figures::default(), Figures::default()],
            server,
        }
    }

    /// Runs one round. The service has core 0 for verifications and all cores for creations.
    fn round(&mut self, settings: &Settings, counts: bool) -> [f64; 2] {
        let pid = self.server.pid();
        let mut measured = [0.0; 2];
        for (part, cores) in ["0", "0,1"].into_iter().enumerate() {
            move_to_core(pid, cores);
            move_to_core(std::process::id(), if part == 0 { "1" } else { "0,1" });
            let requests = if part == 0 { &self.verify } else { &self.create };
            let mut next = requests.iter().cycle();
            let before = cpu_seconds(pid);
            let rate = self.load.run(
                settings.round,
                || next.next().unwrap(),
                |answer| {
                    if part == 0 {
                        check_valid(answer);
                    } else {
                        assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(answer));
                    }
                },
            );
            let spent = (cpu_seconds(pid) - before) * 1e6 / (rate * settings.round.as_secs_f64());
            measured[part] = rate;
            if counts {
                self.spent[part].0.push(spent);
                [&mut self.verified, &mut self.created][part].0.push(rate);
            }
        }
        measured
    }
}

/// Runs the comparison and adds it to the report.
pub(crate) fn measure(settings: &Settings, report: &mut Report) {
    let other = env::args().nth(2).expect("name the other binary: versions PATH");
    let mut both = [None, Some(PathBuf::from(other))].map(|program| Contestant::start(settings, program));
    for round in 0..=settings.rounds {
        // Whoever is first alternates, and the first round is a warm-up.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for index in order {
            let [verified, created] = both[index].round(settings, round > 0);
            eprintln!("{}: verify {verified:.0}/s, create {created:.0}/s", ["this", "other"][index]);
        }
    }
    let [own, other] = both;
    report.show("HTTP verify, this build / the other", &own.verified, &other.verified);
    report.show("durable create, this build / the other", &own.created, &other.created);
    for (part, what) in ["verification", "create"].into_iter().enumerate() {
        report.note(format!(
            "processor time per {what}: {:.2} us, the other {:.2} us",
            own.spent[part].median(),
            other.spent[part].median()
        ));
    }
}
