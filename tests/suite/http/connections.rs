//! A single connection: requests in arbitrary pieces, pipelined, or phrased differently; and connections
//! beyond the limit.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{key, organization, root_key, text};
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

const TIME_MAX: Duration = Duration::from_secs(20);

fn open(client: &Client) -> TcpStream {
    let socket = TcpStream::connect(client.address()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(TIME_MAX)).unwrap();
    socket
}

/// Reads answers until the server closes. Returns each head without its variable fields, and each body.
fn answers(socket: &mut TcpStream) -> Vec<(Vec<String>, String)> {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let mut rest = text.as_str();
    let mut answers = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let (body, after) = after.split_at(length.parse().unwrap());
        let own = ["date: ", "x-request-id: req_"];
        let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
        assert!(own.iter().all(|name| lines.iter().any(|line| line.starts_with(name))), "{head}");
        lines.retain(|line| !own.iter().any(|name| line.starts_with(name)));
        lines.sort();
        answers.push((lines, body.to_owned()));
        rest = after;
    }
    assert_eq!(rest, "");
    answers
}

/// The answers of one connection to these bytes, followed by a request that closes it.
fn exchange(client: &Client, pieces: &[&[u8]]) -> Vec<(Vec<String>, String)> {
    let mut socket = open(client);
    for piece in pieces {
        socket.write_all(piece).unwrap();
    }
    socket.write_all(&client.get("/healthz").encode("close")).unwrap();
    let mut answers = answers(&mut socket);
    answers.pop().expect("the last request is answered");
    answers
}

fn verification(client: &Client, token: &str) -> Vec<u8> {
    client.post("/v1/keys/verify", &json!({ "token": token })).encode("keep-alive")
}

/// An equivalent request that the fast path leaves to the HTTP library.
fn in_other_words(plain: &[u8]) -> Vec<Vec<u8>> {
    let plain = std::str::from_utf8(plain).unwrap();
    let (head, body) = plain.split_once("\r\n\r\n").unwrap();
    let without_length: Vec<&str> =
        head.lines().filter(|line| !line.to_lowercase().starts_with("content-length")).collect();
    let chunked = format!(
        "{}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        without_length.join("\r\n"),
        body.len()
    );
    let words = [
        plain.replacen(" HTTP/1.1", "? HTTP/1.1", 1),
        plain.replacen("\r\n", "\r\nkeyledger-min-position: 0\r\n", 1),
        plain.replacen("\r\n", &format!("\r\nx-long: {}\r\n", "x".repeat(9_000)), 1),
        chunked,
    ];
    words.into_iter().map(String::into_bytes).collect()
}

#[test]
fn a_verification_is_answered_the_same_however_it_is_written_and_split() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let named = json!({ "name": "Grüße \"1\"", "metadata": { "a": [1, "b"] }, "expires_in": "one_year" });
    let good = key(&client, &organization, named);
    let gone = key(&client, &organization, json!({ "user_id": "u" }));
    client.post(&format!("/v1/keys/{}/revoke", gone.id), &json!({})).expect(200);
    for token in [good.token.as_str(), gone.token.as_str(), "nonsense"] {
        let plain = verification(&client, token);
        let expected = exchange(&client, &[&plain]);
        assert_eq!(expected.len(), 1);
        assert!(expected[0].0.contains(&"HTTP/1.1 200 OK".to_owned()), "{expected:?}");
        for other in in_other_words(&plain) {
            assert_eq!(exchange(&client, &[&other]), expected, "{}", String::from_utf8_lossy(&other));
            // One connection uses both paths.
            let both = exchange(&client, &[&plain, &other, &plain]);
            assert_eq!(both, [expected.clone(), expected.clone(), expected.clone()].concat());
        }
        let bytes: Vec<&[u8]> = plain.chunks(1).collect();
        assert_eq!(exchange(&client, &bytes), expected, "byte by byte");
        for at in [5, 32, 40, plain.len() - 30, plain.len() - 1] {
            assert_eq!(exchange(&client, &[&plain[..at], &plain[at..]]), expected, "in two at {at}");
        }
        let row = plain.repeat(40);
        assert_eq!(exchange(&client, &[&row]), vec![expected[0].clone(); 40], "forty in a row");
    }
}

