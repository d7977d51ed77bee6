//! Personal text is erased: from every answer, from every file, and nothing else with it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::{Client, Connection};
use keyledger_tests::data::fixture::{
    code, events, issued, key, key_body, organization, portal_link, root_key, signed_in, text, verify,
};
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

const KEYS_OF_A_USER: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

/// What everything that a user gives has in it: nothing else is like it, in letters of either case.
fn mark(user: &str) -> String {
    format!("Übermäßig-{user}-ZQXJ")
}

/// A user's key with all the text that a key may have.
fn body(organization: &str, user: &str, number: usize) -> Value {
    let mark = mark(user);
    key_body(
        organization,
        json!({
            "user_id": mark,
            "name": format!("Key {number} of {mark}"),
            "description": format!("For {mark}\nand nobody else"),
            "metadata": { "who": mark, "number": number },
        }),
    )
}

/// Makes keys of users as fast as the server takes them; tells each user's first token, and its id.
fn create(client: &Client, users: &[(String, String)], count: usize) -> Vec<(String, String)> {
    thread::scope(|scope| {
        let create = |(organization, user): (String, String)| {
            let mut connection = Connection::open(client.address()).unwrap();
            let mut first = None;
            for number in 0..count {
                let request = client.post("/v1/keys", &body(&organization, &user, number));
                let request = request.header("user-agent", &format!("agent-of-{user}-ZQXJ/1"));
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

/// The files under a directory that hold a user's mark, as it was given or with letters of another case.
fn files_with(directory: &Path, user: &str) -> Vec<String> {
    let ascii = format!("-{user}-zqxj").to_ascii_lowercase().into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, user));
            continue;
        }
        // A file that is being replaced may be gone by now.
        let bytes = fs::read(&path).unwrap_or_default().to_ascii_lowercase();
        if memchr::memmem::find(&bytes, &ascii).is_some() {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

fn erase(client: &Client, organization: &str, user: Option<&str>) -> Value {
    let subject = json!({ "organization_id": organization, "user_id": user.map(mark) });
    client.post("/v1/erasures", &json!({ "subject": subject })).expect(201).json()
}

fn replay_tool(arguments: &[&str], data: &Path) -> Output {
    Command::new(binaries::path("replay-tool")).args(arguments).arg("--data").arg(data).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// How many keys a list has in all.
fn total(client: &Client, query: &str) -> u64 {
    client.get(&format!("/v1/keys?limit=1&{query}")).expect(200).json()["total"].as_u64().unwrap()
}

fn check_erased(client: &Client, data: &Path, user: &str, (id, token): &(String, String)) {
    assert_eq!(files_with(data, user), [""; 0], "{user}");
    for query in [
        format!("q={user}-ZQXJ"),
        format!("q={user}-zqxj"),
        format!("user_id=%C3%9Cberm%C3%A4%C3%9Fig-{user}-ZQXJ"),
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

fn check_untouched(client: &Client, user: &str, count: usize, (id, token): &(String, String)) {
    let verified = verify(client, token);
    assert_eq!((&verified["code"], &verified["user_id"]), (&json!("VALID"), &json!(mark(user))));
    assert_eq!(client.get(&format!("/v1/keys/{id}")).expect(200).json()["metadata"]["who"], mark(user));
    assert_eq!(total(client, &format!("q={user}-zqxj")), count as u64);
    assert_eq!(events(client, id)[0]["data"].get("erased"), None);
}

/// Ten thousand keys of a hundred users in three organizations; a user and an organization are erased.
#[test]
fn an_erased_text_is_in_no_answer_and_in_no_file() {
    let mut server = Server::start();
    let client = server.client();
    let orgs: Vec<String> = (0..3).map(|_| organization(&client, "paid")).collect();
    let renamed = json!({ "name": format!("The organization of {}", mark("org1")) });
    client.patch(&format!("/v1/organizations/{}", orgs[1]), &renamed).expect(200);
    // Fifty of the first, twenty-five of each other.
    let users: Vec<(String, String)> =
        (0..100).map(|n| (orgs[if n < 50 { 0 } else { 1 + n % 2 }].clone(), format!("person{n}"))).collect();
    let mut keys = Vec::new();
    for chunk in users.chunks(25) {
        keys.extend(create(&client, chunk, KEYS_OF_A_USER));
    }
    for (_, token) in &keys {
        server.transcript().issue(token);
    }
    let bound = root_key(&client, &["keys:read"], Some(&orgs[1]));
    let named = json!({ "name": format!("Caller of {}", mark("org1")), "permissions": ["keys:read"], "organization_id": orgs[1] });
    let root_key_id = text(&client.post("/v1/root-keys", &named).expect(201).json()["root_key"]["id"]);
    let victim = |n: usize| (users[n].1.as_str(), &keys[n]);
    let (user, users_key) = victim(7);
    let of_organization: Vec<usize> = (50..100).filter(|n| n % 2 == 0).collect();
    let untouched: Vec<usize> = (0..50).filter(|n| *n != 7).chain((50..100).filter(|n| n % 2 == 1)).collect();

    // The search finds what is there: the list has it in its file, the log and the vault never.
    let data = server.data();
    poll::until("the key list to be saved", LIMIT, || {
        (files_with(&data, user) == ["key-list.redb"]).then_some(())
    });
    assert_eq!(total(&client, &format!("q={user}-zqxj")), KEYS_OF_A_USER as u64);
    let checkpoint = client.get("/log/checkpoint").expect(200).text();
    let kept = tempfile::tempdir().unwrap();
    let (checkpoint_file, proof) = (kept.path().join("checkpoint"), kept.path().join("event.tlog-proof"));
    fs::write(&checkpoint_file, checkpoint).unwrap();
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
    // The first of the fifty, one in the middle, and the last.
    let some_of_organization = [of_organization[0], of_organization[12], of_organization[24]];
    let check = |client: &Client| {
        check_erased(client, &data, user, users_key);
        for n in some_of_organization {
            let (user, key) = victim(n);
            check_erased(client, &data, user, key);
        }
        assert_eq!(files_with(&data, "org1"), [""; 0]);
        assert_eq!(total(client, &format!("organization_id={}", orgs[1])), 2_500);
        let shown = client.get(&format!("/v1/organizations/{}", orgs[1])).expect(200).json();
        assert_eq!(shown["name"], Value::Null);
        let shown = client.get(&format!("/v1/root-keys/{root_key_id}")).expect(200).json();
        assert_eq!(shown["name"], Value::Null);
        assert_eq!(total(client, "q=zqxj"), untouched.len() as u64 * KEYS_OF_A_USER as u64);
        for n in untouched.iter().step_by(9) {
            check_untouched(client, &users[*n].1, KEYS_OF_A_USER, &keys[*n]);
        }
    };
    check(&client);
    assert_eq!(entries(&client), before, "stored bytes stay");
    let seen: Vec<Value> = client.get("/v1/events?type=PersonalDataErased").expect(200).json()["data"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|event| event["actor"]["ip"] == "127.0.0.1"), "who erased is known");

    // As it was after a restart, a rebuild in the running service, and one by the tool.
    server.stop();
    let verified = good(&replay_tool(&["verify", "--checkpoint", checkpoint_file.to_str().unwrap()], &data));
    assert!(verified.contains("checkpoint"), "{verified}");
    good(&replay_tool(&["proof", "100", "--output", proof.to_str().unwrap()], &data));
    good(&replay_tool(&["diff"], &data));
    let shown = good(&replay_tool(&["show", &users_key.0], &data));
    assert!(shown.contains("[erased]"), "{shown}");
    server.start_again();
    check(&server.client());
    server.client().post("/v1/projections/key-list/rebuild", &json!({})).expect(202);
    poll::until("the rebuild", LIMIT, || {
        let shown = server.client().get("/v1/projections/key-list").expect(200).json();
        (shown["rebuilds_finished"] == 1).then_some(())
    });
    check(&server.client());
    server.kill();
    good(&replay_tool(&["rebuild"], &data));
    good(&replay_tool(&["verify"], &data));
    server.start_again();
    check(&server.client());
    drop(bound);
}

/// Streams that are slow to be read hold text that was read before it was erased.
#[test]
fn streams_that_are_open_do_not_give_away_what_was_erased() {
    const METADATA_LEN: usize = 12_000;
    const KEYS: usize = 2_000;
    /// What the buffers of both ends of a connection may hold.
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
        assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "nobody can tell that it is not whole");
    }
    // Asked again, it is all there but for the text.
    let whole = client.get(&format!("/v1/events?organization_id={organization}"));
    let whole = whole.header("accept", "application/x-ndjson").header("keyledger-min-position", &erased);
    let whole = whole.expect(200);
    assert_eq!(whole.text().lines().count(), KEYS + 3);
    assert!(!whole.text().contains(&mark));
}

#[test]
fn keys_of_an_erased_user_live_on_and_the_user_can_come_back() {
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
    // A link of the person's own is nobody's now; others' sessions go on.
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
    // Erased once more, what came since goes too, and the text of the organization stays.
    erase(&client, &org, Some("ada"));
    assert_eq!(files_with(&data, "ada"), [""; 0]);
    assert_eq!(verify(&client, &again.token)["name"], Value::Null);
    assert_eq!(verify(&client, &made[3].token)["name"], "Taken over");
}

#[test]
fn who_may_erase_and_what_must_be_said() {
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
    // A user whom nobody knows has nothing to erase, and that is on record too.
    let nobody = json!({ "subject": { "organization_id": org, "user_id": "nobody" } });
    assert_eq!(client.post("/v1/erasures", &nobody).expect(201).json()["subject_keys"], 0);
    // Repeated under one name, it takes place once.
    let named = || bound.post("/v1/erasures", &subject(&org)).header("idempotency-key", "once").expect(201);
    let (first, second) = (named(), named());
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.json()["id"], second.json()["id"]);
}

/// An older vault beside a newer log has the key again, and does not keep it.
#[test]
fn an_older_vault_brings_nobody_back() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({ "user_id": mark("ada"), "name": mark("ada") }));
    let key = (made.id, made.token);
    let data = server.data();
    server.stop();
    let older = fs::read(data.join("vault.redb")).unwrap();
    server.start_again();
    erase(&server.client(), &org, Some("ada"));
    server.stop();
    fs::write(data.join("vault.redb"), &older).unwrap();
    let shown = good(&replay_tool(&["show", &key.0], &data));
    assert!(shown.contains("[erased]") && !shown.contains("ZQXJ"), "{shown}");
    server.start_again();
    check_erased(&server.client(), &data, "ada", &key);
    server.stop();
    assert_ne!(fs::read(data.join("vault.redb")).unwrap(), older);
    // Without any vault all that was sealed reads as erased, and everything else goes on.
    fs::remove_file(data.join("vault.redb")).unwrap();
    good(&replay_tool(&["verify"], &data));
    server.start_again();
    let shown = server.client().get(&format!("/v1/organizations/{org}")).expect(200).json();
    assert_eq!(shown["name"], Value::Null);
    assert_eq!(code(&server.client(), &key.1), "VALID");
}

/// The list says what the keys of the present vault open, whichever vault it was made with before.
#[test]
fn a_vault_that_is_put_back_brings_everybody_back() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let named = key(&client, &org, json!({ "user_id": mark("ada"), "name": mark("ada") }));
    let data = server.data();
    server.stop();
    let found = |client: &Client| {
        let total =
            |query: &str| client.get(&format!("/v1/keys?{query}")).expect(200).json()["total"].clone();
        let shown = client.get(&named.path("")).expect(200).json()["name"].clone();
        (total("q=zqxj"), total(&format!("organization_id={org}")), shown)
    };
    let (vault, aside) = (data.join("vault.redb"), data.join("vault.redb.aside"));
    fs::rename(&vault, &aside).unwrap();
    server.start_again();
    assert_eq!(found(&server.client()), (json!(0), json!(1), Value::Null));
    server.stop();
    good(&replay_tool(&["diff"], &data));
    fs::rename(&aside, &vault).unwrap();
    let differs = replay_tool(&["diff"], &data);
    assert_eq!(differs.status.code(), Some(1), "{differs:?}");
    assert!(String::from_utf8_lossy(&differs.stderr).contains("another vault"), "{differs:?}");
    server.start_again();
    assert_eq!(found(&server.client()), (json!(1), json!(1), json!(mark("ada"))));
    server.stop();
    good(&replay_tool(&["diff"], &data));
}

