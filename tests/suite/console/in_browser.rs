//! The console in Debian's Chromium: each role, every page of the navigation, light and dark, desktop and
//! phone. axe-core checks each page, and screenshots are left in tests/out/console.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{api, code, events, key, organization, portal_link, text, types};
use keyledger_tests::data::large_log::LargeLog;
use keyledger_tests::data::token;
use keyledger_tests::processes::openid_provider::{self, Provider, arguments, console_arguments, person};
use keyledger_tests::processes::receiver::{self, Receiver};
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::processes::{binaries, node};
use keyledger_tests::seed;
use serde_json::{Value, json};

/// The number of keys in the list that is timed.
const KEYS: usize = 100_000;
/// The time limit of the server for the first page of that list.
const PAGE_TIME_MAX: Duration = Duration::from_millis(200);

fn pictures(name: &str) -> PathBuf {
    binaries::workspace().join("tests/out/console").join(name)
}

fn base(client: &Client) -> String {
    format!("http://{}", client.address())
}

/// Registers the tokens that a flow saw. They must not appear anywhere in the server's output.
fn take_tokens(server: &Server, result: &Value) -> Vec<String> {
    let tokens: Vec<String> = result["tokens"].as_array().unwrap().iter().map(text).collect();
    tokens.iter().for_each(|token| server.transcript().issue(token));
    tokens
}

#[test]
fn an_operators_day() {
    let server = Server::start();
    let client = server.client();
    let (org, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let _ = api(&client, &["read:users", "write:users"]);
    let others: Vec<_> =
        (0..3).map(|n| key(&client, &other, json!({ "name": format!("Key {n}") }))).collect();
    let input = json!({ "base": base(&client), "root": server.root_token(), "organization": org, "other":
    other,
        "out": pictures("operator") });
    let result = node::run("console/operator.mjs", &input);
    let tokens = take_tokens(&server, &result);
    let trail = events(&client, &text(&result["key"]));
    assert_eq!(
        types(&trail),
        ["KeyCreated", "KeyRenamed", "KeyRevoked", "KeyReactivated", "KeyRotated", "KeyDeleted"]
    );
    assert_eq!(trail[0]["data"]["name"], "Billing <b>service</b>");
    assert_eq!(trail[0]["data"]["scopes"], json!(["read:users"]));
    assert_eq!(trail[2]["data"], json!({ "reason": "superseded", "note": "Not needed" }));
    for event in &trail {
        assert_eq!(event["actor"]["kind"], "root_key");
        assert!(text(&event["actor"]["user_agent"]).contains("Chrome"), "{event}");
    }
    assert_eq!(
        tokens.iter().map(|token| code(&client, token)).collect::<Vec<_>>(),
        ["NOT_FOUND", "NOT_FOUND"]
    );
    for key in &others {
        assert_eq!(types(&events(&client, &key.id)), ["KeyCreated", "KeyRevoked"], "chosen in the list");
    }
}

#[test]
fn what_an_operator_looks_after_beside_keys() {
    let arguments = receiver::arguments(&["--webhook-retries", "20ms"]);
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let (partner, other) = (organization(&client, "partner"), organization(&client, "paid"));
    // More than the switcher lists.
    (0..12).for_each(|_| drop(organization(&client, "free")));
    let receiver = Receiver::answering(|_| 500.into());
    let webhook = receiver::webhook(&client, &receiver.url(), json!({ "event_types": ["KeyCreated"] }));
    let _ = key(&client, &other, json!({}));
    keyledger_tests::poll::until("a dead letter", Duration::from_secs(20), || {
        let shown = client.get(&webhook.path("")).expect(200).json();
        (shown["dead_letters"] == 1).then_some(())
    });
    let input = json!({ "base": base(&client), "root": server.root_token(), "partner": partner, "client":
    other,
        "webhook": webhook.id, "out": pictures("caretaker") });
    let result = node::run("console/caretaker.mjs", &input);
    let secrets: Vec<String> = result["secrets"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(secrets.len(), 4, "of an application, a root key, a person and a webhook");
    let log = client.get("/v1/events?limit=200").expect(200).json();
    let by_page = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["actor"]["user_agent"].as_str().is_some_and(|it| it.contains("Chrome")));
    let by_page: Vec<_> = by_page.map(|event| text(&event["type"])).collect();
    assert_eq!(
        by_page,
        [
            "OrganizationCreated",
            "PolicySet",
            "ClientLinked",
            "ClientUnlinked",
            "ApiRegistered",
            "ApplicationCreated",
            "RootKeyCreated",
            "RootKeyRevoked",
            "PortalSessionCreated",
            "WebhookRegistered"
        ]
    );
}

#[test]
fn everybody_who_was_sent_a_link() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let others = key(&client, &org, json!({ "name": "Somebody else", "user_id": "u2" }));
    let roles = ["owner", "admin", "member", "auditor"];
    let (sessions, people): (Vec<_>, Vec<_>) = roles
        .iter()
        .map(|role| {
            let (session, link) = portal_link(&client, &org, role, json!({ "user_id": "u1" }));
            (session, json!({ "role": role, "link": format!("{}/portal#{link}", base(&client)) }))
        })
        .unzip();
    let input =
        json!({ "base": base(&client), "people": people, "others": others.id, "out": pictures("people") });
    let result = node::run("console/person.mjs", &input);
    assert_eq!(code(&client, &others.token), "VALID");
    for ((role, session), result) in roles.iter().zip(sessions).zip(result.as_array().unwrap()) {
        take_tokens(&server, result);
        if *role == "auditor" {
            assert_eq!(result["key"], Value::Null);
            continue;
        }
        let trail = events(&client, &text(&result["key"]));
        assert_eq!(types(&trail), ["KeyCreated", "KeyRevoked"], "{role}");
        assert_eq!(
            trail[0]["data"]["owner"]["kind"],
            if *role == "member" { "user" } else { "organization" }
        );
        assert!(trail.iter().all(|event| event["actor"]["id"] == json!(session)), "{trail:?}");
    }
    assert_eq!(types(&events(&client, &others.id)), ["KeyCreated"]);
}

