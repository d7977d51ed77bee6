//! The console's overview, and the endpoint behind it.

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{code, follow, key, organization, portal_link, root_key, signed_in};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

const MARKUP: &str = "<img src=x onerror=alert(1)>\"'&";

fn overview(client: &Client, query: &str) -> Value {
    client.get(&format!("/v1/overview{query}")).expect(200).json()
}

/// Creates keys of each status, all of them today.
fn fill(client: &Client, org: &str) {
    let keys: Vec<_> = (0..5).map(|_| key(client, org, json!({ "user_id": "u1" }))).collect();
    client.post(&keys[0].path("/revoke"), &json!({})).expect(200);
    client.post(&keys[1].path("/revoke"), &json!({})).expect(200);
    client.post(&keys[1].path("/reactivate"), &json!({})).expect(200);
    client.delete(&keys[2].path("")).expect(204);
}

#[test]
fn keys_are_counted_by_status_and_by_day() {
    let server = Server::start();
    let client = server.client();
    let (org, other) = (organization(&client, "paid"), organization(&client, "paid"));
    fill(&client, &org);
    let last = key(&client, &other, json!({ "user_id": "u2" }));
    let position = last.position.to_string();
    let seen = client.get("/v1/overview?days=2").header("keyledger-min-position", &position).expect(200);
    assert!(seen.position() >= last.position);
    let seen = seen.json();
    assert_eq!(seen["keys"], json!({ "active": 4, "revoked": 1, "expired": 0, "deleted": 1 }));
    assert_eq!(seen["organization_id"], Value::Null);
    let days = seen["days"].as_array().unwrap();
    let counts =
        |days: &[Value], name: &str| -> u64 { days.iter().map(|day| day[name].as_u64().unwrap()).sum() };
    // Midnight may pass during the test.
    assert_eq!(days.len(), 2);
    assert_eq!(["created", "revoked", "expired", "deleted"].map(|name| counts(days, name)), [6, 2, 0, 1]);
    let of_one = overview(&client, &format!("?organization_id={org}"));
    assert_eq!(of_one["keys"], json!({ "active": 3, "revoked": 1, "expired": 0, "deleted": 1 }));
    assert_eq!(of_one["days"].as_array().unwrap().len(), 30);
    assert_eq!(counts(of_one["days"].as_array().unwrap(), "created"), 5);

    // A caller bound to an organization sees that one, a member sees their own keys, and only callers who may
    // read events see the days.
    let (_, bound) = root_key(&client, &["keys:read"], Some(&org));
    let bound = client.with_token(&bound);
    assert_eq!(overview(&bound, "")["keys"], of_one["keys"]);
    assert_eq!(overview(&bound, "")["days"], Value::Null);
    assert_eq!(
        bound.get(&format!("/v1/overview?organization_id={other}")).expect(404).code(),
        "organization_not_found"
    );
    let auditor = signed_in(&client, &org, "auditor");
    assert_eq!(overview(&auditor, ""), overview(&client, &format!("?organization_id={org}")));
    let (_, link) = portal_link(&client, &other, "member", json!({ "user_id": "u2" }));
    let (cookie, csrf_token) = follow(&client, &link);
    let member = client.with_session(&cookie, &csrf_token);
    let own = overview(&member, "");
    assert_eq!((&own["keys"]["active"], &own["days"]), (&json!(1), &Value::Null));

    for wrong in ["?days=0", "?days=91", "?days=x", "?organization_id=a%20b", "?day=1"] {
        assert_eq!(
            client.get(&format!("/v1/overview{wrong}")).expect(422).code(),
            "invalid_request",
            "{wrong}"
        );
    }
}

#[test]
fn the_page_shows_what_the_api_returns() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    assert_eq!(browser.get("/console").location(303), "/console/overview");
    let empty = browser.get("/console/overview").expect_page(200);
    assert!(empty.contains("No keys yet") && empty.contains("Healthy"), "{empty}");
    let org = organization(&client, "paid");
    fill(&client, &org);
    let ending = key(&client, &org, json!({ "name": MARKUP, "expires_in": "two_weeks" }));
    assert_eq!(code(&client, &ending.token), "VALID");
    assert_eq!(code(&client, &token::unknown("kl", "live")), "NOT_FOUND");
    // The key list follows the log asynchronously, so wait for it before reading the page.
    let position = ending.position.to_string();
    client.get("/v1/overview").header("keyledger-min-position", &position).expect(200);
    let path = format!("/console/overview?organization_id={org}");
    let page = browser.get(&path).expect_page(200);
    for expected in [
        "<strong>4</strong>Active",
        "<strong>1</strong>Revoked",
        "<strong>1</strong>Deleted",
        "<strong>1</strong>Expire in 30 days",
        "Last 30 days: 6 created, 2 revoked, 0 expired, 1 deleted",
        "in 14 days",
        "<span>Verification</span>",
        "Latest checkpoint: ",
        "Valid <code>VALID</code>",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let all = browser.get("/console/overview").expect_page(200);
    assert!(
        all.contains("Unknown or deleted <code>NOT_FOUND</code>") && !page.contains("NOT_FOUND"),
        "{all}"
    );
    let list = format!("/console/keys?organization_id={org}&#38;status=revoked");
    assert!(page.contains(&list) || page.contains(&list.replace("&#38;", "&amp;")), "{page}");
    assert!(page.contains(&ending.id) && !page.contains("<img src=x"));
    // The numbers link to the keys that they count.
    for query in ["status=active", "expiring=30&sort=expires_at", "status=active&unused=30"] {
        browser.get(&format!("/console/keys?organization_id={org}&{query}")).expect_page(200);
    }

    let enter = |role: &str| {
        let (_, link) = portal_link(&client, &org, role, json!({ "user_id": "u1" }));
        Browser::with_cookie(&client, &follow(&client, &link).0)
    };
    let member = enter("member").get("/console/overview").expect_page(200);
    assert!(member.contains("Your keys") && member.contains("<strong>3</strong>Active"), "{member}");
    assert!(!member.contains("Created and revoked") && !member.contains(&ending.id));
    let auditor = enter("auditor").get("/console/overview").expect_page(200);
    assert!(auditor.contains("<strong>4</strong>Active") && auditor.contains("Created and revoked"));
    assert!(!auditor.contains("NOT_FOUND") && !auditor.contains("Create key"), "of all organizations");
    // The organization's keys were verified; the member's own keys were not.
    assert!(
        auditor.contains("Valid <code>VALID</code>") && auditor.contains("without deleted keys"),
        "{auditor}"
    );
    assert!(member.contains("No tokens were verified in this period"), "{member}");
}