fn creation(client: &Client, body: &Value) -> String {
    String::from_utf8(client.post("/v1/keys", body).encode("keep-alive")).unwrap()
}

/// A head and a body without their variable fields.
type Common = (Vec<String>, Value);

/// The invariable part of the answers to key creations, and the keys with their tokens.
fn issued(answers: Vec<(Vec<String>, String)>) -> (Vec<Common>, Vec<(String, String)>) {
    let own = ["location: /v1/keys/key_", "keyledger-position: "];
    let one = |(mut lines, body): (Vec<String>, String)| {
        assert!(own.iter().all(|name| lines.iter().any(|line| line.starts_with(name))), "{lines:?}");
        lines.retain(|line| !own.iter().any(|name| line.starts_with(name)));
        let mut body: Value = serde_json::from_str(&body).unwrap();
        let made = (text(&body["key"]["id"]), text(&body["token"]));
        body["token"] = Value::Null;
        for drawn in ["id", "start", "last_four", "created_at", "expires_at"] {
            body["key"][drawn] = Value::Null;
        }
        ((lines, body), made)
    };
    answers.into_iter().map(one).unzip()
}

#[test]
fn a_key_is_issued_the_same_however_the_request_is_written_and_split() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let asked = json!({ "organization_id": organization, "environment": "production", "user_id": "u \u{e9} \"1\"",
        "name": "Gr\u{fc}\u{df}e", "scopes": ["read:users"], "metadata": { "a": [1, "b"] }, "expires_in": "one_year" });
    let plain = creation(&client, &asked);
    let plain = plain.replacen("\r\n", "\r\nuser-agent: issuer/1.0\r\nx-request-id: asked-for-it\r\n", 1);
    let without_id = plain.replacen("x-request-id: asked-for-it\r\n", "", 1).into_bytes();
    let plain = plain.into_bytes();
    let mut keys = Vec::new();
    let mut issue = |pieces: &[&[u8]]| {
        let (common, made) = issued(exchange(&client, pieces));
        keys.extend(made);
        common
    };

    let expected = issue(&[&without_id]);
    assert_eq!(expected.len(), 1);
    assert!(expected[0].0.contains(&"HTTP/1.1 201 Created".to_owned()), "{expected:?}");
    for other in in_other_words(&without_id) {
        assert_eq!(issue(&[&other]), expected, "{}", String::from_utf8_lossy(&other));
        let both = issue(&[&without_id, &other, &without_id]);
        assert_eq!(both, [expected.clone(), expected.clone(), expected.clone()].concat());
    }
    let bytes: Vec<&[u8]> = without_id.chunks(1).collect();
    assert_eq!(issue(&[&bytes.concat()[..60], &bytes.concat()[60..]]), expected, "in two");
    assert_eq!(issue(&bytes), expected, "byte by byte");
    assert_eq!(issue(&[&without_id.repeat(40)]), vec![expected[0].clone(); 40], "forty in a row");

    // All of them exist, and the log names the same creator.
    let verdicts = client
        .post("/v1/keys/verify-batch", &json!({ "tokens": keys.iter().map(|it| &it.1).collect::<Vec<_>>() }));
    let verdicts = verdicts.expect(200).json();
    assert!(
        verdicts["data"].as_array().unwrap().iter().all(|verdict| verdict["code"] == "VALID"),
        "{verdicts}"
    );
    let (mut ids, mut actors): (Vec<&String>, Vec<Value>) =
        (keys.iter().map(|it| &it.0).collect(), Vec::new());
    for id in &ids {
        let events = client.get(&format!("/v1/keys/{id}/events")).expect(200).json();
        assert_eq!(events["data"].as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events["data"][0]["actor"]["user_agent"], "issuer/1.0");
        actors.push(events["data"][0]["actor"].clone());
    }
    actors.dedup();
    assert_eq!(actors.len(), 1, "{actors:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), keys.len(), "every key is different");

    // The request's own id is kept.
    let mut socket = open(&client);
    socket.write_all(&plain).unwrap();
    let mut answer = [0; 4096];
    let count = socket.read(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..count]).contains("x-request-id: asked-for-it\r\n"));
}

