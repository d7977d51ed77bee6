//! Partners: portfolios, keys for a whole portfolio, and keys for one client in it.

use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    self, Issued, code, events, issued, key, key_body, organization, text, types,
};
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

/// The path of a client in a portfolio.
fn link_path(partner: &str, client: &str) -> String {
    format!("/v1/organizations/{partner}/clients/{client}")
}

#[track_caller]
fn link(client: &Client, partner: &str, organization: &str) {
    client.put(&link_path(partner, organization), &json!({})).expect(200);
}

/// Verifies a token for an organization.
#[track_caller]
fn verify_for(client: &Client, token: &str, organization: &str) -> Value {
    let question = json!({ "token": token, "organization_id": organization });
    client.post("/v1/keys/verify", &question).expect(200).json()
}

#[track_caller]
fn check(client: &Client, issued: &Issued, organization: &str, expected: &str) {
    let answer = verify_for(client, &issued.token, organization);
    assert_eq!(answer["code"], expected, "{answer}");
}

/// A partner with a client in its portfolio, and a client outside it.
struct Portfolio {
    server: Server,
    partner: String,
    client: String,
    outsider: String,
}

impl Portfolio {
    fn new() -> Self {
        let server = Server::start();
        let api = server.client();
        let [partner, client, outsider] = ["partner", "free", "paid"].map(|kind| organization(&api, kind));
        link(&api, &partner, &client);
        Self { server, partner, client, outsider }
    }

    fn client_key(&self) -> Issued {
        key(&self.server.client(), &self.partner, json!({ "client_organization_id": self.client }))
    }

    fn partner_key(&self) -> Issued {
        key(&self.server.client(), &self.partner, json!({ "owner": "partner" }))
    }
}

#[test]
fn a_client_is_linked_once_and_unlinked_once() {
    let Portfolio { server, partner, client, outsider } = Portfolio::new();
    let api = server.client();
    let path = link_path(&partner, &client);
    let first = api.put(&path, &json!({})).expect(200);
    assert_eq!(first.json()["organization_id"], client);
    assert_eq!(first.json()["partner_organization_id"], partner);
    let again = api.put(&path, &json!({})).expect(200);
    assert_eq!((again.json(), again.position()), (first.json(), first.position()));

    let page =
        |query: &str| api.get(&format!("/v1/organizations/{partner}/clients{query}")).expect(200).json();
    link(&api, &partner, &outsider);
    let listed = page("");
    assert_eq!((&listed["total"], &listed["next_cursor"]), (&json!(2), &Value::Null));
    let mut ids = [text(&listed["data"][0]["organization_id"]), text(&listed["data"][1]["organization_id"])];
    assert!(ids[0] < ids[1]);
    ids.sort();
    let one = page("?limit=1");
    assert_eq!((&one["data"][0]["organization_id"], &one["total"]), (&json!(ids[0]), &json!(2)));
    let rest = page(&format!("?limit=1&cursor={}", text(&one["next_cursor"])));
    assert_eq!((&rest["data"][0]["organization_id"], &rest["next_cursor"]), (&json!(ids[1]), &Value::Null));

    api.delete(&path).expect(204);
    let refused = api.delete(&path).expect(404).json();
    assert_eq!(refused["code"], "client_not_found");
    assert_eq!(page("")["total"], 1);
    // A deleted organization is in no portfolio.
    api.delete(&format!("/v1/organizations/{outsider}")).expect(204);
    assert_eq!(page("")["data"], json!([]));

    let trail = api.get(&format!("/v1/events?organization_id={partner}&limit=200")).expect(200).json();
    let trail = trail["data"].as_array().unwrap().clone();
    let links: Vec<_> = trail.iter().filter(|event| event["stream"]["kind"] == "client_link").collect();
    let found: Vec<_> = links.iter().map(|event| text(&event["type"])).collect();
    assert_eq!(found, ["ClientLinked", "ClientLinked", "ClientUnlinked"]);
    assert_eq!(links[2]["data"], json!({ "client_organization_id": client }));
    assert_eq!(links[2]["stream"]["id"], format!("{partner}/{client}"));
    assert_eq!(links[2]["actor"]["kind"], "root_key");
}

