//! Verification: its codes in order, batches, and looking up the key of a token in any state.

use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, Issued, code, events, key, organization, types};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

#[test]
fn the_first_code_that_applies_is_answered() {
    let server = Server::start();
    let client = server.client();
    let (own, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let (api, other_api) = (fixture::api(&client, &["a", "b"]), fixture::api(&client, &["a"]));
    let issued = key(&client, &own, json!({ "api_id": api, "scopes": ["a"] }));
    let all_wrong = json!({ "environment": "preview", "organization_id": other, "api_id": other_api, "scopes": ["a", "b"] });
    let demand = |token: &str, fields: &[&str]| -> Value {
        let mut body = json!({ "token": token });
        for field in fields {
            body[*field] = all_wrong[*field].clone();
        }
        client.post("/v1/keys/verify", &body).expect(200).json()
    };
    let everything = ["environment", "organization_id", "api_id", "scopes"];
    let check = |token: &str, fields: &[&str], expected: &str| {
        let answer = demand(token, fields);
        assert_eq!(answer["code"], expected, "{fields:?}");
        assert_eq!(answer["valid"], expected == "VALID");
        let named = answer.get("key_id").is_some_and(|id| !id.is_null());
        assert_eq!(named, !matches!(expected, "MALFORMED" | "NOT_FOUND"), "key_id with {expected}");
        assert!(answer["position"].is_u64());
    };
    check(&token::with_wrong_checksum(&issued.token), &everything, "MALFORMED");
    check(&token::unknown("kl", "live"), &everything, "NOT_FOUND");
    check(&issued.token, &[], "VALID");
    check(&issued.token, &everything, "WRONG_ENVIRONMENT");
    check(&issued.token, &everything[1..], "WRONG_ORGANIZATION");
    check(&issued.token, &everything[2..], "WRONG_API");
    check(&issued.token, &everything[3..], "INSUFFICIENT_SCOPE");

    client.post(&issued.path("/revoke"), &json!({})).expect(200);
    check(&issued.token, &everything, "REVOKED");
    let end = (chrono::Utc::now() + Duration::from_millis(300)).to_rfc3339();
    let short = key(&client, &own, json!({ "expires_at": end }));
    poll::until("the key to expire", Duration::from_secs(5), || {
        (code(&client, &short.token) == "EXPIRED").then_some(())
    });
    check(&short.token, &everything, "EXPIRED");
    client.delete(&short.path("")).expect(204);
    check(&short.token, &everything, "NOT_FOUND");

    // Fulfilled demands, one by one and all together.
    let good = key(&client, &own, json!({ "api_id": api, "scopes": ["a", "b"] }));
    let body = json!({
        "token": good.token, "environment": "production", "organization_id": own, "api_id": api, "scopes": ["b", "a"],
    });
    assert_eq!(client.post("/v1/keys/verify", &body).expect(200).json()["code"], "VALID");
}

#[test]
fn other_texts_are_malformed() {
    let server = Server::start();
    let client = server.client();
    let good = token::unknown("kl", "live");
    let (head, digits) = good.split_at("kl_live_".len());
    let texts = [
        String::new(),
        "x".into(),
        good[..good.len() - 1].into(),
        format!("{good}0"),
        format!("{good} "),
        format!(" {good}"),
        format!("{head}{}", "-".repeat(digits.len())),
        format!("KL_live_{digits}"),
        format!("kl_prod_{digits}"),
        format!("kl__{digits}"),
        "é".repeat(57),
        "a".repeat(40_000),
        "\u{0}".repeat(57),
        // The checksum covers the head, so the same digits with another head are malformed.
        format!("kl_preview_{digits}"),
    ];
    for text in texts {
        assert_eq!(code(&client, &text), "MALFORMED", "{:?}", text.chars().take(70).collect::<String>());
    }
    assert_eq!(code(&client, &good), "NOT_FOUND");
    // A root key's token is not a key's.
    assert!(matches!(code(&client, server.root_token()).as_str(), "MALFORMED" | "NOT_FOUND"));
}

#[test]
fn a_batch_answers_each_token_in_order() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let keys: Vec<Issued> = (0..5).map(|_| key(&client, &organization, json!({}))).collect();
    client.post(&keys[1].path("/revoke"), &json!({})).expect(200);
    client.delete(&keys[2].path("")).expect(204);
    let mut tokens: Vec<String> = keys.iter().map(|it| it.token.clone()).collect();
    tokens.push("garbage".into());
    tokens.push(keys[0].token.clone());
    let answer = client.post("/v1/keys/verify-batch", &json!({ "tokens": tokens })).expect(200).json();
    let codes: Vec<&str> = fixture::batch(&answer).iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["VALID", "REVOKED", "NOT_FOUND", "VALID", "VALID", "MALFORMED", "VALID"]);
    assert_eq!(fixture::batch(&answer)[6]["key_id"], keys[0].id);

    let answer = client
        .post("/v1/keys/verify-batch", &json!({ "tokens": tokens, "environment": "preview" }))
        .expect(200);
    assert_eq!(fixture::batch(&answer.json())[0]["code"], "WRONG_ENVIRONMENT");

    // The largest batch, and one token more.
    let full = vec![keys[3].token.clone(); 1_000];
    let answer = client.post("/v1/keys/verify-batch", &json!({ "tokens": full })).expect(200).json();
    assert_eq!(fixture::batch(&answer).iter().filter(|it| it["valid"] == true).count(), 1_000);
    let over = vec![keys[3].token.clone(); 1_001];
    let refused = client.post("/v1/keys/verify-batch", &json!({ "tokens": over })).expect(422).json();
    assert_eq!(refused["errors"][0]["pointer"], "/tokens");
}

