//! Erasing personal text: it disappears from every answer and every file, and nothing else does.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use keyledger_tests::client::connection::Connection;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    code, events, issued, key, key_body, organization, portal_link, root_key, signed_in, text, verify,
};
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

const KEYS_OF_A_USER: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

/// A mark in everything that a user gives. It occurs nowhere else, in upper or lower case: no id has a U, and
/// the visible digits of a token are fewer than five.
pub(super) fn mark(user: &str) -> String {
    format!("Übermäßig-{user}-ZQXUJ")
}

/// A user's key with every text that a key can have.
fn body(organization: &str, user: &str, number: usize) -> Value {
    let mark = mark(user);
    key_body(
        organization,
        json!({
            "user_id": mark,
            "name": format!("Key {number} of {mark}"),
            "description": format!("For {mark}\nand no other"),
            "metadata": { "who": mark, "number": number },
        }),
    )
}

/// Creates keys of users under load. Returns each user's first key id and token.
pub(super) fn create(client: &Client, users: &[(String, String)], count: usize) -> Vec<(String, String)> {
    thread::scope(|scope| {
        let create = |(organization, user): (String, String)| {
            let mut connection = Connection::open(client.address()).unwrap();
            let mut first = None;
            for number in 0..count {
                let request = client.post("/v1/keys", &body(&organization, &user, number));
                let request = request.header("user-agent", &format!("agent-of-{user}-ZQXUJ/1"));
                connection.write(&request.encode("keep-alive")).unwrap();
                let (status, answer) = connection.read().unwrap();
                assert_eq!(status, 201, "{}", String::from_utf8_lossy(answer));
                let answer: Value = serde_json::from_slice(answer).unwrap();
                first.get_or_insert((text(&answer["key"]["id"]), text(&answer["token"])));
            }
            first.unwrap()
        };
        let running: Vec<_> = users.iter().cloned().map(|user| scope.spawn(move || create(user))).collect();
        running.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

/// The files under a directory that contain a user's mark in any case.
pub(super) fn files_with(directory: &Path, user: &str) -> Vec<String> {
    let ascii = format!("-{user}-zqxuj").to_ascii_lowercase().into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, user));
            continue;
        }
        // A file may be replaced between listing and reading it.
        let bytes = fs::read(&path).unwrap_or_default().to_ascii_lowercase();
        if memchr::memmem::find(&bytes, &ascii).is_some() {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

pub(super) fn erase(client: &Client, organization: &str, user: Option<&str>) -> Value {
    let subject = json!({ "organization_id": organization, "user_id": user.map(mark) });
    client.post("/v1/erasures", &json!({ "subject": subject })).expect(201).json()
}

pub(super) fn replay_tool(arguments: &[&str], data: &Path) -> Output {
    Command::new(binaries::path("replay-tool")).args(arguments).arg("--data").arg(data).output().unwrap()
}

#[track_caller]
pub(super) fn good(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The total of a key list.
pub(super) fn total(client: &Client, query: &str) -> u64 {
    client.get(&format!("/v1/keys?limit=1&{query}")).expect(200).json()["total"].as_u64().unwrap()
}

pub(super) fn check_erased(client: &Client, data: &Path, user: &str, (id, token): &(String, String)) {
    assert_eq!(files_with(data, user), [""; 0], "{user}");
    for query in [
        format!("q={user}-ZQXUJ"),
        format!("q={user}-zqxuj"),
        format!("user_id=%C3%9Cberm%C3%A4%C3%9Fig-{user}-ZQXUJ"),
    ] {
        assert_eq!(total(client, &query), 0, "{query}");
    }
    let verified = verify(client, token);
    assert_eq!(verified["code"], "VALID");
    for field in ["user_id", "name", "metadata"] {
        assert_eq!(verified[field], Value::Null, "{field}");
    }
    let shown = client.get(&format!("/v1/keys/{id}")).expect(200).json();
    for field in ["user_id", "name", "description", "metadata"] {
        assert_eq!(shown[field], Value::Null, "{field}");
    }
    let created = &events(client, id)[0];
    assert_eq!(created["data"]["erased"], true);
    assert_eq!(created["actor"]["ip"], Value::Null);
    assert_eq!(created["actor"]["user_agent"], Value::Null);
}

pub(super) fn check_untouched(client: &Client, user: &str, count: usize, (id, token): &(String, String)) {
    let verified = verify(client, token);
    assert_eq!((&verified["code"], &verified["user_id"]), (&json!("VALID"), &json!(mark(user))));
    assert_eq!(client.get(&format!("/v1/keys/{id}")).expect(200).json()["metadata"]["who"], mark(user));
    assert_eq!(total(client, &format!("q={user}-zqxuj")), count as u64);
    assert_eq!(events(client, id)[0]["data"].get("erased"), None);
}

/// Creates the keys of many users, some users at a time.
fn create_many(server: &Server, users: &[(String, String)]) -> Vec<(String, String)> {
    let create = |chunk| create(&server.client(), chunk, KEYS_OF_A_USER);
    let keys: Vec<_> = users.chunks(25).flat_map(create).collect();
    for (_, token) in &keys {
        server.transcript().issue(token);
    }
    keys
}

/// Checks with the replay tool that the log is still what was signed, and that a key's text is erased.
fn check_with_tool(data: &Path, checkpoint: &str, key_id: &str) {
    let kept = tempfile::tempdir().unwrap();
    let (file, proof) = (kept.path().join("checkpoint"), kept.path().join("event.tlog-proof"));
    fs::write(&file, checkpoint).unwrap();
    let verified = good(&replay_tool(&["verify", "--checkpoint", file.to_str().unwrap()], data));
    assert!(verified.contains("checkpoint"), "{verified}");
    good(&replay_tool(&["proof", "100", "--output", proof.to_str().unwrap()], data));
    good(&replay_tool(&["diff"], data));
    let shown = good(&replay_tool(&["show", key_id], data));
    assert!(shown.contains("[erased]"), "{shown}");
}

/// Checks that two erasures are in the log with their actor.
fn check_recorded(client: &Client) {
    let seen = client.get("/v1/events?type=PersonalDataErased").expect(200).json();
    let ips: Vec<&Value> =
        seen["data"].as_array().unwrap().iter().map(|event| &event["actor"]["ip"]).collect();
    assert_eq!(ips, ["127.0.0.1"; 2], "the actor of an erasure is not erased");
}

fn rebuild_key_list(client: &Client) {
    client.post("/v1/projections/key-list/rebuild", &json!({})).expect(202);
    poll::until("the rebuild", LIMIT, || {
        let shown = client.get("/v1/projections/key-list").expect(200).json();
        (shown["rebuilds_finished"] == 1).then_some(())
    });
}

/// Ten thousand keys of a hundred users in three organizations. One user and one organization are erased.
#[test]
fn erased_text_is_in_no_answer_and_in_no_file() {
    let mut server = Server::start();
    let client = server.client();
    let orgs: Vec<String> = (0..3).map(|_| organization(&client, "paid")).collect();
    let renamed = json!({ "name": format!("The organization of {}", mark("org1")) });
    client.patch(&format!("/v1/organizations/{}", orgs[1]), &renamed).expect(200);
    // Fifty users of the first organization, twenty-five of each other.
    let users: Vec<(String, String)> =
        (0..100).map(|n| (orgs[if n < 50 { 0 } else { 1 + n % 2 }].clone(), format!("person{n}"))).collect();
    let keys = create_many(&server, &users);
    let named = json!({ "name": format!("Caller of {}", mark("org1")), "permissions": ["keys:read"], "organization_id": orgs[1] });
    let root_key_id = text(&client.post("/v1/root-keys", &named).expect(201).json()["root_key"]["id"]);
    let victim = |n: usize| (users[n].1.as_str(), &keys[n]);
    let (user, users_key) = victim(7);
    let of_organization: Vec<usize> = (50..100).filter(|n| n % 2 == 0).collect();
    let untouched: Vec<usize> = (0..50).filter(|n| *n != 7).chain((50..100).filter(|n| n % 2 == 1)).collect();

    // Before the erasure, the list's file has the text; the log and the vault never do.
    let data = server.data();
    poll::until("the key list to be saved", LIMIT, || {
        (files_with(&data, user) == ["key-list.redb"]).then_some(())
    });
    assert_eq!(total(&client, &format!("q={user}-zqxuj")), KEYS_OF_A_USER as u64);
    let checkpoint = client.get("/log/checkpoint").expect(200).text();
    let entries = |client: &Client| client.get("/log/tile/entries/003").expect(200).body;
    let before = entries(&client);

    let erased = erase(&client, &orgs[0], Some(user));
    assert_eq!(
        (&erased["subject"], &erased["subject_keys"], &erased["organization_id"]),
        (&json!("user"), &json!(1), &json!(orgs[0]))
    );
    check_erased(&client, &data, user, users_key);
    let erased = erase(&client, &orgs[1], None);
    assert_eq!((&erased["subject"], &erased["subject_keys"]), (&json!("organization"), &json!(26)));
    // The first, a middle and the last of the fifty users.
    let some_of_organization = [of_organization[0], of_organization[12], of_organization[24]];
    let check = |client: &Client| {
        check_erased(client, &data, user, users_key);
        for n in some_of_organization {
            let (user, key) = victim(n);
            check_erased(client, &data, user, key);
        }
        assert_eq!(files_with(&data, "org1"), [""; 0]);
        assert_eq!(total(client, &format!("organization_id={}", orgs[1])), 2_500);
        for path in [format!("/v1/organizations/{}", orgs[1]), format!("/v1/root-keys/{root_key_id}")] {
            assert_eq!(client.get(&path).expect(200).json()["name"], Value::Null, "{path}");
        }
        assert_eq!(total(client, "q=zqxuj"), untouched.len() as u64 * KEYS_OF_A_USER as u64);
        for n in untouched.iter().step_by(9) {
            check_untouched(client, &users[*n].1, KEYS_OF_A_USER, &keys[*n]);
        }
    };
    check(&client);
    assert_eq!(entries(&client), before, "stored bytes stay");
    check_recorded(&client);

    // Still erased after a restart, a rebuild by the service and a rebuild by the tool.
    server.stop();
    check_with_tool(&data, &checkpoint, &users_key.0);
    server.start_again();
    check(&server.client());
    rebuild_key_list(&server.client());
    check(&server.client());
    server.kill();
    good(&replay_tool(&["rebuild"], &data));
    good(&replay_tool(&["verify"], &data));
    server.start_again();
    check(&server.client());
}

/// Slow streams buffer text that was read before it was erased.
#[test]
fn open_streams_do_not_leak_erased_text() {
    const METADATA_LEN: usize = 12_000;
    const KEYS: usize = 2_000;
    /// More than the buffers at both ends of a connection.
    const ON_ITS_WAY_MAX: usize = 8 << 20;
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let mark = mark("reader");
    let text = mark.repeat(METADATA_LEN / mark.len());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = Connection::open(client.address()).unwrap();
                let body = key_body(&organization, json!({ "user_id": mark, "metadata": { "text": text } }));
                let request = client.post("/v1/keys", &body).encode("keep-alive");
                for _ in 0..KEYS / 4 {
                    connection.write(&request).unwrap();
                    assert_eq!(connection.read().unwrap().0, 201);
                }
            });
        }
    });
    let head = key(&client, &organization, json!({})).position.to_string();
    let open = |accept: &str| {
        let request = client.get(&format!("/v1/events?organization_id={organization}"));
        let request = request.header("accept", accept).header("keyledger-min-position", &head);
        let mut socket = TcpStream::connect(client.address()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.write_all(&request.encode("close")).unwrap();
        let mut begun = [0; 1_024];
        socket.read_exact(&mut begun).unwrap();
        assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun));
        socket
    };
    let mut streams = ["application/x-ndjson", "text/event-stream"].map(open);
    let subject = json!({ "subject": { "organization_id": organization, "user_id": mark } });
    let erased = client.post("/v1/erasures", &subject).expect(201).position().to_string();
    for socket in &mut streams {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        let found = memchr::memmem::find_iter(&rest, mark.as_bytes()).count() * mark.len();
        assert!(found < ON_ITS_WAY_MAX, "{found} bytes of erased text of {}", rest.len());
        assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "the stream does not look complete");
    }
    // A new request returns everything except the text.
    let whole = client.get(&format!("/v1/events?organization_id={organization}"));
    let whole = whole.header("accept", "application/x-ndjson").header("keyledger-min-position", &erased);
    let whole = whole.expect(200);
    assert_eq!(whole.text().lines().count(), KEYS + 3);
    assert!(!whole.text().contains(&mark));
}

