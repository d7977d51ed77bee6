//! OAuth 2.0 with published client libraries.

use std::fs;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{access_token, application, text};
use keyledger_tests::processes::node;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

fn issuer(client: &Client) -> String {
    format!("http://{}", client.address())
}

fn obtain(client: &Client, id: &str, secret: &str, method: &str, parameters: &Value) -> Value {
    let input = json!({
        "issuer": issuer(client), "client_id": id, "client_secret": secret, "method": method,
        "parameters": parameters, "introspect": parameters.get("scope").is_none(),
    });
    node::run("client_credentials.mjs", &input)
}

#[test]
fn a_published_library_obtains_a_token_by_discovery() {
    let server = Server::start();
    let client = server.client();
    let app = application(&client, &["keys:read", "keys:verify"], None);
    let issuer = issuer(&client);
    for (method, parameters, scope, audience) in [
        ("basic", json!({}), "keys:read keys:verify", issuer.clone()),
        ("post", json!({ "scope": "keys:read" }), "keys:read", issuer.clone()),
        (
            "basic",
            json!({ "audience": format!("{issuer}/api"), "scope": "keys:read" }),
            "keys:read",
            format!("{issuer}/api"),
        ),
    ] {
        let obtained = obtain(&client, &app.id, &app.secret, method, &parameters);
        let claims = &obtained["claims"];
        assert_eq!(claims["aud"], json!(audience), "{obtained}");
        assert_eq!(
            (&claims["scope"], &claims["sub"], &claims["client_id"]),
            (&json!(scope), &json!(app.id), &json!(app.id))
        );
        assert_eq!(obtained["granted"]["token_type"], "bearer");
        assert_eq!(obtained["granted"]["expires_in"], 900);
        let token = text(&obtained["granted"]["access_token"]);
        if parameters.get("scope").is_none() {
            let introspection = &obtained["introspection"];
            assert_eq!(
                (&introspection["active"], &introspection["scope"]),
                (&json!(true), &json!(scope)),
                "{obtained}"
            );
            assert_eq!(introspection["client_id"], json!(app.id));
        }
        server.transcript().issue(&token);
        client.with_token(&token).get("/v1/keys").expect(200);
        client.anonymous().get("/v1/keys").header("x-api-key", &token).expect(200);
    }
    let wrong = keyledger_tests::data::token::with_head("klsecret_", [7; 32]);
    // The library reports the challenge of a refused Authorization header, and ignores the body beside it.
    for (method, error) in [("basic", "OAUTH_WWW_AUTHENTICATE_CHALLENGE"), ("post", "invalid_client")] {
        let refused = obtain(&client, &app.id, &wrong, method, &json!({}));
        assert_eq!((&refused["error"], &refused["status"]), (&json!(error), &json!(401)), "{refused}");
    }
    let refused = obtain(&client, &app.id, &app.secret, "basic", &json!({ "scope": "keys:delete" }));
    assert_eq!(refused["error"], "invalid_scope", "{refused}");
}

#[test]
fn forged_tokens_are_refused_everywhere() {
    let server = Server::start();
    let client = server.client();
    let app = application(&client, &["keys:read", "keys:verify"], None);
    let good = access_token(&client, &app);
    let stored = fs::read(server.data().join("signing-keys.json")).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let input = json!({ "token": good, "private_key": stored["keys"][0]["private_key"] });
    let forged = node::run("forge_tokens.mjs", &input);
    let verify = json!({ "token": keyledger_tests::data::token::unknown("kl", "live") });
    let mut count = 0;
    for (name, token) in forged.as_object().unwrap() {
        let caller = client.with_token(&text(token));
        let expected = if name == "control" { 200 } else { 401 };
        for request in [caller.get("/v1/keys"), caller.post("/v1/keys/verify", &verify)] {
            let answer = request.send();
            assert_eq!(answer.status, expected, "{name}: {}", answer.text());
        }
        count += 1;
    }
    assert!(count > 20, "{count} tokens");
}
