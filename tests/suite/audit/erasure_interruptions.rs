//! Erasures killed in the middle, by the service and by the replay tool: each has either not started or is
//! finished at the next start.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::organization;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::json;

use super::erasure::{
    check_erased, check_untouched, create, erase, files_with, good, mark, replay_tool, total,
};

const KEYS_OF_A_USER: usize = 20;

/// If the log has the erasure the text must be gone; if not, it must be there.
fn check_one_or_other(
    client: &Client,
    data: &Path,
    user: &str,
    key: &(String, String),
    erasures: &mut usize,
) {
    let seen = client.get("/v1/events?type=PersonalDataErased&limit=200").expect(200).json();
    let seen = seen["data"].as_array().unwrap().len();
    if seen > *erasures {
        *erasures = seen;
        check_erased(client, data, user, key);
    } else {
        check_untouched(client, user, KEYS_OF_A_USER, key);
    }
}

/// The delay before an erasure of this duration is killed: eighths of it, one after the other. An erasure
/// that ends before its delay shows that erasures take no longer.
fn delay(takes: Duration, point: usize) -> Duration {
    takes * u32::try_from(point).unwrap() / 8
}

/// A user's id, and the id and token of one of their keys.
type UserWithKey = (String, (String, String));

/// A server with an organization and `count` users, each with some keys, of which the first is returned.
fn server_with_users(count: usize) -> (Server, String, Vec<UserWithKey>) {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let users: Vec<(String, String)> = (0..count).map(|n| (org.clone(), format!("person{n}"))).collect();
    let keys = create(&client, &users, KEYS_OF_A_USER);
    for (_, token) in &keys {
        server.transcript().issue(token);
    }
    (server, org, users.into_iter().map(|(_, user)| user).zip(keys).collect())
}

#[test]
fn an_erasure_by_the_service_has_not_started_or_is_finished() {
    let (mut server, org, users) = server_with_users(11);
    let data = server.data();
    let started = Instant::now();
    erase(&server.client(), &org, Some(&users[10].0));
    let mut takes = started.elapsed();
    let mut erasures = 1;
    let mut cut_short = 0;
    for (point, (user, key)) in users[..10].iter().enumerate() {
        let client = server.client();
        thread::scope(|scope| {
            let subject = json!({ "subject": { "organization_id": org, "user_id": mark(user) } });
            let request = client.post("/v1/erasures", &subject);
            let sent = scope.spawn(move || request.try_send().is_ok_and(|answer| answer.status == 201));
            let delay = delay(takes, point);
            thread::sleep(delay);
            server.kill();
            if sent.join().unwrap() {
                takes = takes.min(delay);
            } else {
                cut_short += 1;
            }
        });
        server.start_again();
        check_one_or_other(&server.client(), &data, user, key, &mut erasures);
        erase(&server.client(), &org, Some(user));
        erasures += 1;
        check_erased(&server.client(), &data, user, key);
    }
    assert!(cut_short > 2, "only {cut_short} erasures were cut short");
    assert_eq!(total(&server.client(), "q=zqxuj"), 0);
}

#[test]
fn an_erasure_by_the_tool_has_not_started_or_is_finished() {
    let (mut server, org, users) = server_with_users(10);
    let data = server.data();
    server.stop();
    let mut cut_short = 0;
    let started = Instant::now();
    good(&replay_tool(&["erase", "--organization", &org, "--user", &mark(&users[9].0)], &data));
    let mut takes = started.elapsed();
    let mut erasures = 1;
    assert_eq!(files_with(&data, &users[9].0), [""; 0]);
    for (point, (user, key)) in users[..9].iter().enumerate() {
        let mut child = Command::new(binaries::path("replay-tool"))
            .args(["erase", "--organization", &org, "--user", &mark(user), "--data"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let delay = delay(takes, point);
        thread::sleep(delay);
        let _ = child.kill();
        if child.wait().unwrap().success() {
            takes = takes.min(delay);
        } else {
            cut_short += 1;
        }
        good(&replay_tool(&["verify"], &data));
        server.start_again();
        check_one_or_other(&server.client(), &data, user, key, &mut erasures);
        server.stop();
        good(&replay_tool(&["erase", "--organization", &org, "--user", &mark(user)], &data));
        erasures += 1;
        assert_eq!(files_with(&data, user), [""; 0]);
    }
    assert!(cut_short > 2, "only {cut_short} runs of the tool were cut short");
    server.start_again();
    assert_eq!(total(&server.client(), "q=zqxuj"), 0);
}