#[test]
fn keys_of_an_erased_user_stay_valid_and_the_user_can_return() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made: Vec<_> =
        (0..4).map(|n| issued(&client.post("/v1/keys", &body(&org, "ada", n)).expect(201))).collect();
    let session = signed_in(&client, &org, "admin");
    let (_, link) = portal_link(&client, &org, "member", json!({ "user_id": mark("ada") }));
    server.transcript().issue(&link);
    erase(&client, &org, Some("ada"));
    let data = server.data();
    assert_eq!(files_with(&data, "ada"), [""; 0]);
    // The user's own portal link stops working. Sessions of other users continue.
    client.anonymous().post("/portal/session", &json!({ "link": link })).expect(404);
    session.get("/portal/session").expect(200);

    client.post(&made[0].path("/revoke"), &json!({ "note": "gone" })).expect(200);
    assert_eq!(code(&client, &made[0].token), "REVOKED");
    client.post(&made[0].path("/reactivate"), &json!({})).expect(200);
    let rotated = issued(&client.post(&made[1].path("/rotate"), &json!({})).expect(200));
    assert_eq!(
        (code(&client, &rotated.token), code(&client, &made[1].token)),
        ("VALID".into(), "NOT_FOUND".into())
    );
    client.delete(&made[2].path("")).expect(204);
    client.patch(&made[3].path(""), &json!({ "name": "Taken over" })).expect(200);
    assert_eq!(verify(&client, &made[3].token)["name"], "Taken over");
    assert_eq!(total(&client, &format!("organization_id={org}")), 3);
    assert_eq!(total(&client, "q=taken"), 1);

    let again = issued(&client.post("/v1/keys", &body(&org, "ada", 9)).expect(201));
    check_untouched(&client, "ada", 1, &(again.id.clone(), again.token.clone()));
    server.stop();
    server.start_again();
    let client = server.client();
    check_untouched(&client, "ada", 1, &(again.id, again.token.clone()));
    assert_eq!(verify(&client, &made[3].token)["name"], "Taken over");
    assert_eq!(verify(&client, &made[0].token)["user_id"], Value::Null);
    // A second erasure also covers text written since. The organization's text stays.
    erase(&client, &org, Some("ada"));
    assert_eq!(files_with(&data, "ada"), [""; 0]);
    assert_eq!(verify(&client, &again.token)["name"], Value::Null);
    assert_eq!(verify(&client, &made[3].token)["name"], "Taken over");
}

