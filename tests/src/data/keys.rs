//! Large numbers of keys, created through the HTTP interface.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::http::Client;
use crate::client::load::{Load, Protocol};
use crate::data::fixture;

/// The number of concurrent requests.
pub const CONNECTIONS: usize = 64;

/// Encoded requests that create keys in a new organization.
#[must_use]
pub fn create_requests(client: &Client) -> Vec<Vec<u8>> {
    let organization = fixture::organization(client, "paid");
    (0..1_000)
        .map(|n| {
            let body = fixture::key_body(
                &organization,
                json!({ "name": format!("Production integration {n}"), "user_id": format!("user-{n}"), "expires_in": "one_year" }),
            );
            client.post("/v1/keys", &body).encode("keep-alive")
        })
        .collect()
}

/// Creates at least `count` keys and returns their tokens.
///
/// # Panics
/// When the server refuses a request.
#[must_use]
pub fn create(client: &Client, count: usize) -> Vec<String> {
    let requests = create_requests(client);
    let mut tokens = Vec::with_capacity(count);
    let mut load = Load::connect(client.address(), Protocol::Http, CONNECTIONS);
    let mut next = requests.iter().cycle();
    while tokens.len() < count {
        load.run(
            Duration::from_millis(500),
            || next.next().expect("a cycle has no end"),
            |answer| tokens.push(token_of(answer)),
        );
    }
    tokens
}

fn token_of(answer: &[u8]) -> String {
    let body = body_of(answer);
    let answer: Value = serde_json::from_slice(body).expect("an answer is JSON");
    fixture::text(&answer["token"])
}

/// The part of an answer after its headers.
///
/// # Panics
/// When the headers are incomplete.
#[must_use]
pub fn body_of(answer: &[u8]) -> &[u8] {
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    &answer[start + 4..]
}
