//! Bytes that are not a valid HTTP request, and bodies that are too large or too slow: refused without harm.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{key, organization, text};
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

use super::bad_input::check;

#[test]
fn bytes_that_are_not_http_are_refused() {
    let server = Server::start();
    let client = server.client();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/keys HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let answer = raw(&client, bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut long = b"GET /v1/keys HTTP/1.1\r\nhost: x\r\nx-long: ".to_vec();
    long.resize(400_000, b'a');
    long.extend_from_slice(b"\r\n\r\n");
    let answer = raw(&client, &long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    client.get("/v1/keys").expect(200);
}

fn raw(client: &Client, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(client.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Both may fail once the server has refused the request and closed the connection.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request that the server answers last, and reads until the server closes. If this side closed
/// first, the server could omit the answer.
fn answered(client: &Client, request: &str) -> String {
    let mut socket = TcpStream::connect(client.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_refused_by_the_http_library_get_a_problem_too() {
    let server = Server::start();
    let client = server.client();
    let (host, close) = ("host: keys.example.com\r\n", "connection: close\r\n");
    let long = format!("GET /v1/keys HTTP/1.1\r\n{host}x-long: {}\r\n\r\n", "a".repeat(60_000));
    let many = format!("GET /v1/keys HTTP/1.1\r\n{host}{}\r\n", "x-many: 1\r\n".repeat(101));
    for (bytes, status, code) in [
        (long, "431 Request Header Fields Too Large", "headers_too_large"),
        (many, "431 Request Header Fields Too Large", "headers_too_large"),
        (format!("GET /v1/keys HTTP/1.1\r\n{host}a b: c\r\n\r\n"), "400 Bad Request", "malformed_request"),
        (format!("GET /v1/keys HTTP/9.9\r\n{host}\r\n"), "400 Bad Request", "malformed_request"),
        (format!("GET\r\n{host}\r\n"), "400 Bad Request", "malformed_request"),
        // The answer to an earlier request on the same connection is unchanged.
        (
            format!("GET /healthz HTTP/1.1\r\n{host}\r\nGET /v1/keys HTTP/1.1\r\n{host}a b: c\r\n\r\n"),
            "400 Bad Request",
            "malformed_request",
        ),
        (format!("GET /v1/keys HTTP/1.1\r\n{close}\r\n"), "400 Bad Request", "malformed_request"),
        (format!("GET /v1/keys HTTP/1.1\r\n{host}{host}{close}\r\n"), "400 Bad Request", "malformed_request"),
        (
            format!("GET /v1/keys HTTP/1.1\r\nhost: a b\r\n{close}\r\n"),
            "400 Bad Request",
            "malformed_request",
        ),
        (
            format!("GET /v1/keys HTTP/1.1\r\nhost: a@b\r\n{close}\r\n"),
            "400 Bad Request",
            "malformed_request",
        ),
        // Two lengths, in either order: another server could read where it ends differently.
        (
            format!(
                "POST /v1/keys HTTP/1.1\r\n{host}content-length: 4\r\ntransfer-encoding: chunked\r\n{close}\r\n0\r\n\r\n"
            ),
            "400 Bad Request",
            "malformed_request",
        ),
        (
            format!(
                "GET /v1/keys HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-LENGTH:4\r\n{close}\r\n0\r\n\r\n"
            ),
            "400 Bad Request",
            "malformed_request",
        ),
    ] {
        let answer = answered(&client, &bytes);
        let refusal = answer.rfind("HTTP/1.1 4").and_then(|at| answer.get(at..)).unwrap_or("");
        assert!(refusal.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{bytes:.200}: {answer}");
        let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/problem+json"), "{bytes:.200}: {answer}");
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{bytes:.200}: {answer}");
        assert!(head.contains(&format!("x-request-id: {}", text(&problem["request_id"]))), "{answer}");
    }
    // The fast path, ahead of the router, refuses them too.
    let token = key(&client, &organization(&client, "paid"), json!({})).token;
    let body = json!({ "token": token }).to_string();
    for hosts in ["", "host: a\r\nhost: a\r\n", "host: a@b\r\n"] {
        let request = format!(
            "POST /v1/keys/verify HTTP/1.1\r\n{hosts}{close}authorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            server.root_token(),
            body.len()
        );
        assert!(answered(&client, &request).starts_with("HTTP/1.1 400 "), "{hosts}");
    }
    // A length that no memory has is no length that the fast path may add to.
    for length in [u64::MAX, u64::MAX - 100, 1 << 40] {
        let request = format!(
            "POST /v1/keys/verify HTTP/1.1\r\n{host}{close}authorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}",
            server.root_token()
        );
        let answer = answered(&client, &request);
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("problem+json"), "{length}: {answer}");
    }
    for path in [
        "/v1/organizations/%ff/policies/production",
        "/v1/organizations/%ff/clients/x",
        "/log/tile/0/%ff",
        "/v1/keys/%ff",
    ] {
        let answer = client.get(path).send();
        assert!(matches!(answer.status, 404 | 405), "{path}: {}", answer.text());
        check(path, &answer, answer.status, &answer.code(), &[]);
    }
    assert_eq!(client.get("/v1/forward-auth/%ff").send().status, 401);
}

#[test]
fn bodies_that_are_too_large_or_too_slow_are_refused() {
    let server = Server::start();
    let client = server.client();
    // A client is not asked to send a body that will not be read.
    let request = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: 70000\r\n\r\n",
        server.root_token()
    );
    let answer = answered(&client, &request);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");

    let mut socket = TcpStream::connect(client.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let request = request.replace("expect: 100-continue\r\n", "").replace("70000", "100");
    socket.write_all(request.as_bytes()).unwrap();
    socket.write_all(b"{").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");

    // The largest batch: a thousand of the longest tokens.
    let api = json!({ "name": "n", "audience": "a", "scopes": [], "token_prefix": "abcdefghijklmnop" });
    let api = text(&client.post("/v1/apis", &api).expect(201).json()["id"]);
    let longest = json!({ "api_id": api, "environment": "preview" });
    let token = key(&client, &organization(&client, "paid"), longest).token;
    assert_eq!(token.len(), 74);
    let verdicts = client.post("/v1/keys/verify-batch", &json!({ "tokens": vec![token; 1_000] })).expect(200);
    assert!(verdicts.json()["data"].as_array().unwrap().iter().all(|it| it["code"] == "VALID"));
}
