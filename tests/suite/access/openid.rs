//! Users of an OpenID provider. A real provider runs beside the service.

use std::time::Duration;

use keyledger_tests::data::fixture::{events, issued, key, key_body};
use keyledger_tests::poll;
use keyledger_tests::processes::openid_provider::{AUDIENCE, Provider, arguments, person};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::json;

fn serve(issuer: &str) -> Server {
    Server::start_with(Options { arguments: arguments(issuer), ..Options::default() })
}

#[test]
fn users_have_the_role_in_their_providers_claims() {
    let people = json!([
        person("olga", json!({ "role": "owner", "organization_id": "acme" })),
        person("mo", json!({ "role": ["everyone", "member"], "organization_id": "acme" })),
        person("audrey", json!({ "role": "auditor", "organization_id": "acme" })),
        person("nobody", json!({ "organization_id": "acme" })),
        person("stray", json!({ "role": "owner", "organization_id": "elsewhere" })),
        person("homeless", json!({ "role": "owner" })),
    ]);
    let provider = Provider::start(&people);
    let server = serve(&provider.issuer);
    let client = server.client();
    for id in ["acme", "other"] {
        client.post("/v1/organizations", &json!({ "id": id, "kind": "paid" })).expect(201);
    }
    let (ours, theirs) = (key(&client, "acme", json!({ "user_id": "u7" })), key(&client, "other", json!({})));
    let user = |id: &str| client.with_token(&provider.token(&server, id, AUDIENCE));

    let olga = user("olga");
    olga.get(&ours.path("")).expect(200);
    olga.get(&theirs.path("")).expect(404);
    let made = issued(&olga.post("/v1/keys", &key_body("acme", json!({}))).expect(201));
    let actor = &events(&client, &made.id)[0]["actor"];
    assert_eq!(
        (&actor["kind"], &actor["id"], &actor["ip"]),
        (&json!("user"), &json!("olga"), &json!("127.0.0.1"))
    );

    let mo = user("mo");
    mo.get(&ours.path("")).expect(404);
    let own = issued(&mo.post("/v1/keys", &key_body("acme", json!({}))).expect(201));
    assert_eq!(own.key["user_id"], "mo");
    let listed = mo.get("/v1/keys").header("keyledger-min-position", &own.position.to_string()).expect(200);
    assert_eq!(listed.json()["total"], 1);

    let audrey = user("audrey");
    audrey.get(&ours.path("/events")).expect(200);
    audrey.delete(&ours.path("")).expect(403);
    // A role in an organization that does not exist is no role.
    for id in ["nobody", "stray", "homeless"] {
        for request in [user(id).get("/v1/keys"), user(id).get("/v1/organizations"), user(id).get("/v1/apis")]
        {
            assert_eq!(request.expect(403).code(), "forbidden", "{id}");
        }
    }
    // A token for another audience is refused.
    client
        .with_token(&provider.token(&server, "olga", "https://elsewhere.example"))
        .get("/v1/keys")
        .expect(401);
    // Users stop with their organization.
    client.delete("/v1/organizations/acme").expect(204);
    olga.get("/v1/keys").expect(403);
}

#[test]
fn tokens_are_verified_with_the_providers_current_keys() {
    let people = json!([
        person("olga", json!({ "role": "owner", "organization_id": "acme" })),
        { "id": "brief", "seconds": 1, "claims": { "role": "owner", "organization_id": "acme" } },
    ]);
    let mut provider = Provider::start(&people);
    let server = serve(&provider.issuer);
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "acme", "kind": "paid" })).expect(201);
    let before = provider.token(&server, "olga", AUDIENCE);
    client.with_token(&before).get("/v1/keys").expect(200);

    // Tampered with, in each of its three parts.
    let parts: Vec<&str> = before.split('.').collect();
    let claims = keyledger_tests::data::token::base64(
        json!({ "iss": provider.issuer, "aud": AUDIENCE, "sub": "olga", "exp": 4_000_000_000_u64, "role": "owner", "organization_id": "acme" })
            .to_string()
            .as_bytes(),
        true,
    );
    let none = keyledger_tests::data::token::base64(br#"{"alg":"none","typ":"at+jwt","kid":"key-1"}"#, true);
    for forged in [
        format!("{}.{claims}.{}", parts[0], parts[2]),
        format!("{none}.{claims}."),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
    ] {
        client.with_token(&forged).get("/v1/keys").expect(401);
    }

    // A new signing key is fetched when a token names it, and the old one is dropped.
    provider.rotate();
    let after = provider.token(&server, "olga", AUDIENCE);
    poll::until("the new key to be fetched", Duration::from_secs(20), || {
        (client.with_token(&after).get("/v1/keys").send().status == 200).then_some(())
    });
    client.with_token(&before).get("/v1/keys").expect(401);

    // A provider that cannot be reached does not make the service forget its keys.
    let brief = provider.token(&server, "brief", AUDIENCE);
    client.with_token(&brief).get("/v1/keys").expect(200);
    drop(provider);
    client.with_token(&after).get("/v1/keys").expect(200);
    // An expired token is refused, a few seconds later because clocks differ.
    poll::until("the token to end", Duration::from_secs(20), || {
        (client.with_token(&brief).get("/v1/keys").send().status == 401).then_some(())
    });
    client.get("/v1/keys").expect(200);
}

#[test]
fn an_unusable_provider_is_named() {
    for (arguments, named) in [
        (vec!["--oidc-issuer", "http://id.example.com", "--oidc-audience", "x"], "http://id.example.com"),
        (vec!["--oidc-issuer", "id.example.com", "--oidc-audience", "x"], "id.example.com"),
    ] {
        let options =
            Options { arguments: arguments.into_iter().map(str::to_owned).collect(), ..Options::default() };
        let directory = tempfile::tempdir().unwrap();
        let refusal =
            Server::start_in(directory, &keyledger_tests::data::token::root(), options).err().unwrap();
        refusal.check(named);
    }
    // A provider that does not answer affects no other caller.
    let server = serve("http://127.0.0.1:1");
    let client = server.client();
    client.with_token("eyJhbGciOiJSUzI1NiIsImtpZCI6InEifQ.e30.AAAA").get("/v1/keys").expect(401);
    client.get("/v1/keys").expect(200);
}
