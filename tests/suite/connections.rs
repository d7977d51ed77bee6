//! What one connection may rely on: requests in any pieces, in a row, in other words; and what happens when there are
//! too many.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keyledger_tests::fixture::{key, organization, root_key, text};
use keyledger_tests::http::Client;
use keyledger_tests::poll;
use keyledger_tests::server::{Options, Server};
use serde_json::{Value, json};

const TIME_MAX: Duration = Duration::from_secs(20);

fn open(client: &Client) -> TcpStream {
    let socket = TcpStream::connect(client.address()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(TIME_MAX)).unwrap();
    socket
}

/// Reads answers until the server closes: each as its head, without what differs from answer to answer, and its body.
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

/// What one connection answers to these bytes and then a request that closes it.
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

/// The same verification in words that leave it to the HTTP library.
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
        plain.replacen("verify HTTP", "verify? HTTP", 1),
        plain.replacen("\r\n", "\r\nkeyledger-min-position: 0\r\n", 1),
        plain.replacen("\r\n", &format!("\r\nx-long: {}\r\n", "x".repeat(9_000)), 1),
        chunked,
    ];
    words.into_iter().map(String::into_bytes).collect()
}

#[test]
fn a_verification_is_answered_the_same_in_any_words_and_pieces() {
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
            // A connection goes on in both ways.
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

#[test]
fn what_is_not_a_plain_verification_is_refused_as_everywhere() {
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
fn a_request_with_two_lengths_is_not_read_at_all() {
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
        // The connection ends without a verdict, be it with a reset.
        let _ = socket.read_to_string(&mut answer);
        assert!(!answer.contains("200 OK") && !answer.contains("valid"), "{header}: {answer}");
    }
}

/// A revoked root key must not go on verifying on a connection that it has opened before.
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
fn a_connection_too_many_is_told_so_and_the_others_go_on() {
    const CONNECTIONS_MAX: usize = 50;
    let arguments = vec!["--max-connections".to_owned(), CONNECTIONS_MAX.to_string()];
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    // One that has been served before, and then waits beside all others.
    let mut plain = open(&client);
    let mut others: Vec<TcpStream> = (1..CONNECTIONS_MAX).map(|_| open(&client)).collect();
    let refused = poll::until("a connection to be refused", TIME_MAX, || {
        let mut socket = open(&client);
        // Whoever is let in hears nothing, as nothing was asked.
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