#[test]
fn erasing_requires_a_permission_and_a_valid_subject() {
    let server = Server::start();
    let client = server.client();
    let (org, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let subject = |id: &str| json!({ "subject": { "organization_id": id } });
    let (_, lesser) = root_key(&client, &["organizations:write", "keys:delete", "events:read"], None);
    client.with_token(&lesser).post("/v1/erasures", &subject(&org)).expect(403);
    let (_, bound) = root_key(&client, &["admin"], Some(&org));
    let bound = client.with_token(&bound);
    bound.post("/v1/erasures", &subject(&other)).expect(422);
    signed_in(&client, &org, "owner").post("/v1/erasures", &subject(&org)).expect(403);
    for (body, pointer) in [
        (json!({}), "/subject"),
        (json!({ "subject": "acme" }), "/subject"),
        (json!({ "subject": {} }), "/subject/organization_id"),
        (json!({ "subject": { "organization_id": "nobody" } }), "/subject/organization_id"),
        (json!({ "subject": { "organization_id": org, "user_id": "" } }), "/subject/user_id"),
        (json!({ "subject": { "organization_id": org, "who": 1 } }), "/subject/who"),
        (json!({ "subject": { "organization_id": org }, "force": true }), "/force"),
    ] {
        let problem = client.post("/v1/erasures", &body).expect(422).json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    // Repeated with the same idempotency key, it happens once.
    let named = || bound.post("/v1/erasures", &subject(&org)).header("idempotency-key", "once").expect(201);
    let (first, second) = (named(), named());
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(rebuilds(&client), [1, 1], "the second request destroyed nothing");
}

/// How often each projection was rebuilt.
fn rebuilds(client: &Client) -> [u64; 2] {
    ["key-list", "audit-trail"].map(|name| {
        let shown = client.get(&format!("/v1/projections/{name}")).expect(200).json();
        shown["rebuilds_finished"].as_u64().unwrap()
    })
}

/// An erasure that finds no text costs the service nothing.
#[test]
fn an_erasure_that_destroys_no_key_rebuilds_nothing() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let bound = client.with_token(&root_key(&client, &["admin"], Some(&org)).1);
    let made = key(&client, &org, json!({ "name": "Kept" }));
    let nobody = json!({ "subject": { "organization_id": org, "user_id": "nobody" } });
    let mut stream = client.get("/v1/events").header("accept", "text/event-stream").stream();
    let erased: Vec<_> = (0..10).map(|_| bound.post("/v1/erasures", &nobody).expect(201)).collect();
    assert!(erased.iter().all(|answer| answer.json()["subject_keys"] == 0));
    assert_eq!(rebuilds(&client), [0, 0]);
    // The erasure is recorded all the same, in a stream that continues, too.
    let last = text(&erased[9].json()["id"]);
    assert!(stream.next_line_with(&last).is_some());
    let files = || ["key-list", "audit-trail"].map(|name| inode(&server.data(), name));
    let before = files();
    server.stop();
    server.start_again();
    let files = || ["key-list", "audit-trail"].map(|name| inode(&server.data(), name));
    assert_eq!(files(), before, "the next start rebuilds nothing either");
    let client = server.client();
    assert_eq!(client.get(&made.path("")).expect(200).json()["name"], "Kept");
    // One that destroys a key does.
    let of_all = json!({ "subject": { "organization_id": org } });
    assert!(client.post("/v1/erasures", &of_all).expect(201).json()["subject_keys"].as_u64() > Some(0));
    assert_eq!(rebuilds(&client), [1, 1]);
    assert_eq!(client.get(&made.path("")).expect(200).json()["name"], Value::Null);
}

fn inode(data: &Path, name: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(data.join("projections").join(format!("{name}.redb"))).unwrap().ino()
}