#[test]
fn an_idempotency_key_works_between_plain_creations() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let plain = creation(&client, &json!({ "organization_id": organization, "environment": "preview" }));
    let named = plain.replacen("\r\n", "\r\nidempotency-key: the-one\r\n", 1);
    let answers =
        exchange(&client, &[plain.as_bytes(), named.as_bytes(), named.as_bytes(), plain.as_bytes()]);
    let id =
        |(_, body): &(Vec<String>, String)| text(&serde_json::from_str::<Value>(body).unwrap()["key"]["id"]);
    let ids: Vec<String> = answers.iter().map(id).collect();
    assert_eq!(ids[1], ids[2]);
    assert!(answers[2].0.contains(&"idempotent-replayed: true".to_owned()), "{answers:?}");
    assert!(ids[0] != ids[1] && ids[0] != ids[3] && ids[1] != ids[3], "{ids:?}");
}

#[test]
fn a_creation_is_refused_the_same_however_it_is_written() {
    let server = Server::start();
    let client = server.client();
    let (paid, free) = (organization(&client, "paid"), organization(&client, "free"));
    let (_, reader) = root_key(&client, &["keys:read"], None);
    let body = |organization: &str| json!({ "organization_id": organization, "environment": "production" });
    let good = creation(&client, &body(&paid));
    let root = server.root_token();
    let requests = [
        (creation(&client, &body(&free)), "organization_kind_not_allowed"),
        (creation(&client, &body("nobody")), "invalid_request"),
        (creation(&client, &json!({ "environment": "moon", "color": 1 })), "invalid_request"),
        (creation(&client, &json!([1])), "invalid_request"),
        (good.replace(root, &reader), "forbidden"),
        (good.replace(root, "klroot_nobody"), "unauthenticated"),
        (good.replace("authorization:", "x-other:"), "unauthenticated"),
        (good.replace("application/json", "text/plain"), "unsupported_media_type"),
        (good.replace("{\"", "(\""), "malformed_request"),
        (good.replace("POST", "PUTT"), "method_not_allowed"),
    ];
    let without_id = |answers: Vec<(Vec<String>, String)>| -> Vec<Common> {
        let one = |(mut lines, body): (Vec<String>, String)| {
            lines.retain(|line| !line.starts_with("keyledger-position"));
            let mut body: Value = serde_json::from_str(&body).unwrap();
            body["request_id"] = Value::Null;
            (lines, body)
        };
        answers.into_iter().map(one).collect()
    };
    for (request, code) in &requests {
        let plain = without_id(exchange(&client, &[request.as_bytes()]));
        assert_eq!(plain.len(), 1);
        assert_eq!(plain[0].1["code"], *code, "{request}");
        for other in in_other_words(request.as_bytes()) {
            let other_way = without_id(exchange(&client, &[&other]));
            assert_eq!(other_way, plain, "{}", String::from_utf8_lossy(&other));
        }
        // The connection stays usable after it.
        let answers = exchange(&client, &[good.as_bytes(), request.as_bytes(), good.as_bytes()]);
        let codes: Vec<bool> =
            answers.iter().map(|it| it.0.contains(&"HTTP/1.1 201 Created".to_owned())).collect();
        assert_eq!(codes, [true, false, true], "{answers:?}");
    }
}

