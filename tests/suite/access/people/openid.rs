//! Users of an OpenID provider. A real provider runs beside the service.

use std::time::Duration;

use keyledger_tests::data::fixture::{events, issued, key, key_body, root_key};
use keyledger_tests::poll;
use keyledger_tests::processes::openid_provider::{AUDIENCE, Provider, arguments, person};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

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

/// The claims of a user with a role in an organization.
fn claims(sub: &str, organization: &str) -> Value {
    json!({ "sub": sub, "aud": AUDIENCE, "role": "owner", "organization_id": organization })
}

#[test]
fn a_token_for_another_purpose_lets_nobody_in() {
    let mut provider = Provider::start(&json!([]));
    let server = serve(&provider.issuer);
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "acme", "kind": "paid" })).expect(201);
    let mut status = |header: Value, more: Value| {
        let mut all = claims("olga", "acme");
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.with_token(&provider.sign(&server, &header, &all)).get("/v1/keys").send().status
    };
    for typ in ["at+jwt", "application/at+jwt", "JWT"] {
        assert_eq!(status(json!({ "typ": typ }), json!({})), 200, "{typ}");
    }
    assert_eq!(status(json!({}), json!({})), 200, "some providers set no type");
    for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt", "x"] {
        assert_eq!(status(json!({ "typ": typ }), json!({})), 401, "{typ}");
    }
    let logout = json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } });
    assert_eq!(status(json!({ "typ": "JWT" }), logout), 401);
    // An ID token is for the client that the user signs in to.
    assert_eq!(
        status(json!({ "typ": "JWT" }), json!({ "aud": "console", "nonce": "n", "at_hash": "h" })),
        401
    );
    assert_eq!(status(json!({ "typ": "at+jwt" }), json!({ "aud": ["shop", AUDIENCE], "azp": "shop" })), 200);
}

#[test]
fn a_users_idempotency_key_is_nobody_elses() {
    let mut provider = Provider::start(&json!([]));
    let server = serve(&provider.issuer);
    let client = server.client();
    for id in ["acme", "other"] {
        client.post("/v1/organizations", &json!({ "id": id, "kind": "paid" })).expect(201);
    }
    // The same person in two organizations, with a body that names neither.
    let mut register = |organization: &str| {
        let by = client.with_token(&provider.sign(&server, &json!({}), &claims("olga", organization)));
        let body = json!({ "url": "https://example.com/", "event_types": ["KeyDeleted"] });
        by.post("/v1/webhooks", &body).header("idempotency-key", "k").expect(201)
    };
    for organization in ["acme", "other"] {
        for replayed in [None, Some("true")] {
            let answer = register(organization);
            assert_eq!(answer.header("idempotent-replayed"), replayed, "{organization}");
            assert_eq!(answer.json()["webhook"]["organization_id"], organization);
        }
    }
}

#[test]
fn no_user_is_mistaken_for_another_caller() {
    let mut provider = Provider::start(&json!([]));
    let mut server = serve(&provider.issuer);
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "acme", "kind": "paid" })).expect(201);
    let root_key_id = root_key(&client, &["keys:read"], None).0;
    for (sub, status) in [("olga", 200), ("1001", 200), (root_key_id.as_str(), 401), ("system", 401)] {
        let token = provider.sign(&server, &json!({}), &claims(sub, "acme"));
        assert_eq!(client.with_token(&token).get("/v1/keys").send().status, status, "{sub}");
    }

    // Another provider's user with the same `sub` is another person, so its users are not let in by a mere
    // change of the option.
    server.stop();
    let root_token = server.root_token().to_owned();
    let directory = server.into_directory();
    let known = directory.path().join("data/openid-issuer");
    assert_eq!(std::fs::read_to_string(&known).unwrap().trim(), provider.issuer);
    std::fs::write(&known, "https://former.example.com\n").unwrap();
    let options = || Options { arguments: arguments(&provider.issuer), ..Options::default() };
    let kept = directory.path().to_owned();
    let mut directory = directory;
    directory.disable_cleanup(true);
    let refusal = Server::start_in(directory, &root_token, options()).err().unwrap();
    assert!(
        refusal.message.contains("https://former.example.com") && refusal.message.contains("openid-issuer")
    );
    std::fs::remove_file(&known).unwrap();
    let again = tempfile::tempdir().unwrap();
    std::fs::rename(kept.join("data"), again.path().join("data")).unwrap();
    std::fs::remove_dir_all(kept).unwrap();
    let server = Server::start_in(again, &root_token, options()).unwrap();
    server.client().get("/v1/organizations/acme").expect(200);
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