#[test]
fn people_of_an_openid_provider() {
    let people = json!([
        person("olga", json!({ "role": "owner", "organization_id": "acme" })),
        person("stray", json!({ "role": "owner", "organization_id": "elsewhere" })),
    ]);
    let mut provider = Provider::start(&people);
    let mut arguments = arguments(&provider.issuer);
    arguments.extend(console_arguments());
    let environment = openid_provider::console_environment();
    let server = Server::start_with(Options { arguments, environment, ..Options::default() });
    provider.know_console(&server);
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "acme", "kind": "paid", "name": "Acme" })).expect(201);
    let input = json!({ "base": base(&client), "issuer": provider.issuer, "out": pictures("openid") });
    let result = node::run("console/openid.mjs", &input);
    take_tokens(&server, &result);
    let trail = events(&client, &text(&result["key"]));
    assert_eq!((&trail[0]["actor"]["kind"], &trail[0]["actor"]["id"]), (&json!("user"), &json!("olga")));

    // A forged or stolen callback signs no one in.
    let outside = client.anonymous();
    for query in ["", "?code=x", "?code=x&state=y", "?error=access_denied"] {
        let answer =
            outside.get(&format!("/console/openid/callback{query}")).header("cookie", "keyledger_openid=z");
        assert!(answer.expect(401).text().contains("start again"), "{query}");
    }
    let begun = outside.get("/console/openid").expect(303);
    let way = begun.header("location").unwrap();
    assert!(way.starts_with(&provider.issuer) && way.contains("code_challenge_method=S256"), "{way}");
    let state = begun.cookie().unwrap().split_once('=').unwrap().1;
    let stolen = format!("/console/openid/callback?code=x&state={state}");
    outside.get(&stolen).expect(401);
    let refused = outside.get(&stolen).header("cookie", begun.cookie().unwrap()).expect(401);
    assert!(refused.text().contains("did not sign you in"), "a made-up code");
    outside.get(&stolen).header("cookie", begun.cookie().unwrap()).expect(401);
    // Without a configured client, the provider's sign-in does not exist.
    let plain = Server::start();
    plain.client().anonymous().get("/console/openid").expect(404);
}

#[test]
fn a_browser_without_scripts() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let (_, link) = portal_link(&client, &org, "admin", json!({}));
    let link = format!("{}/portal#{link}", base(&client));
    let input = json!({ "base": base(&client), "root": server.root_token(), "organization": org, "link": link,
        "out": pictures("plain") });
    let result = node::run("console/plain.mjs", &input);
    take_tokens(&server, &result);
    let trail = events(&client, &text(&result["key"]));
    assert_eq!(types(&trail), ["KeyCreated", "KeyRenamed", "KeyRevoked", "KeyDeleted"]);
}

#[test]
fn a_hundred_thousand_keys_are_listed_at_once() {
    let directory = tempfile::Builder::new().prefix("keyledger-test-").tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng("large lists"));
    log.organization("large", "paid");
    let _ = log.keys("large", None, KEYS);
    log.finish();
    let server = Server::start_in(directory, &token::root(), Options::default()).unwrap();
    let client = server.client();
    // Wait for the projection, whose build time is not measured.
    let total =
        || client.get("/v1/keys?organization_id=large&limit=1").expect(200).json()["total_capped"].clone();
    keyledger_tests::poll::until("the list", Duration::from_secs(300), || {
        (total() == json!(true)).then_some(())
    });
    let browser = Browser::sign_in(&client, server.root_token());
    let overview = browser.get("/console/overview?organization_id=large").expect_page(200);
    assert!(overview.contains("not available for more than 1,000 keys"), "{overview}");
    assert_eq!(client.get("/v1/usage?organization_id=large").expect(422).code(), "invalid_request");
    for (path, rows) in [
        ("/console/keys?organization_id=large", 50),
        ("/console/keys?organization_id=large&q=live&sort=name", 50),
        ("/console/overview?organization_id=large", 0),
    ] {
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let began = Instant::now();
                let page = browser.get(path).expect_page(200);
                assert_eq!(page.matches("data-row").count(), rows);
                began.elapsed()
            })
            .collect();
        times.sort();
        println!("{path}: {:?} (median of {})", times[4], times.len());
        assert!(times[4] < PAGE_TIME_MAX, "{path}: {times:?}");
    }
}