/// Whether an erasure is in the log, the text must be gone; if not, it must be there.
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
        check_untouched(client, user, 20, key);
    }
}

/// When an erasure that takes so long is killed: at eighths of it, one after the other. One that was over by then says that
/// they do not take longer.
fn delay(takes: Duration, point: usize) -> Duration {
    takes * u32::try_from(point).unwrap() / 8
}

#[test]
fn an_erasure_that_is_killed_is_not_begun_or_is_finished() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let users: Vec<(String, String)> = (0..21).map(|n| (org.clone(), format!("person{n}"))).collect();
    let keys = create(&client, &users, 20);
    for (_, token) in &keys {
        server.transcript().issue(token);
    }
    let data = server.data();
    let started = Instant::now();
    erase(&client, &org, Some("person20"));
    let mut takes = started.elapsed();
    let mut erasures = 1;
    let mut cut_short = 0;
    for point in 0..10 {
        let (user, client) = (users[point].1.clone(), server.client());
        thread::scope(|scope| {
            let subject = json!({ "subject": { "organization_id": org, "user_id": mark(&user) } });
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
        check_one_or_other(&server.client(), &data, &user, &keys[point], &mut erasures);
        erase(&server.client(), &org, Some(&user));
        erasures += 1;
        check_erased(&server.client(), &data, &user, &keys[point]);
    }
    assert!(cut_short > 2, "only {cut_short} erasures were cut short");

    // The same of the tool.
    server.stop();
    let mut cut_short = 0;
    let started = Instant::now();
    good(&replay_tool(&["erase", "--organization", &org, "--user", &mark("person19")], &data));
    let mut takes = started.elapsed();
    erasures += 1;
    assert_eq!(files_with(&data, "person19"), [""; 0]);
    for point in 0..9 {
        let n = 10 + point;
        let user = &users[n].1;
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
        check_one_or_other(&server.client(), &data, user, &keys[n], &mut erasures);
        server.stop();
        good(&replay_tool(&["erase", "--organization", &org, "--user", &mark(user)], &data));
        erasures += 1;
        assert_eq!(files_with(&data, user), [""; 0]);
    }
    assert!(cut_short > 2, "only {cut_short} runs of the tool were cut short");
    server.start_again();
    assert_eq!(total(&server.client(), "q=zqxj"), 0);
}
