//! Rebuilding projections from the log: in a running service that keeps answering, and at its start.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::{Client, Response};
use keyledger_tests::client::transcript::Transcript;
use keyledger_tests::data::fixture::{self, key, organization, text};
use keyledger_tests::data::large_log::LargeLog;
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server, free_address};
use keyledger_tests::{poll, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const PROJECTIONS: [&str; 2] = ["key-list", "audit-trail"];
/// The time limit of a rebuild, for a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn projection(client: &Client, name: &str) -> Value {
    client.get(&format!("/v1/projections/{name}")).expect(200).json()
}

fn rebuild(client: &Client, name: &str) -> Response {
    client.post(&format!("/v1/projections/{name}/rebuild"), &json!({})).send()
}

/// Waits until a projection was rebuilt `count` times.
fn rebuilt(client: &Client, name: &str, count: u64) {
    poll::until("the projection to be rebuilt", LIMIT, || {
        let projection = projection(client, name);
        assert_eq!(projection["rebuilds_failed"], 0, "{projection}");
        (projection["rebuilds_finished"].as_u64() >= Some(count) && projection["rebuild"].is_null())
            .then_some(())
    });
}

fn inode(data: &Path, name: &str) -> u64 {
    fs::metadata(data.join("projections").join(format!("{name}.redb"))).unwrap().ino()
}

/// The files of the projections, without the verification index's snapshot.
fn files(data: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data.join("projections")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".snapshot")).collect()
}

fn only_projections() -> BTreeSet<String> {
    PROJECTIONS.map(|name| format!("{name}.redb")).into()
}

#[track_caller]
fn diff_is_clean(data: &Path) {
    let output =
        Command::new(binaries::path("replay-tool")).args(["diff", "--data"]).arg(data).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn an_administrator_can_rebuild_a_projection() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = |n| key(&client, &organization, json!({ "name": format!("key {n}") }));
    let last = (0..50).map(issued).fold(0, |last, key| key.position.max(last)).to_string();
    let list = || {
        let request = client.get("/v1/keys?limit=200&sort=created_at");
        request.header("keyledger-min-position", &last).expect(200).json()
    };
    let before = list();
    for name in PROJECTIONS {
        let old = inode(&server.data(), name);
        let answer = rebuild(&client, name);
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(answer.header("location"), Some(format!("/v1/projections/{name}").as_str()));
        assert_eq!(answer.json()["name"], name);
        rebuilt(&client, name, 1);
        assert_ne!(inode(&server.data(), name), old, "the file was replaced");
    }
    assert_eq!(files(&server.data()), only_projections());
    assert_eq!(before["total"], 50);
    assert_eq!(list(), before);
    let all = client.get("/v1/projections").expect(200).json();
    let names: Vec<String> = all["data"].as_array().unwrap().iter().map(|it| text(&it["name"])).collect();
    assert_eq!(names, PROJECTIONS);
    for wrong in ["verification-index", "nothing", "key-list.redb"] {
        assert_eq!(rebuild(&client, wrong).code(), "projection_not_found");
    }
    let metrics = client.get("/metrics").expect(200).text();
    assert!(metrics.contains("keyledger_projection_rebuilds_total{projection=\"key-list\"} 1"), "{metrics}");
    assert!(metrics.contains("keyledger_projection_rebuilding{projection=\"key-list\"} 0"), "{metrics}");
    server.stop();
    diff_is_clean(&server.data());
}

/// The counts of a writer of the mixed load.
#[derive(Default)]
struct Counts {
    created: AtomicUsize,
    changed: AtomicUsize,
    listed: AtomicUsize,
    refused: AtomicUsize,
}