#[test]
fn requests_off_the_fast_path_are_refused_as_everywhere() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let (_, reader) = root_key(&client, &["keys:read"], None);
    let plain = String::from_utf8(verification(&client, &issued.token)).unwrap();
    let code_of = |request: &str| {
        let answers = exchange(&client, &[plain.as_bytes(), request.as_bytes(), plain.as_bytes()]);
        assert_eq!(answers.len(), 3, "{answers:?}");
        let codes: Vec<String> = answers
            .iter()
            .map(|(_, body)| text(&serde_json::from_str::<Value>(body).unwrap()["code"]))
            .collect();
        assert_eq!((codes[0].as_str(), codes[2].as_str()), ("VALID", "VALID"));
        codes[1].clone()
    };
    let root = server.root_token();
    assert_eq!(code_of(&plain.replace(root, &reader)), "forbidden");
    assert_eq!(code_of(&plain.replace(root, "klroot_nobody")), "unauthenticated");
    assert_eq!(code_of(&plain.replace("authorization:", "x-other:")), "unauthenticated");
    assert_eq!(code_of(&plain.replace("application/json", "text/plain")), "unsupported_media_type");
    assert_eq!(code_of(&plain.replace("\"token\"", "\"tokem\"")), "invalid_request");
    assert_eq!(code_of(&plain.replace("{\"token\"", "(\"token\"")), "malformed_request");
    assert_eq!(code_of(&plain.replace("POST", "PUTT")), "method_not_allowed");
}

/// Two readings of where a request ends would let one caller speak for another behind a shared proxy.
#[test]
fn a_request_with_two_lengths_is_refused() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let plain = String::from_utf8(verification(&client, &issued.token)).unwrap();
    let wrong = ["content-length: 5\r\n", "content-length: +5\r\n", "transfer-encoding: chunked, gzip\r\n"];
    for header in wrong {
        let request = plain.replacen("\r\n", &format!("\r\n{header}"), 1);
        let mut socket = open(&client);
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // The connection ends without a verdict, possibly with a reset.
        let _ = socket.read_to_string(&mut answer);
        assert!(!answer.contains("200 OK") && !answer.contains("valid"), "{header}: {answer}");
    }
}

/// A revoked root key must not continue to verify on a connection that it opened before.
#[test]
fn a_connection_does_not_outlive_its_credential() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let (caller, token) = root_key(&client, &["keys:verify"], None);
    let mut socket = open(&client);
    let plain = verification(&client.with_token(&token), &issued.token);
    let mut ask = || {
        socket.write_all(&plain).unwrap();
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    assert!(ask().contains("VALID"));
    client.delete(&format!("/v1/root-keys/{caller}")).expect(204);
    assert!(ask().starts_with("HTTP/1.1 401"));
}

#[test]
fn a_connection_beyond_the_limit_is_refused_and_others_continue() {
    const CONNECTIONS_MAX: usize = 50;
    let of_address = ["--max-connections-per-address", "0"].map(str::to_owned);
    let mut arguments = vec!["--max-connections".to_owned(), CONNECTIONS_MAX.to_string()];
    arguments.extend(of_address);
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    // This one has been served before and then waits with all others.
    let mut plain = open(&client);
    let mut others: Vec<TcpStream> = (1..CONNECTIONS_MAX).map(|_| open(&client)).collect();
    let refused = poll::until("a connection to be refused", TIME_MAX, || {
        let mut socket = open(&client);
        // An accepted connection gets no answer, as no request was sent on it.
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut answer = String::new();
        match socket.read_to_string(&mut answer) {
            Ok(_) => Some(answer),
            Err(_) => {
                others.push(socket);
                None
            }
        }
    });
    let (head, body) = refused.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"), "{head}");
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["code"], "overloaded");
    assert!(text(&problem["request_id"]).starts_with("req_") && !text(&problem["detail"]).is_empty());
    plain.write_all(&verification(&client, &issued.token)).unwrap();
    let mut answer = [0; 12];
    plain.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(others);
    poll::until("room for another connection", TIME_MAX, || {
        client.get("/healthz").try_send().ok().filter(|answer| answer.status == 200)
    });
}
