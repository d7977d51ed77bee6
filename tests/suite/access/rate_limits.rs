//! Rate limits: every endpoint has one, each caller, organization and address its own, and a refusal says
//! what to do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keyledger_tests::client::http::{Client, Response};
use keyledger_tests::client::source::{ELSEWHERE, connect_from};
use keyledger_tests::data::documentation;
use keyledger_tests::data::fixture::{key, key_body, organization, root_key, signed_in, text};
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::json;

const TIME_MAX: Duration = Duration::from_secs(20);

fn serve(limits: &[(&str, &str)]) -> Server {
    let arguments = limits
        .iter()
        .flat_map(|(name, quota)| [format!("--rate-limit-{name}"), (*quota).to_owned()])
        .collect();
    Server::start_with(Options { arguments, ..Options::default() })
}

/// Checks a refusal, and returns the policy that it names.
#[track_caller]
fn refused(answer: &Response) -> String {
    assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"), "{}", answer.text());
    let policy = answer.header("ratelimit-policy").expect("a policy");
    let limit = answer.header("ratelimit").expect("a limit");
    let (name, quota) = policy.strip_prefix('"').unwrap().split_once("\";q=").unwrap();
    let (amount, seconds) = quota.split_once(";w=").unwrap();
    assert!(amount.parse::<u64>().is_ok() && seconds.parse::<u64>().is_ok(), "{policy}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(limit, format!("\"{name}\";r=0;t={wait}"));
    assert!(wait > 0 && text(&answer.json()["detail"]).contains(name));
    name.to_owned()
}

#[test]
fn every_endpoint_has_a_limit() {
    let kinds = ["writes", "reads", "operator-writes", "operator-reads", "verifications", "anonymous"];
    let server = serve(&kinds.map(|kind| (kind, "4/24h")));
    let operator = server.client();
    // Two of the operator's four changes. The bound caller has four of its own.
    let organization = organization(&operator, "paid");
    let (_, token) = root_key(&operator, &["admin"], Some(&organization));
    let bound = operator.with_token(&token);
    for (client, changes) in [(&operator, 2), (&bound, 4)] {
        // Requests that change nothing are no changes.
        assert!((0..9).all(|_| client.post("/v1/keys", &json!({})).send().status == 422));
        let keys: Vec<_> = (0..changes).map(|_| key(client, &organization, json!({}))).collect();
        for key in &keys[..2] {
            client.post(&key.path("/revoke"), &json!({})).expect(200);
            client.delete(&key.path("")).expect(204);
        }
        for _ in 0..4 {
            let _ = client.get("/v1/keys/none").send();
            let _ = client.post("/v1/keys/verify", &json!({ "token": "none" })).send();
            let _ = client.anonymous().get("/log/key").send();
        }
    }
    let mut walked = 0;
    for (method, path) in documentation::endpoints() {
        let path =
            path.replace("{environment}", "production").replace("{level}", "0").replace("{index}", "000");
        for client in [&operator, &bound] {
            let answer = client.request(&method, &path).json(&json!({})).try_send().unwrap();
            let is_open =
                path.starts_with("/v1/forward-auth") || ["/healthz", "/readyz"].contains(&path.as_str());
            assert_eq!(answer.status == 429, !is_open, "{method} {path}: {}", answer.status);
            if !is_open && method != "HEAD" {
                let policy = refused(&answer);
                assert!(kinds.contains(&policy.as_str()), "{method} {path}: {policy}");
            }
            walked += 1;
        }
    }
    assert!(walked > 150, "{walked}");
}

#[test]
fn plain_requests_are_limited_on_the_fast_path_too() {
    let server = serve(&[("operator-writes", "5/24h"), ("verifications", "3/24h")]);
    let client = server.client();
    let organization = organization(&client, "paid");
    let token = key(&client, &organization, json!({})).token;
    let statuses = |requests: &[Vec<u8>]| -> Vec<String> {
        let mut socket = TcpStream::connect(client.address()).unwrap();
        socket.set_read_timeout(Some(TIME_MAX)).unwrap();
        requests.iter().for_each(|request| socket.write_all(request).unwrap());
        socket.write_all(&client.get("/healthz").encode("close")).unwrap();
        let mut answers = String::new();
        socket.read_to_string(&mut answers).unwrap();
        for token in answers.split("\"token\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            server.transcript().issue(token);
        }
        answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect()
    };
    let create = client.post("/v1/keys", &key_body(&organization, json!({}))).encode("keep-alive");
    assert_eq!(statuses(&vec![create; 5]), ["201", "201", "201", "429", "429", "200"]);
    let verify = client.post("/v1/keys/verify", &json!({ "token": token })).encode("keep-alive");
    assert_eq!(statuses(&vec![verify; 4]), ["200", "200", "200", "429", "200"]);
}

