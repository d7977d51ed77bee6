//! The console's audit log: sentences, stored JSON, filters in the address, exports and live events.

use keyledger_tests::client::console::Browser;
use keyledger_tests::data::fixture::{events, follow, key, organization, portal_link, text, types};
use keyledger_tests::processes::server::Server;
use keyledger_tests::processes::{binaries, node};
use serde_json::json;

const MARKUP: &str = "<script>alert(1)</script>\"'&\u{202e}";
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;\u{202e}";

/// A page's text without its tags.
fn text_of(page: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for character in page.chars() {
        match character {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(character),
            _ => {}
        }
    }
    text
}

#[test]
fn events_show_the_values_before_and_after() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({ "name": "prod", "metadata": { "team": 7 } }));
    client.patch(&made.path(""), &json!({ "name": MARKUP, "description": "Nightly" })).expect(200);
    let revoked = json!({ "reason": "key_compromise", "note": MARKUP });
    client.post(&made.path("/revoke"), &revoked).expect(200);
    client.delete(&made.path("")).expect(204);
    let log = events(&client, &made.id);
    let expected = ["KeyCreated", "KeyRenamed", "KeyDescriptionChanged", "KeyRevoked", "KeyDeleted"];
    assert_eq!(types(&log), expected);

    let browser = Browser::sign_in(&client, server.root_token());
    let page = browser.get(&format!("/console/audit?organization_id={org}")).expect_page(200);
    assert!(!page.contains("<script>alert") && !page.contains(&made.token), "{page}");
    assert!(page.contains(ESCAPED), "{page}");
    let sentences = text_of(&page);
    for expected in [
        "Bootstrap root key (root key) created key prod for ".to_owned(),
        "renamed key prod".into(),
        format!("prod → {ESCAPED}"),
        format!("changed the description of key {ESCAPED}"),
        "none → Nightly".into(),
        format!("revoked key {ESCAPED}: leaked"),
        format!("“{ESCAPED}”"),
        format!("deleted key {ESCAPED}"),
        "created organization A paid organization with kind paid".into(),
        "6 events".into(),
    ] {
        assert!(sentences.contains(&expected), "{expected}: {sentences}");
    }
    // Latest first, each with its position, proof and stored JSON.
    let positions: Vec<u64> = log.iter().rev().map(|event| event["position"].as_u64().unwrap()).collect();
    let mut rest = page.as_str();
    for position in positions {
        rest = rest.split_once(&format!("id=\"event-{position}\"")).expect("in order").1;
        assert!(rest.contains(&format!("href=\"/v1/events/{position}/proof\"")));
        let proof = client.request("GET", &format!("/v1/events/{position}/proof"));
        assert!(
            proof.header("cookie", browser.cookie()).expect(200).text().starts_with("c2sp.org/tlog-proof")
        );
    }
    assert!(
        page.contains("&#34;schema&#34;: 1") && page.contains("&#34;position&#34;: "),
        "the event as JSON"
    );
    // A filtered list also shows the name that a deleted key had at each event.
    let one = browser.get("/console/audit?type=KeyDescriptionChanged").expect_page(200);
    assert!(text_of(&one).contains(&format!("changed the description of key {ESCAPED}")), "{one}");
    assert!(text_of(&one).contains("none → Nightly") && text_of(&one).contains("1 event found"), "{one}");
}

#[test]
fn filters_are_in_the_address() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let keys: Vec<_> = (0..60).map(|_| key(&client, &org, json!({}))).collect();
    client.post(&keys[7].path("/revoke"), &json!({})).expect(200);
    let trail = events(&client, &keys[7].id);
    let (request, actor) = (text(&trail[1]["request_id"]), text(&trail[1]["actor"]["id"]));
    let browser = Browser::sign_in(&client, server.root_token());
    let count = |query: &str| {
        let page = browser.get(&format!("/console/audit?{query}")).expect_page(200);
        page.matches("id=\"event-").count()
    };
    assert_eq!(count(&format!("key_id={}", keys[7].id)), 2);
    assert_eq!(count(&format!("key_id={}&type=KeyRevoked", keys[7].id)), 1);
    assert_eq!(count(&format!("request_id={request}")), 1);
    assert_eq!(count(&format!("actor_id={actor}&type=KeyRevoked")), 1);
    assert_eq!(count("actor_id=nobody"), 0);
    assert_eq!(count("within=1h&type=KeyRevoked"), 1);
    assert_eq!(count("to=2020-01-01T00:00"), 0);
    assert_eq!(count("from=2020-01-01T00:00:00&type=KeyRevoked"), 1);
    let none = browser.get("/console/audit?key_id=key_01KAJX7Q5M3J6S2Y9W8V4T1R0P").expect_page(200);
    assert!(none.contains("No matching events"), "{none}");

    // Pages link to each other, and every event is on exactly one of them.
    let first =
        browser.get(&format!("/console/audit?organization_id={org}&type=KeyCreated")).expect_page(200);
    assert_eq!(first.matches("id=\"event-").count(), 50);
    let next = first.split("<a class=\"button\" href=\"").find(|it| it.contains("rel=\"next\"")).unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    let second = browser.get(&next).expect_page(200);
    assert_eq!(second.matches("id=\"event-").count(), 10);
    assert!(second.contains("Latest events") && !second.contains("data-follow"), "nothing new belongs here");

    // Errors appear at their fields.
    let wrong = browser.get("/console/audit?from=yesterday&key_id=x").expect_page(422);
    assert!(wrong.contains("id=\"from-error\"") && wrong.contains("id=\"key_id-error\""), "{wrong}");
    let wrong = browser.get("/console/audit?type=KeyExploded").expect_page(422);
    assert!(wrong.contains("is not a type of event"), "{wrong}");
}

