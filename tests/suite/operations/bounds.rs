//! What organizations may hold and write, and the disk space that commands leave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use keyledger_tests::client::http::{Client, Response};
use keyledger_tests::data::fixture::{
    access_token, application, code, key, key_body, organization, portal_link, root_key, signed_in, text,
};
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::json;

const TIME_MAX: Duration = Duration::from_secs(30);

fn serve(arguments: &[&str]) -> Server {
    Server::start_with(options(arguments))
}

fn options(arguments: &[&str]) -> Options {
    Options { arguments: arguments.iter().map(|it| (*it).to_owned()).collect(), ..Options::default() }
}

fn create(client: &Client, organization: &str) -> Response {
    client.post("/v1/keys", &key_body(organization, json!({}))).send()
}

/// Checks that a cap refuses, names itself and says what to do.
#[track_caller]
fn capped(answer: &Response, code: &str, cap: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (409, code), "{}", answer.text());
    let detail = text(&answer.json()["detail"]);
    assert!(detail.contains(&format!("--organization-caps {cap}")) && detail.contains("at most"), "{detail}");
}

#[test]
fn an_organization_has_at_most_what_its_kind_may_have() {
    let caps = "paid:keys=3,paid:applications=2,paid:root-keys=2,paid:webhooks=1,paid:sessions=2";
    let mut server = serve(&["--organization-caps", caps]);
    let client = server.client();
    let (paid, test) = (organization(&client, "paid"), organization(&client, "test"));
    let keys: Vec<_> = (0..3).map(|_| key(&client, &paid, json!({}))).collect();
    let applications: Vec<_> = (0..2).map(|_| application(&client, &["keys:read"], Some(&paid))).collect();
    let root_keys: Vec<_> = (0..2).map(|_| root_key(&client, &["admin"], Some(&paid))).collect();
    for _ in 0..2 {
        let _ = portal_link(&client, &paid, "owner", json!({}));
    }
    let hook = |organization: &str| {
        let body = json!({ "url": "https://receiver.example/", "organization_id": organization });
        client.post("/v1/webhooks", &body).send()
    };
    let webhook = format!("/v1/webhooks/{}", text(&hook(&paid).json()["webhook"]["id"]));
    let more = |path: &str, organization: &str| {
        let permissions = json!(["keys:read"]);
        let body = match path {
            "/v1/portal-sessions" => json!({ "organization_id": organization, "role": "owner" }),
            _ => json!({ "name": "n", "permissions": permissions, "organization_id": organization }),
        };
        client.post(path, &body).send()
    };
    let check = |client: &Client| {
        capped(&create(client, &paid), "organization_cap_reached", "paid:keys");
        // Nobody of the organization gets around it.
        let bound = client.with_token(&root_keys[0].1);
        capped(&create(&bound, &paid), "organization_cap_reached", "paid:keys");
    };
    check(&client);
    capped(&more("/v1/applications", &paid), "organization_cap_reached", "paid:applications");
    capped(&more("/v1/root-keys", &paid), "organization_cap_reached", "paid:root-keys");
    capped(&more("/v1/portal-sessions", &paid), "organization_cap_reached", "paid:sessions");
    capped(&hook(&paid), "too_many_webhooks", "paid:webhooks");
    // Other kinds of organizations have other caps, and what belongs to none has none.
    assert!((0..5).all(|_| create(&client, &test).status == 201));
    assert_eq!((hook(&test).status, more("/v1/applications", &test).status), (201, 201));
    let _ = application(&client, &["keys:read"], None);
    // What exists can be used, changed and revoked, and what is deleted makes room.
    let _ = access_token(&client, &applications[0]);
    client.patch(&keys[0].path(""), &json!({ "name": "n" })).expect(200);
    client.post(&keys[0].path("/revoke"), &json!({})).expect(200);
    capped(&create(&client, &paid), "organization_cap_reached", "paid:keys");
    client.delete(&keys[0].path("")).expect(204);
    assert_eq!(create(&client, &paid).status, 201);
    client.delete(&applications[0].path("")).expect(204);
    client.delete(&webhook).expect(204);
    client.delete(&format!("/v1/root-keys/{}", root_keys[1].0)).expect(204);
    assert_eq!(more("/v1/applications", &paid).status, 201);
    assert_eq!((more("/v1/root-keys", &paid).status, hook(&paid).status), (201, 201));
    server.kill();
    server.start_again();
    check(&server.client());
    let metrics = server.client().get("/metrics").expect(200).text();
    assert!(metrics.contains("keyledger_refusals_total{kind=\"organization_cap\"} 2\n"), "{metrics}");
}