#[test]
fn only_existing_partners_can_link_existing_clients() {
    let Portfolio { server, partner, client, outsider } = Portfolio::new();
    let api = server.client();
    let refused = |partner: &str, client: &str, status: u16| {
        let answer = api.put(&link_path(partner, client), &json!({})).expect(status).json();
        text(&answer["code"])
    };
    assert_eq!(refused(&outsider, &client, 403), "organization_kind_not_allowed");
    assert_eq!(refused("nobody", &client, 404), "organization_not_found");
    assert_eq!(refused(&partner, "nobody", 404), "organization_not_found");
    assert_eq!(refused(&partner, "no%20id", 404), "organization_not_found");
    assert_eq!(refused(&partner, &partner, 422), "invalid_request");
    api.delete(&format!("/v1/organizations/{outsider}")).expect(204);
    assert_eq!(refused(&partner, &outsider, 410), "organization_deleted");
    api.delete(&format!("/v1/organizations/{partner}")).expect(204);
    assert_eq!(refused(&partner, &client, 410), "organization_deleted");
    assert_eq!(
        api.get("/v1/organizations/nobody/clients").expect(404).json()["code"],
        "organization_not_found"
    );
}

#[test]
fn a_client_key_works_for_its_client_only_and_stops_when_it_leaves() {
    let portfolio = Portfolio::new();
    let Portfolio { server, partner, client, outsider } = &portfolio;
    let api = server.client();
    let made = portfolio.client_key();
    assert_eq!(made.key["owner"], "client");
    assert_eq!(made.key["client_organization_id"], *client);
    assert_eq!(made.key["organization_id"], *partner);

    let answer = verify_for(&api, &made.token, client);
    assert_eq!((&answer["code"], &answer["owner"]), (&json!("VALID"), &json!("client")));
    assert_eq!(answer["client_organization_id"], *client);
    for other in [partner, outsider] {
        check(&api, &made, other, "WRONG_ORGANIZATION");
    }
    assert_eq!(code(&api, &made.token), "WRONG_ORGANIZATION", "the client must be named");

    let refused = api.post("/v1/keys", &key_body(partner, json!({ "client_organization_id": outsider })));
    assert_eq!(refused.expect(403).json()["code"], "client_not_in_portfolio");
    let refused = api.post("/v1/keys", &key_body(outsider, json!({ "client_organization_id": client })));
    assert_eq!(refused.expect(403).json()["code"], "organization_kind_not_allowed");

    let unlinked = api.delete(&link_path(partner, client)).expect(204);
    let stopped = verify_for(&api, &made.token, client);
    assert!(matches!(stopped["code"].as_str().unwrap(), "ORGANIZATION_INACTIVE" | "NOT_FOUND"), "{stopped}");
    for change in ["revoke", "rotate"] {
        let answer = api.post(&made.path(&format!("/{change}")), &json!({})).expect(410).json();
        assert_eq!(answer["code"], "key_deleted");
    }
    // Linking the client again revives no key. New keys work.
    link(&api, partner, client);
    assert_ne!(verify_for(&api, &made.token, client)["code"], "VALID");
    let new = portfolio.client_key();
    check(&api, &new, client, "VALID");

    let trail = poll::until("KeyDeleted to follow", Duration::from_secs(10), || {
        Some(events(&api, &made.id)).filter(|events| events.len() > 1)
    });
    assert_eq!(types(&trail), ["KeyCreated", "KeyDeleted"]);
    assert_eq!(trail[0]["data"]["owner"], json!({ "kind": "client", "client_id": client }));
    assert_eq!(trail[1]["actor"]["kind"], "system");
    let cause = format!("/v1/events?after={}&limit=1", unlinked.position() - 1);
    let cause = api.get(&cause).expect(200).json();
    assert_eq!(cause["data"][0]["type"], "ClientUnlinked");
    assert_eq!(trail[1]["causation_id"], cause["data"][0]["id"]);
    check(&api, &made, client, "NOT_FOUND");
}

#[test]
fn a_partner_key_works_for_the_current_portfolio() {
    let portfolio = Portfolio::new();
    let Portfolio { server, partner, client, outsider } = &portfolio;
    let api = server.client();
    let made = portfolio.partner_key();
    assert_eq!((&made.key["owner"], &made.key["client_organization_id"]), (&json!("partner"), &Value::Null));
    let wide = fixture::verify(&api, &made.token);
    assert_eq!((&wide["code"], &wide["owner"]), (&json!("VALID"), &json!("partner")));
    assert_eq!(wide.get("client_organization_id"), None);
    let own = verify_for(&api, &made.token, partner);
    assert_eq!((&own["code"], own.get("client_organization_id")), (&json!("VALID"), None));
    let for_client = verify_for(&api, &made.token, client);
    assert_eq!(for_client["code"], "VALID");
    assert_eq!(for_client["client_organization_id"], *client);

    check(&api, &made, outsider, "WRONG_ORGANIZATION");
    link(&api, partner, outsider);
    check(&api, &made, outsider, "VALID");
    api.delete(&link_path(partner, outsider)).expect(204);
    check(&api, &made, outsider, "WRONG_ORGANIZATION");
    api.delete(&format!("/v1/organizations/{client}")).expect(204);
    check(&api, &made, client, "WRONG_ORGANIZATION");
    assert_eq!(code(&api, &made.token), "VALID");

    let refused = api.post("/v1/keys", &key_body(outsider, json!({ "owner": "partner" })));
    assert_eq!(refused.expect(403).json()["code"], "organization_kind_not_allowed");
}