#[test]
fn files_and_streams_have_the_filters_of_the_page() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({}));
    client.post(&made.path("/revoke"), &json!({})).expect(200);
    let browser = Browser::sign_in(&client, server.root_token());
    let page = browser.get(&format!("/console/audit?organization_id={org}&type=KeyRevoked")).expect_page(200);
    let mut links: Vec<String> = page
        .split("href=\"")
        .filter_map(|it| it.split('"').next().filter(|path| path.starts_with("/v1/events?")))
        .map(|path| path.replace("&#38;", "&"))
        .collect();
    links.dedup();
    assert_eq!(links.len(), 4, "{links:?}");
    for (link, format) in links.iter().zip(["ndjson", "csv", "cloudevents", "ocsf"]) {
        assert!(link.contains(&format!("format={format}")), "{link}");
        let file =
            client.anonymous().request("GET", link).header("cookie", browser.cookie()).expect(200).text();
        let lines = file.lines().count() - usize::from(format == "csv");
        assert_eq!(lines, 1, "{format}: {file}");
        assert!(file.contains(&made.id), "{format}: {file}");
    }
    let path = page.split("data-follow=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    assert!(page.contains("KeyRevoked KeyReactivated"), "the types that the script listens for");
    let anonymous = client.anonymous();
    let mut stream = anonymous.request("GET", &path).header("cookie", browser.cookie()).stream();
    let other = key(&client, &org, json!({}));
    client.post(&other.path("/revoke"), &json!({})).expect(200);
    let data = std::iter::from_fn(|| stream.next_line()).find(|line| line.starts_with("data: ")).unwrap();
    assert!(data.contains(&other.id), "only new events that match the filters: {data}");
}

#[test]
fn people_see_the_events_of_their_organization() {
    let server = Server::start();
    let client = server.client();
    let (org, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let made = key(&client, &org, json!({ "name": "Ours" }));
    let _ = key(&client, &other, json!({ "name": "Theirs" }));
    let enter = |role: &str| {
        let (_, link) = portal_link(&client, &org, role, json!({ "user_id": "ada" }));
        Browser::with_cookie(&client, &follow(&client, &link).0)
    };
    let auditor = enter("auditor");
    let page = auditor.get("/console/audit").expect_page(200);
    let sentences = text_of(&page);
    assert!(sentences.contains("created key Ours") && !sentences.contains("Theirs"), "{sentences}");
    assert!(sentences.contains("created a portal link for ada with the role auditor"), "{sentences}");
    assert!(sentences.contains("ada (auditor) signed in with portal link"), "{sentences}");
    assert!(!sentences.contains("Bootstrap root key"), "names of root keys are for administrators");
    auditor.get(&format!("/console/audit?organization_id={other}")).expect_page(404);
    let overview = auditor.get("/console/overview").expect_page(200);
    assert!(overview.contains("href=\"/console/audit\"") && page.contains(&made.id));
    let member = enter("member");
    member.get("/console/audit").expect_page(403);
    assert!(!member.get("/console/keys").expect_page(200).contains("/console/audit"));
}

#[test]
fn new_events_appear_live() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let input = json!({ "base": format!("http://{}", client.address()), "root": server.root_token(),
        "organization": org, "out": binaries::workspace().join("tests/out/console/audit") });
    let result = node::run("console/audit.mjs", &input);
    let tokens = result["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    tokens.iter().for_each(|token| server.transcript().issue(&text(token)));
}