#[test]
fn callers_that_create_at_the_same_time_do_not_exceed_a_cap() {
    const MAX: usize = 20;
    let server = serve(&["--organization-caps", "paid:keys=20"]);
    let client = server.client();
    let organization = organization(&client, "paid");
    let plain = client.post("/v1/keys", &key_body(&organization, json!({}))).encode("keep-alive");
    let made: usize = thread::scope(|scope| {
        let work = || {
            let mut socket = TcpStream::connect(client.address()).unwrap();
            // Plain requests, which the fast path answers.
            (0..10).for_each(|_| socket.write_all(&plain).unwrap());
            socket.write_all(&client.get("/healthz").encode("close")).unwrap();
            let mut answers = String::new();
            socket.read_to_string(&mut answers).unwrap();
            for token in answers.split("\"token\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                server.transcript().issue(token);
            }
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 11, "{answers}");
            answers.matches("HTTP/1.1 201").count()
        };
        // Others go through the router, and some disconnect before they are answered.
        let others = || (0..10).filter(|_| create(&client, &organization).status == 201).count();
        let leaving = || {
            for _ in 0..10 {
                let mut socket = TcpStream::connect(client.address()).unwrap();
                socket.write_all(&plain).unwrap();
            }
            0
        };
        let threads = [scope.spawn(work), scope.spawn(work), scope.spawn(others), scope.spawn(leaving)];
        threads.map(|thread| thread.join().unwrap()).into_iter().sum()
    });
    let listed = poll::until("all commands to be executed", TIME_MAX, || {
        let answer = create(&client, &organization);
        let total =
            client.get(&format!("/v1/keys?organization_id={organization}&limit=1")).expect(200).json();
        (answer.status == 409).then(|| total["total"].as_u64().unwrap() as usize)
    });
    assert!(made <= MAX, "{made} were answered 201");
    poll::until("the list to show exactly as many as allowed", TIME_MAX, || (listed == MAX).then_some(()));
}

#[test]
fn an_organization_writes_a_bounded_number_of_bytes_a_day() {
    let mut server = serve(&["--organization-caps", "paid:bytes-per-day=50KiB"]);
    let client = server.client();
    let (ours, theirs) = (organization(&client, "paid"), organization(&client, "paid"));
    let admin = signed_in(&client, &ours, "admin");
    let first = key(&client, &ours, json!({}));
    let second = key(&client, &ours, json!({}));
    let metadata = json!({ "metadata": { "text": "x".repeat(4_000) } });
    let mut written = 0;
    let refused = loop {
        let answer =
            admin.patch(&first.path(""), &json!({ "metadata": { "n": written, "text": "x".repeat(4_000) } }));
        let answer = answer.send();
        if answer.status != 200 {
            break answer;
        }
        written += 1;
        assert!(written < 15, "{written} times 4,000 bytes");
    };
    assert!(written > 8, "{written}");
    let check = |refused: &Response| {
        assert_eq!((refused.status, refused.code().as_str()), (429, "daily_bytes_reached"));
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait));
        let policy = refused.header("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"bytes-per-day\";q=51200;qu=\"content-bytes\";w=86400");
        assert_eq!(refused.header("ratelimit").unwrap(), format!("\"bytes-per-day\";r=0;t={wait}"));
    };
    check(&refused);
    check(&client.post("/v1/keys", &key_body(&ours, metadata.clone())).send());
    // Others write, and what takes something away is accepted.
    let _ = key(&client, &theirs, metadata);
    admin.post(&first.path("/revoke"), &json!({})).expect(200);
    admin.delete(&first.path("")).expect(204);
    assert_eq!(code(&client, &second.token), "VALID");
    // A restart does not give the day back.
    server.kill();
    server.start_again();
    let client = server.client();
    poll::until("the day to be counted", TIME_MAX, || {
        let answer = client.patch(&second.path(""), &json!({ "description": "d" })).send();
        // Operators change what belongs to the organization; creations for it count as its own.
        assert_eq!(answer.status, 200);
        let answer = create(&client, &ours);
        (answer.status == 429).then(|| check(&answer))
    });
}

#[test]
fn a_nearly_full_disk_refuses_what_adds_to_it_only() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let keys: Vec<_> = (0..3).map(|_| key(&client, &organization, json!({ "user_id": "u1" }))).collect();
    let ready = client.get("/readyz").expect(200).json();
    assert_eq!(ready["disk_space_low"], json!(null));
    let root_token = server.root_token().to_owned();
    server.stop();
    let low = options(&["--disk-reserve", "1000000GiB"]);
    let server =
        Server::start_in(server.into_directory(), &root_token, low).unwrap_or_else(|it| panic!("{it:?}"));
    let client = server.client();
    for refused in [
        create(&client, &organization),
        client.patch(&keys[0].path(""), &json!({ "name": "n" })).send(),
        client.post(&keys[0].path("/rotate"), &json!({})).send(),
        client.post("/v1/organizations", &json!({ "kind": "paid" })).send(),
    ] {
        assert_eq!((refused.status, refused.code().as_str()), (503, "disk_space_low"), "{}", refused.text());
        assert_eq!(refused.header("retry-after"), Some("30"));
        assert!(text(&refused.json()["detail"]).contains("--disk-reserve"));
    }
    assert_eq!(code(&client, &keys[0].token), "VALID");
    client.get(&keys[0].path("")).expect(200);
    client.post(&keys[0].path("/revoke"), &json!({})).expect(200);
    assert_eq!(code(&client, &keys[0].token), "REVOKED");
    client.post(&keys[0].path("/reactivate"), &json!({})).expect(503);
    client.delete(&keys[1].path("")).expect(204);
    let subject = json!({ "subject": { "organization_id": organization, "user_id": "u1" } });
    client.post("/v1/erasures", &subject).expect(201);
    let ready = client.get("/readyz").expect(200).json();
    assert!(text(&ready["disk_space_low"]).contains("reserve"), "{ready}");
    let metrics = client.get("/metrics").expect(200).text();
    assert!(metrics.contains("keyledger_refusals_total{kind=\"disk_space\"} "), "{metrics}");
    assert!(server.output().contains("make space"), "{}", server.output());
}