#[test]
fn deleting_an_organization_removes_it_from_every_portfolio() {
    let portfolio = Portfolio::new();
    let Portfolio { server, partner, client, outsider } = &portfolio;
    let api = server.client();
    link(&api, partner, outsider);
    let for_outsider = key(&api, partner, json!({ "client_organization_id": outsider }));
    let (for_client, wide) = (portfolio.client_key(), portfolio.partner_key());
    api.delete(&format!("/v1/organizations/{client}")).expect(204);
    assert_ne!(verify_for(&api, &for_client.token, client)["code"], "VALID");
    check(&api, &for_outsider, outsider, "VALID");
    let refused = api.post("/v1/keys", &key_body(partner, json!({ "client_organization_id": client })));
    assert_eq!(refused.expect(403).json()["code"], "client_not_in_portfolio");
    api.delete(&format!("/v1/organizations/{partner}")).expect(204);
    for (issued, organization) in [(&for_outsider, outsider), (&wide, partner)] {
        assert_ne!(verify_for(&api, &issued.token, organization)["code"], "VALID");
    }
    for issued in [&for_client, &for_outsider, &wide] {
        poll::until("KeyDeleted to follow", Duration::from_secs(10), || {
            (types(&events(&api, &issued.id)) == ["KeyCreated", "KeyDeleted"]).then_some(())
        });
    }
}

#[test]
fn portfolios_survive_restarts_and_kills() {
    let mut portfolio = Portfolio::new();
    let (kept, gone) = (portfolio.client_key(), portfolio.client_key());
    let wide = portfolio.partner_key();
    let api = portfolio.server.client();
    api.delete(&gone.path("")).expect(204);
    for kill in [false, true] {
        if kill {
            portfolio.server.kill()
        } else {
            assert!(portfolio.server.stop().success())
        }
        portfolio.server.start_again();
        let api = portfolio.server.client();
        check(&api, &kept, &portfolio.client, "VALID");
        check(&api, &gone, &portfolio.client, "NOT_FOUND");
        check(&api, &wide, &portfolio.client, "VALID");
        check(&api, &wide, &portfolio.outsider, "WRONG_ORGANIZATION");
    }
    let api = portfolio.server.client();
    api.delete(&link_path(&portfolio.partner, &portfolio.client)).expect(204);
    link(&api, &portfolio.partner, &portfolio.client);
    portfolio.server.kill();
    portfolio.server.start_again();
    let api = portfolio.server.client();
    assert_ne!(verify_for(&api, &kept.token, &portfolio.client)["code"], "VALID");
    check(&api, &wide, &portfolio.client, "VALID");
}

#[test]
fn a_contradictory_owner_is_refused() {
    let Portfolio { server, partner, client, .. } = Portfolio::new();
    let api = server.client();
    let pointers = |more: Value| {
        let answer = api.post("/v1/keys", &key_body(&partner, more)).expect(422).json();
        answer["errors"].as_array().unwrap().iter().map(|it| text(&it["pointer"])).collect::<Vec<_>>()
    };
    assert_eq!(pointers(json!({ "owner": "client" })), ["/client_organization_id"]);
    assert_eq!(pointers(json!({ "owner": "user" })), ["/user_id"]);
    assert_eq!(pointers(json!({ "owner": "everybody" })), ["/owner"]);
    assert_eq!(pointers(json!({ "owner": "partner", "user_id": "u" })), ["/user_id"]);
    let both = json!({ "owner": "partner", "client_organization_id": client });
    assert_eq!(pointers(both), ["/client_organization_id"]);
    assert_eq!(pointers(json!({ "client_organization_id": "no id" })), ["/client_organization_id"]);
    let said = key(&api, &partner, json!({ "owner": "client", "client_organization_id": client }));
    assert_eq!(said.key["owner"], "client");
    let of_user = key(&api, &partner, json!({ "owner": "user", "user_id": "u" }));
    assert_eq!(of_user.key["owner"], "user");
}