fn find(client: &Client, token: &str) -> Value {
    client.post("/v1/keys/find", &json!({ "token": token })).expect(200).json()
}

#[test]
fn a_leaked_token_can_be_looked_up_in_any_state() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({ "name": "leaky" }));
    let found = find(&client, &issued.token);
    assert_eq!(found["key"]["id"], issued.id);
    let history = found["events"].as_array().cloned().unwrap_or_else(|| events(&client, &issued.id));
    assert_eq!(types(&history), ["KeyCreated"]);

    let rotated = fixture::issued(&client.post(&issued.path("/rotate"), &json!({})).expect(200));
    for token in [&issued.token, &rotated.token] {
        assert_eq!(find(&client, token)["key"]["id"], issued.id, "previous or current");
    }
    client.post(&issued.path("/revoke"), &json!({})).expect(200);
    assert_eq!(find(&client, &rotated.token)["key"]["status"], "revoked");
    client.delete(&issued.path("")).expect(204);
    for token in [&issued.token, &rotated.token] {
        let found = find(&client, token);
        assert_eq!((&found["key"]["id"], &found["key"]["status"]), (&json!(issued.id), &json!("deleted")));
        assert_eq!(found["key"]["name"], "leaky");
    }
    let unknown = client.post("/v1/keys/find", &json!({ "token": token::unknown("kl", "live") })).expect(404);
    assert_eq!(unknown.code(), "key_not_found");
    let malformed = client.post("/v1/keys/find", &json!({ "token": "kl_live_x" })).send();
    assert!(matches!(malformed.status, 404 | 422), "{}", malformed.text());
}

#[test]
fn lookups_work_after_a_restart() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let rotated = fixture::issued(
        &client.post(&issued.path("/rotate"), &json!({ "overlap_seconds": 600 })).expect(200),
    );
    let deleted = key(&client, &organization, json!({}));
    client.delete(&deleted.path("")).expect(204);
    for kill in [false, true] {
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        server.start_again();
        let client = server.client();
        assert_eq!(code(&client, &issued.token), "VALID");
        assert_eq!(code(&client, &rotated.token), "VALID");
        assert_eq!(code(&client, &deleted.token), "NOT_FOUND");
        for (token, id) in
            [(&issued.token, &issued.id), (&rotated.token, &issued.id), (&deleted.token, &deleted.id)]
        {
            assert_eq!(find(&client, token)["key"]["id"], **id);
        }
    }
}
