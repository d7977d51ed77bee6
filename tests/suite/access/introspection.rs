//! Token introspection (RFC 7662) of key tokens and access tokens.

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{access_token, api, application, key, organization, root_key, text};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

fn introspect(client: &Client, token: &str) -> Value {
    let answer = client.request("POST", "/oauth2/introspect").form(&[("token", token)]).expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

const INACTIVE: fn() -> Value = || json!({ "active": false });

#[test]
fn keys_are_distinguished_from_other_texts() {
    let server = Server::start();
    let client = server.client();
    let (own, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let api = api(&client, &["read:users", "write:users"]);
    let more = json!({ "user_id": "u1", "api_id": api, "scopes": ["read:users"], "expires_in": "one_month" });
    let issued = key(&client, &own, more);
    let answer = introspect(&client, &issued.token);
    let expires_at = text(&issued.key["expires_at"]);
    let expires_at = chrono::DateTime::parse_from_rfc3339(&expires_at).unwrap().timestamp();
    let created_at =
        chrono::DateTime::parse_from_rfc3339(&text(&issued.key["created_at"])).unwrap().timestamp();
    assert_eq!(
        answer,
        json!({
            "active": true, "scope": "read:users", "token_type": "Bearer", "sub": "u1", "aud": "https://users.example",
            "iss": format!("http://{}", client.address()), "exp": expires_at, "iat": answer["iat"], "jti": issued.id,
            "organization_id": own, "environment": "production", "api_id": api,
        })
    );
    assert!((answer["iat"].as_i64().unwrap() - created_at).abs() <= 1);

    // A caller that may not see the key learns nothing about it.
    for (organization, expected) in [(&own, true), (&other, false)] {
        let (_, bound) = root_key(&client, &["keys:verify"], Some(organization));
        let answer = introspect(&client.with_token(&bound), &issued.token);
        assert_eq!(answer["active"], expected);
        assert!(expected || answer == INACTIVE(), "{answer}");
    }
    client.post(&issued.path("/revoke"), &json!({})).expect(200);
    let unknown = token::unknown("kl", "live");
    for dead in
        [issued.token.as_str(), &unknown, "kl_live_x", "a.b.c", "no token at all", server.root_token()]
    {
        assert_eq!(introspect(&client, dead), INACTIVE());
    }
}

#[test]
fn an_access_token_is_active_while_its_application_is() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let app = application(&client, &["keys:read", "keys:verify"], Some(&org));
    let token = access_token(&client, &app);
    let answer = introspect(&client, &token);
    for (member, expected) in [
        ("active", json!(true)),
        ("client_id", json!(app.id)),
        ("sub", json!(app.id)),
        ("scope", json!("keys:read keys:verify")),
        ("organization_id", json!(org)),
        ("aud", json!(format!("http://{}", client.address()))),
    ] {
        assert_eq!(answer[member], expected, "{member}");
    }
    assert_eq!(answer["exp"].as_i64().unwrap() - answer["iat"].as_i64().unwrap(), 900);
    client.patch(&app.path(""), &json!({ "permissions": ["keys:verify"] })).expect(200);
    assert_eq!(introspect(&client, &token)["scope"], "keys:verify");

    // An application asks about its own token, authenticated by its token and by its secret.
    assert_eq!(introspect(&client.with_token(&token), &token)["active"], true);
    let anonymous = client.anonymous();
    let form = [("token", token.as_str()), ("client_id", &app.id), ("client_secret", &app.secret)];
    let answer = anonymous.request("POST", "/oauth2/introspect").form(&form).expect(200);
    assert_eq!(answer.json()["active"], true);

    client.delete(&app.path("")).expect(204);
    assert_eq!(introspect(&client, &token), INACTIVE());
    let refused = anonymous.request("POST", "/oauth2/introspect").form(&form).expect(401);
    assert_eq!(refused.json()["error"], "invalid_client");
}

#[test]
fn introspection_requires_the_permission_to_verify() {
    let server = Server::start();
    let client = server.client();
    let ask = |client: &Client, form: &[(&str, &str)]| {
        let answer = client.request("POST", "/oauth2/introspect").form(form).send();
        (answer.status, answer.json()["code"].clone(), answer.json()["error"].clone())
    };
    let form = [("token", "x")];
    assert_eq!(ask(&client.anonymous(), &form), (401, json!("unauthenticated"), Value::Null));
    let (_, reader) = root_key(&client, &["keys:read"], None);
    assert_eq!(ask(&client.with_token(&reader), &form), (403, json!("forbidden"), Value::Null));
    let app = application(&client, &["keys:read"], None);
    let shown = [("token", "x"), ("client_id", &app.id), ("client_secret", &app.secret)];
    assert_eq!(ask(&client.anonymous(), &shown), (403, json!("forbidden"), Value::Null));
    assert_eq!(ask(&client, &[]), (400, Value::Null, json!("invalid_request")));
    assert_eq!(ask(&client, &[("token", "x"), ("token", "y")]), (400, Value::Null, json!("invalid_request")));
}