#[test]
fn keys_can_be_listed_by_owner() {
    let portfolio = Portfolio::new();
    let api = portfolio.server.client();
    let (for_client, wide) = (portfolio.client_key(), portfolio.partner_key());
    let own = key(&api, &portfolio.partner, json!({}));
    let list = |query: &str| {
        let path = format!("/v1/keys?sort=created_at&{query}");
        let answer = api.get(&path).header("keyledger-min-position", &own.position.to_string()).expect(200);
        answer.json()["data"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect::<Vec<_>>()
    };
    assert_eq!(list("owner=client"), std::slice::from_ref(&for_client.id));
    assert_eq!(list("owner=partner,client"), [for_client.id.clone(), wide.id.clone()]);
    assert_eq!(list("owner=organization"), std::slice::from_ref(&own.id));
    assert_eq!(list(&format!("client_organization_id={}", portfolio.client)), [for_client.id]);
    assert_eq!(list(&format!("client_organization_id={}", portfolio.outsider)), Vec::<String>::new());
    assert_eq!(api.get("/v1/keys?owner=nobody").expect(422).json()["errors"][0]["pointer"], "?owner");
}

#[test]
fn a_bound_caller_neither_sees_nor_links_other_organizations() {
    let Portfolio { server, partner, client, outsider } = Portfolio::new();
    let root = server.client();
    let bound = |organization: &str| {
        let (_, token) = fixture::root_key(&root, &["admin"], Some(organization));
        server.anonymous().with_token(&token)
    };
    let (of_partner, of_client) = (bound(&partner), bound(&client));
    assert_eq!(of_partner.put(&link_path(&partner, &outsider), &json!({})).send().status, 404);
    assert_eq!(of_client.put(&link_path(&partner, &client), &json!({})).send().status, 404);
    assert_eq!(of_client.delete(&link_path(&partner, &client)).send().status, 404);
    assert_eq!(of_client.get(&format!("/v1/organizations/{partner}/clients")).send().status, 404);
    let made = issued(
        &of_partner
            .post("/v1/keys", &key_body(&partner, json!({ "client_organization_id": client })))
            .expect(201),
    );
    check(&of_partner, &made, &client, "VALID");
    assert_eq!(of_client.get(&made.path("")).send().status, 404);
    check(&of_client, &made, &client, "NOT_FOUND");
    assert_eq!(
        of_partner.get(&format!("/v1/organizations/{partner}/clients")).expect(200).json()["total"],
        1
    );
    of_partner.delete(&link_path(&partner, &client)).expect(204);
    assert_ne!(verify_for(&of_partner, &made.token, &client)["code"], "VALID");
}

#[test]
fn a_gateway_receives_the_client_of_a_key() {
    let portfolio = Portfolio::new();
    let gateway = portfolio.server.anonymous();
    let ask = |issued: &Issued, query: &str| {
        gateway
            .get(&format!("/v1/forward-auth{query}"))
            .header("authorization", &format!("Bearer {}", issued.token))
            .send()
    };
    let (for_client, wide) = (portfolio.client_key(), portfolio.partner_key());
    let of_client = format!("?organization_id={}", portfolio.client);
    for (issued, owner) in [(&for_client, "client"), (&wide, "partner")] {
        let answer = ask(issued, &of_client);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-keyledger-owner"), Some(owner));
        assert_eq!(answer.header("x-keyledger-organization-id"), Some(portfolio.partner.as_str()));
        assert_eq!(answer.header("x-keyledger-client-organization-id"), Some(portfolio.client.as_str()));
    }
    let refused = ask(&for_client, "");
    assert_eq!((refused.status, refused.header("x-keyledger-code")), (403, Some("WRONG_ORGANIZATION")));
    // The sender of a request cannot choose the client it acts for.
    for issued in [&for_client, &wide] {
        for below in ["/", "/orders"] {
            let refused = ask(issued, &format!("{below}{of_client}"));
            assert_eq!(
                (refused.status, refused.header("x-keyledger-code")),
                (403, Some("WRONG_ORGANIZATION"))
            );
        }
    }
    let own = ask(&wide, &format!("/orders?organization_id={}", portfolio.partner));
    assert_eq!((own.status, own.header("x-keyledger-client-organization-id")), (200, Some("")));
    let plain = ask(&wide, "");
    assert_eq!((plain.status, plain.header("x-keyledger-client-organization-id")), (200, Some("")));
}