/// Writes and reads its own writes until stopped.
fn write(client: &Client, organization: &str, mut rng: StdRng, stop: &AtomicBool, counts: &Counts) {
    let mut keys = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if keys.len() < 5 || rng.random_ratio(1, 3) {
            keys.push(key(client, organization, json!({ "name": "mixed" })));
            counts.created.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let index = rng.random_range(0..keys.len());
        let issued = &keys[index];
        let name = format!("renamed {}", rng.random::<u64>());
        let answer = match rng.random_range(0..10) {
            0 => {
                let answer = client.delete(&issued.path("")).expect(204);
                keys.swap_remove(index);
                answer
            }
            1 => {
                client.post(&issued.path("/revoke"), &json!({})).expect(200);
                client.post(&issued.path("/reactivate"), &json!({})).expect(200)
            }
            _ => {
                let position =
                    client.patch(&issued.path(""), &json!({ "name": name })).expect(200).position();
                // Also during a rebuild, an answered write is in the list and in the trail.
                let min = position.to_string();
                let found = client.get(&format!("/v1/keys?q={}", name.replace(' ', "%20")));
                let found = found.header("keyledger-min-position", &min).expect(200);
                assert!(found.position() >= position);
                assert_eq!(found.json()["total"], 1, "{name}");
                let events = client
                    .get(&format!("/v1/events?organization_id={organization}&sort=-position&limit=200"));
                let events = events.header("keyledger-min-position", &min).expect(200).json();
                let mut positions =
                    events["data"].as_array().unwrap().iter().map(|it| it["position"].as_u64());
                assert!(positions.any(|it| it == Some(position)));
                counts.listed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        };
        assert!(answer.position() > 0);
        counts.changed.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn rebuilds_under_load_leave_equal_projections() {
    let seconds: u64 = env::var("KEYLEDGER_MIXED_LOAD_SECONDS").map_or(12, |it| it.parse().expect("seconds"));
    let mut rng = seed::rng("mixed load");
    let mut server = Server::start();
    let client = server.client();
    let organizations: Vec<String> = (0..4).map(|_| organization(&client, "paid")).collect();
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let mut rebuilds = 0;
    thread::scope(|scope| {
        for organization in &organizations {
            let (client, stop, counts) = (server.client(), &stop, &counts);
            let rng = StdRng::seed_from_u64(rng.random());
            scope.spawn(move || write(&client, organization, rng, stop, counts));
        }
        // Reads everything page by page, all the time.
        scope.spawn(|| {
            let client = server.client();
            while !stop.load(Ordering::Relaxed) {
                let mut path = "/v1/keys?sort=created_at&limit=200".to_owned();
                let mut seen = BTreeSet::new();
                loop {
                    let page = client.get(&path).expect(200).json();
                    for key in page["data"].as_array().unwrap() {
                        assert!(seen.insert(text(&key["id"])), "a key is on two pages");
                    }
                    let Some(cursor) = page["next_cursor"].as_str() else { break };
                    path = format!("/v1/keys?sort=created_at&limit=200&cursor={cursor}");
                }
            }
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        // Waits until there is something to rebuild.
        thread::sleep(Duration::from_secs(seconds) / 4);
        while Instant::now() < end {
            rebuilds += 1;
            for name in PROJECTIONS {
                assert_eq!(rebuild(&client, name).status, 202);
                if rebuild(&client, name).code() == "rebuild_running" {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            for name in PROJECTIONS {
                rebuilt(&client, name, rebuilds);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{seconds} s: {} keys created, {} changed, {} renamed and found, {rebuilds} rebuilds of each projection, {} refused meanwhile",
        load(&counts.created),
        load(&counts.changed),
        load(&counts.listed),
        load(&counts.refused),
    );
    assert!(load(&counts.listed) > 20 && rebuilds > 0, "too few requests for a meaningful run");
    assert_eq!(files(&server.data()), only_projections());
    server.stop();
    diff_is_clean(&server.data());
}

/// A server that was started without waiting for it.
struct Starting {
    address: SocketAddr,
    child: Child,
}

impl Starting {
    fn on(data: &Path, root_token: &str) -> Self {
        let address = free_address();
        let child = Command::new(binaries::path("keyledger"))
            .args(["serve", "--listen", &address.to_string(), "--data"])
            .arg(data)
            .env("KEYLEDGER_BOOTSTRAP_ROOT_KEY", root_token)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { address, child }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lists_without_their_files_are_refused_until_rebuilt() {
    let (keys, root_token) = (60_000, token::root());
    let directory = tempfile::Builder::new().prefix("keyledger-test-").tempdir().unwrap();
    let data = directory.path().join("data");
    let mut log = LargeLog::begin(&data, seed::rng("lists without their files"));
    log.organization("acme", "paid");
    let kept = log.keys("acme", None, keys);
    log.finish();
    let starting = Starting::on(&data, &root_token);
    // A client without earlier answers sends no position, and is refused without waiting.
    let stranger = || Client::new(starting.address, Transcript::default()).with_token(&root_token);
    let client = stranger();
    let (mut refusals, mut progress) = (0, Vec::new());
    let (mut listed, mut trail) = (false, false);
    let deadline = Instant::now() + LIMIT * 2;
    while !(listed && trail) {
        assert!(Instant::now() < deadline, "the lists are not ready in time");
        // There is no answer before the server listens.
        let Ok(answer) = stranger().get("/v1/keys?organization_id=acme&sort=created_at").try_send() else {
            continue;
        };
        if answer.status == 503 {
            assert_eq!(answer.code(), "projection_not_ready");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refusals += 1;
            let readiness = client.get("/readyz").send();
            if let Some(position) = readiness.json()["projections"][1]["rebuild"]["position"].as_u64() {
                assert_eq!(readiness.status, 503);
                progress.push(position);
            }
            // Verification does not depend on any of it.
            let verdict =
                client.post("/v1/keys/verify", &json!({ "token": kept[0].token })).expect(200).json();
            assert_eq!(verdict["code"], "VALID");
        } else {
            assert_eq!((answer.status, &answer.json()["total"]), (200, &json!(10_000)), "{}", answer.text());
            assert_eq!(answer.json()["data"][0]["id"].as_str().map(str::len), Some(30));
            assert!(answer.position() > keys as u64);
            listed = true;
        }
        // The export is requested first: if the list is refused a moment later, it was incomplete then too.
        let export = stranger().get("/v1/events?limit=1").header("accept", "text/csv").send();
        let answer = stranger().get("/v1/events?organization_id=acme&sort=-position&limit=1").send();
        if answer.status == 503 {
            assert_eq!(answer.code(), "projection_not_ready");
            assert_eq!((export.status, export.code()), (503, "projection_not_ready".to_owned()));
        } else {
            assert_eq!(
                answer.json()["data"][0]["position"].as_u64(),
                Some(keys as u64 + 1),
                "{}",
                answer.text()
            );
            trail = true;
        }
    }
    assert!(refusals > 0, "the rebuild was too fast to observe");
    assert!(progress.is_sorted(), "{progress:?}");
    println!("{refusals} refusals, progress {progress:?}");
    poll::until("ready", LIMIT, || (client.get("/readyz").send().status == 200).then_some(()));
    drop(starting);
    // A `kill -9` at this moment leaves usable files too.
    let server = Server::start_in(directory, &root_token, Options::default()).unwrap();
    assert_eq!(fixture::code(&server.client(), &kept[1].token), "VALID");
    assert_eq!(server.client().get("/v1/keys?limit=1").expect(200).json()["total_capped"], true);
}