#[test]
fn callers_organizations_and_people_have_their_own_limits() {
    let limits = [("session-writes", "2/24h"), ("writes", "3/24h"), ("organization-writes", "6/24h")];
    let server = serve(&limits);
    let client = server.client();
    let (ours, theirs) = (organization(&client, "paid"), organization(&client, "paid"));
    let create = |caller: &Client, organization: &str| {
        caller.post("/v1/keys", &key_body(organization, json!({}))).send()
    };
    let member = signed_in(&client, &ours, "member");
    let own = create(&member, &ours);
    assert_eq!((own.status, create(&member, &ours).status), (201, 201));
    assert_eq!(refused(&create(&member, &ours)), "session-writes");
    // Reads go on, and so does what takes something away.
    member.get("/v1/keys").expect(200);
    let path = format!("/v1/keys/{}", text(&own.json()["key"]["id"]));
    let admin = signed_in(&client, &ours, "admin");
    admin.post(&format!("{path}/revoke"), &json!({})).expect(200);
    admin.delete(&path).expect(204);
    assert_eq!(refused(&admin.delete(&path).send()), "session-writes");
    let (_, token) = root_key(&client, &["keys:create"], Some(&ours));
    let machine = client.with_token(&token);
    assert!((0..3).all(|_| create(&machine, &ours).status == 201));
    assert_eq!(refused(&create(&machine, &ours)), "writes");
    // The members of an organization share its limit, and another organization has another one.
    let another = signed_in(&client, &ours, "member");
    assert_eq!(create(&another, &ours).status, 201);
    assert_eq!(refused(&create(&another, &ours)), "organization-writes");
    assert_eq!(create(&signed_in(&client, &theirs, "member"), &theirs).status, 201);
    // Operators have none by default.
    assert!((0..20).all(|_| create(&client, &ours).status == 201));
    let metrics = client.get("/metrics").expect(200).text();
    for (policy, count) in [("session-writes", 2), ("writes", 1), ("organization-writes", 1)] {
        let line = format!("keyledger_rate_limited_total{{policy=\"{policy}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[test]
fn a_caller_may_go_on_after_the_wait() {
    let server = serve(&[("reads", "2/2s")]);
    let client = server.client();
    let organization = organization(&client, "paid");
    let (_, token) = root_key(&client, &["keys:read"], Some(&organization));
    let bound = client.with_token(&token);
    let answers: Vec<Response> = (0..4).map(|_| bound.get("/v1/keys").send()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2);
    let last = answers.last().unwrap();
    assert_eq!((refused(last).as_str(), last.header("retry-after")), ("reads", Some("1")));
    poll::until("another read", TIME_MAX, || (bound.get("/v1/keys").send().status == 200).then_some(()));
}

#[test]
fn guesses_are_limited_by_address_and_harm_nobody_else() {
    let server = serve(&[("failed-authentications", "3/24h"), ("sign-ins", "2/24h")]);
    let client = server.client();
    let guesser = client.with_token("klroot_guessed");
    let codes: Vec<u16> = (0..5).map(|_| guesser.get("/v1/keys").send().status).collect();
    assert_eq!(codes, [401, 401, 401, 429, 429]);
    assert_eq!(refused(&client.anonymous().get("/v1/keys").send()), "failed-authentications");
    client.get("/v1/keys").expect(200);
    let mut elsewhere = connect_from(ELSEWHERE, client.address()).unwrap();
    elsewhere.write_all(&guesser.get("/v1/keys").encode("close")).unwrap();
    let mut answer = String::new();
    elsewhere.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");

    let origin = format!("http://{}", client.address());
    let sign_in = || {
        let form = [("secret", "klroot_guessed"), ("to", "")];
        client
            .anonymous()
            .request("POST", "/console/sign-in")
            .header("origin", &origin)
            .form(&form)
            .try_send()
    };
    let statuses: Vec<u16> = (0..3).map(|_| sign_in().unwrap().status).collect();
    assert_eq!(statuses, [422, 422, 429]);
}

#[test]
fn an_impossible_limit_is_refused_at_the_start() {
    let arguments = ["--rate-limit-writes", "fast"].map(str::to_owned).to_vec();
    let options = Options { arguments, ..Options::default() };
    let directory = tempfile::tempdir().unwrap();
    let refusal = Server::start_in(directory, &keyledger_tests::data::token::root(), options).err().unwrap();
    assert!(
        refusal.message.contains("--rate-limit-writes") && refusal.message.contains("100/5s"),
        "{refusal:?}"
    );
}
