//! Handing on rights: whatever a credential mints, in whatever way, has no more rights than the credential
//! and does not outlast it.

mod world;

use keyledger_tests::data::fixture::{application, root_key};
use keyledger_tests::data::token;
use keyledger_tests::processes::openid_provider::{self, AUDIENCE, Provider, person};
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::seed;
use serde_json::{Value, json};

use world::{Credential, Holder, ORGANIZATIONS, ROLES, Rights, World};

const ATTEMPTS_MIN: usize = 220;
const ATTEMPTS_MAX: usize = 5_000;
const KILLS: usize = 12;
/// The provider's tokens are accepted for this long after they expire, in milliseconds.
const LEEWAY_MILLIS: i64 = 5_000;

fn people() -> Value {
    let claims = |role: &str| json!({ "role": role, "organization_id": "acme" });
    Value::Array(ROLES.iter().map(|role| person(role, claims(role))).collect())
}

/// Credentials of every kind mint whatever they can in every way that there is. What comes of it is compared
/// with a plain rule, and so is what is left when some of them end.
#[test]
fn nothing_that_is_minted_exceeds_or_outlasts_its_minter() {
    let provider = Provider::start(&people());
    let mut arguments = openid_provider::arguments(&provider.issuer);
    arguments.extend(
        [
            "--public-url",
            "http://keys.example",
            "--webhook-allow-http",
            "--webhook-allow-network",
            "127.0.0.1/32",
        ]
        .map(str::to_owned),
    );
    let mut server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    for id in ORGANIZATIONS {
        client.post("/v1/organizations", &json!({ "id": id, "kind": "paid" })).expect(201);
    }
    let mut world = World {
        server: &server,
        rng: seed::rng("handing on"),
        holders: Vec::new(),
        applications: Vec::new(),
        killed: Vec::new(),
        wrong: Vec::new(),
        granted: 0,
    };
    let bootstrap = Credential::RootKey("the bootstrap root key".into());
    let rights = Rights::new(&["admin"], None);
    world.add(Holder { credential: bootstrap, client: client.clone(), rights, end: None, minter: None });
    for role in ROLES {
        let token = provider.token(&server, role, AUDIENCE);
        let end = token::claims(&token)["exp"].as_i64().map(|seconds| seconds * 1_000 + LEEWAY_MILLIS);
        world.add(Holder {
            credential: Credential::OpenIdUser,
            client: client.with_token(&token),
            rights: Rights::of_role(role, "acme", Some(role)),
            end,
            minter: None,
        });
    }
    for _ in 0..6 {
        world.create_root_key(0);
        world.create_application(0);
    }
    let mut attempts = 0;
    while attempts < ATTEMPTS_MIN || (world.tests_little() && attempts < ATTEMPTS_MAX) {
        world.attempt();
        attempts += 1;
    }
    println!("{attempts} attempts, {} of them granted, {} holders", world.granted, world.holders.len());
    assert!(!world.tests_little());
    world.check_alive("before");
    for _ in 0..KILLS {
        world.kill();
        world.check_alive("after an end");
    }
    let World { holders, applications, killed, wrong, granted, rng, .. } = world;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));

    // A restart revives nothing.
    server.kill();
    server.start_again();
    let reconnect = |holder: Holder| Holder { client: holder.client.at(server.client().address()), ..holder };
    let holders = holders.into_iter().map(reconnect).collect();
    let mut world = World { server: &server, rng, holders, applications, killed, wrong: Vec::new(), granted };
    world.check_alive("after a restart");
    assert!(world.wrong.is_empty(), "{}", world.wrong.join("\n"));
}

#[test]
fn letting_people_in_takes_their_rights() {
    let server = Server::start();
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "acme", "kind": "paid" })).expect(201);
    let link = |role: &str| json!({ "organization_id": "acme", "role": role, "user_id": "u1" });
    let (_, token) = root_key(&client, &["portal:write"], None);
    let narrow = client.with_token(&token);
    for role in ROLES {
        let refused = narrow.post("/v1/portal-sessions", &link(role)).expect(403);
        assert!(refused.text().contains("lacks the permission"), "{}", refused.text());
    }
    let auditors = ["portal:write", "keys:read", "organizations:read", "apis:read", "events:read"];
    let auditing = client.with_token(&root_key(&client, &auditors, Some("acme")).1);
    auditing.post("/v1/portal-sessions", &link("auditor")).expect(201);
    for role in ["owner", "admin", "member"] {
        auditing.post("/v1/portal-sessions", &link(role)).expect(403);
    }
}

#[test]
fn a_lesser_caller_neither_weakens_nor_ends_an_application() {
    let server = Server::start();
    let client = server.client();
    let (_, token) = root_key(&client, &["applications:write", "keys:read"], None);
    let lesser = client.with_token(&token);
    let great = application(&client, &["admin"], None);
    let small = application(&client, &["keys:read"], None);
    for edit in [json!({ "permissions": ["keys:read"] }), json!({ "name": "x" }), json!({})] {
        lesser.patch(&great.path(""), &edit).expect(403);
        lesser.patch(&small.path(""), &edit).expect(200);
    }
    lesser.delete(&great.path("")).expect(403);
    assert_eq!(client.get(&great.path("")).expect(200).json()["permissions"], json!(["admin"]));
    lesser.delete(&small.path("")).expect(204);
}

#[test]
fn an_organization_cannot_sell_itself_anything() {
    let server = Server::start();
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "freebie", "kind": "free" })).expect(201);
    let policy = json!({ "expiry_required": true });
    client.put("/v1/organizations/freebie/policies/production", &policy).expect(200);
    let all = ["organizations:write", "organizations:read", "keys:create"];
    for permissions in [&all[..], &["admin"]] {
        let bound = client.with_token(&root_key(&client, permissions, Some("freebie")).1);
        let path = "/v1/organizations/freebie";
        for request in [
            bound.patch(path, &json!({ "kind": "paid" })),
            bound.patch(path, &json!({ "name": "x", "kind": "free" })),
            bound.delete(path),
            bound.put("/v1/organizations/freebie/policies/production", &json!({})),
            bound.put("/v1/organizations/freebie/policies/preview", &json!({})),
            bound.delete("/v1/organizations/freebie/policies/production"),
        ] {
            assert_eq!(request.expect(403).code(), "forbidden");
        }
        bound.patch(path, &json!({ "name": "Freebie Inc" })).expect(200);
        let body = json!({ "organization_id": "freebie", "environment": "production" });
        assert_eq!(bound.post("/v1/keys", &body).expect(403).code(), "organization_kind_not_allowed");
    }
    let shown = client.get("/v1/organizations/freebie").expect(200).json();
    assert_eq!((&shown["kind"], &shown["status"]), (&json!("free"), &json!("active")));
}
