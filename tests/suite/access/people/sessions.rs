//! How sessions end: with what minted them, when they are not used, when their browser signs in again, and
//! when an administrator ends them.

use std::io::Read;
use std::time::{Duration, Instant};

use keyledger_tests::client::console::{Browser, between};
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    access_token, application, follow, organization, portal_link, root_key, signed_in, text, trail, types,
};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::openid_provider::{self, AUDIENCE, Provider, person};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// A session that was minted by a caller: its id, its link, and a client that followed the link.
fn minted(by: &Client, organization: &str, role: &str, more: Value) -> (String, Client) {
    let (id, link) = portal_link(by, organization, role, more);
    let (cookie, csrf_token) = follow(by, &link);
    (id, by.with_session(&cookie, &csrf_token))
}

fn is_in(client: &Client) -> bool {
    match client.get("/portal/session").send().status {
        200 => true,
        401 => false,
        status => panic!("unexpected status {status}"),
    }
}

fn status(admin: &Client, id: &str) -> String {
    text(&admin.get(&format!("/v1/portal-sessions/{id}")).expect(200).json()["status"])
}

fn server(arguments: &[&str]) -> Server {
    let arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
    Server::start_with(Options { arguments, ..Options::default() })
}

#[test]
fn an_owner_does_not_outlive_the_end_of_the_session_that_invited_them() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let (first, owner) = minted(&client, &org, "owner", json!({}));
    let (second, invited) = minted(&owner, &org, "owner", json!({}));
    let (third, colleague) = minted(&invited, &org, "admin", json!({}));
    let (unused, link) = portal_link(&invited, &org, "owner", json!({}));
    let other = signed_in(&client, &org, "owner");
    assert_eq!(client.get("/v1/portal-sessions").expect(200).json()["total"], 5);

    let ended = client.delete(&format!("/v1/portal-sessions/{first}")).expect(204);
    for session in [&owner, &invited, &colleague] {
        session.get("/v1/keys").expect(401);
    }
    client.anonymous().post("/portal/session", &json!({ "link": link })).expect(404);
    other.get("/v1/keys").expect(200);
    let check = |client: &Client| {
        let listed = client.get("/v1/portal-sessions").expect(200).json();
        assert_eq!(listed["total"], 1, "{listed}");
        for id in [&first, &second, &third, &unused] {
            assert_eq!(status(client, id), "ended", "{id}");
        }
    };
    check(&client);
    // What ended with another session can be ended once more, for whoever wants it in the log.
    client.delete(&format!("/v1/portal-sessions/{second}")).expect(204);
    assert_eq!(types(&trail(&client, &third, &ended)), ["PortalSessionCreated", "PortalSessionStarted"]);
    server.kill();
    server.start_again();
    let client = server.client();
    check(&client);
    for session in [&owner, &invited, &colleague] {
        session.at(client.address()).get("/v1/keys").expect(401);
    }
    other.at(client.address()).get("/v1/keys").expect(200);

    // Signing out ends it as well, and so does the end of the root key or the application.
    let (_, session) = minted(&client, &org, "owner", json!({}));
    let (_, invited) = minted(&session, &org, "auditor", json!({}));
    session.delete("/portal/session").expect(204);
    assert!(!is_in(&invited));
    let (id, token) = root_key(&client, &["admin"], None);
    let (_, session) = minted(&client.with_token(&token), &org, "owner", json!({}));
    let (_, invited) = minted(&session, &org, "auditor", json!({}));
    client.delete(&format!("/v1/root-keys/{id}")).expect(204);
    assert!(!is_in(&session) && !is_in(&invited));
    let app = application(&client, &["admin"], Some(&org));
    let (_, session) = minted(&client.with_token(&access_token(&client, &app)), &org, "owner", json!({}));
    let (_, invited) = minted(&session, &org, "auditor", json!({}));
    client.delete(&app.path("")).expect(204);
    assert!(!is_in(&session) && !is_in(&invited));
}

#[test]
fn what_a_session_mints_expires_with_it() {
    let server = server(&["--access-token-seconds", "60"]);
    let client = server.client();
    let org = organization(&client, "paid");
    let long = || json!({ "link_seconds": 86_400, "session_seconds": 86_400 });
    let (_, owner) = minted(&client, &org, "owner", json!({ "session_seconds": 5 }));
    let end = |client: &Client| {
        client.get("/portal/session").expect(200).json()["portal_session"]["expires_at"].clone()
    };
    let (id, link) = portal_link(&owner, &org, "owner", long());
    let shown = client.get(&format!("/v1/portal-sessions/{id}")).expect(200).json();
    assert_eq!(shown["expires_at"], end(&owner), "the link ends with the session");
    let (_, invited) = minted(&owner, &org, "owner", long());
    assert_eq!(end(&invited), end(&owner));
    poll::until("the sessions to end", LIMIT, || (!is_in(&owner)).then_some(()));
    assert!(!is_in(&invited));
    client.anonymous().post("/portal/session", &json!({ "link": link })).expect(404);

    // The browser forgets the session when it ends.
    let token = access_token(&client, &application(&client, &["admin"], None));
    let (_, link) = portal_link(&client.with_token(&token), &org, "owner", long());
    let started = client.anonymous().post("/portal/session", &json!({ "link": link })).expect(200);
    let shown = text(&started.json()["portal_session"]["expires_at"]);
    let expires_at = chrono::DateTime::parse_from_rfc3339(&shown).unwrap().timestamp();
    assert_eq!(Some(expires_at), token::claims(&token)["exp"].as_i64());
    let cookie = started.header("set-cookie").unwrap();
    let seconds: i64 = cookie.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{cookie}");
}

#[test]
fn a_new_sign_in_ends_the_browsers_earlier_session() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let outside = client.anonymous();
    let link = |by: &Client| portal_link(by, &org, "owner", json!({})).1;
    // With another link, at the portal and in the console, and with a root key.
    let enter = |cookie: &str, how: &str| {
        let link = link(&client);
        let answer = match how {
            "portal" => {
                outside.post("/portal/session", &json!({ "link": link })).header("cookie", cookie).expect(200)
            }
            _ => {
                let secret = if how == "link" { link.as_str() } else { server.root_token() };
                let request = outside.request("POST", "/console/sign-in").form(&[("secret", secret)]);
                request.header("cookie", cookie).expect(303)
            }
        };
        answer.cookie().unwrap().to_owned()
    };
    for how in ["portal", "link", "root key"] {
        let (id, first) = portal_link(&client, &org, "owner", json!({}));
        let (before, csrf_token) = follow(&client, &first);
        let session = client.with_session(&before, &csrf_token);
        assert!(is_in(&session), "{how}");
        // A link that does not work ends nothing.
        outside.post("/portal/session", &json!({ "link": first })).header("cookie", &before).expect(404);
        assert!(is_in(&session), "{how}");
        let after = enter(&before, how);
        assert!(!is_in(&session), "{how}");
        let _ = Browser::with_cookie(&client, &after);
        let ended = client.get("/v1/apis").expect(200);
        let trail = trail(&client, &id, &ended);
        assert_eq!(types(&trail), ["PortalSessionCreated", "PortalSessionStarted", "PortalSessionEnded"]);
        assert_eq!(
            (&trail[2]["actor"]["id"], &trail[2]["data"]["reason"]),
            (&json!(id), &json!("signed_out"))
        );
    }
    // People who try a link that they made themselves are not signed out by it: it would end with their
    // session.
    let (before, csrf_token) = follow(&client, &link(&client));
    let session = client.with_session(&before, &csrf_token);
    let own = link(&session);
    let tried =
        outside.post("/portal/session", &json!({ "link": own })).header("cookie", &before).expect(200);
    assert!(is_in(&session) && is_in(&client.with_session(tried.cookie().unwrap(), "")));
}

#[test]
fn an_unused_portal_session_ends() {
    let server = server(&["--portal-idle", "2s"]);
    let client = server.client();
    let org = organization(&client, "paid");
    let (unused, owner) = minted(&client, &org, "owner", json!({}));
    let (with_it, invited) = minted(&owner, &org, "auditor", json!({}));
    let (used, other) = minted(&client, &org, "auditor", json!({}));
    // A stream is open for as long as its page, whether somebody is there or not.
    let mut stream = other.get("/v1/events").header("accept", "text/event-stream").stream();
    let began = Instant::now();
    poll::until("the session to end", LIMIT, || {
        assert!(is_in(&other), "it is used");
        assert!(
            began.elapsed() > Duration::from_millis(500) || is_in(&invited),
            "it is used, and its minter not yet idle"
        );
        (status(&client, &unused) == "ended").then_some(())
    });
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(!is_in(&owner) && !is_in(&invited) && is_in(&other));
    assert_eq!(status(&client, &with_it), "ended");
    let trail = trail(&client, &unused, &client.get("/v1/apis").expect(200));
    assert_eq!(types(&trail), ["PortalSessionCreated", "PortalSessionStarted", "PortalSessionEnded"]);
    assert_eq!((&trail[2]["actor"]["kind"], &trail[2]["data"]["reason"]), (&json!("system"), &json!("idle")));

    poll::until("the other session to end", LIMIT, || (status(&client, &used) == "ended").then_some(()));
    // Its own end is an event of its organization, which it may not read any more.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains(&format!("\"id\":\"{used}\"}},\"version\":3")));
}

#[test]
fn an_unused_console_session_ends() {
    let server = server(&["--console-idle", "2s"]);
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let sessions = || client.get("/v1/console-sessions").expect(200).json()["total"].clone();
    let began = Instant::now();
    poll::until("more than two seconds in use", LIMIT, || {
        let _ = browser.get("/console/keys").expect_page(200);
        (began.elapsed() > Duration::from_millis(2_500)).then_some(())
    });
    assert_eq!(sessions(), 1);
    // What a page's scripts ask for by themselves is no use.
    let outside = client.anonymous();
    let watched = || {
        let counted = outside.get("/v1/keys").header("cookie", browser.cookie());
        counted.header("console-unattended", "1").send().status
    };
    poll::until("the session to end", LIMIT, || (watched() == 401).then_some(()));
    assert_eq!(sessions(), 0);
    for (argument, value) in [("--console-idle", "0s"), ("--portal-idle", "999ms"), ("--oidc-session", "9h")]
    {
        let options = Options { arguments: vec![argument.into(), value.into()], ..Options::default() };
        let refused = Server::start_in(tempfile::tempdir().unwrap(), &token::root(), options).err().unwrap();
        assert!(refused.message.contains(argument), "{}", refused.message);
    }
}

#[test]
fn an_administrator_ends_console_sessions() {
    let people = json!([person("olga", json!({ "role": "owner", "organization_id": "acme" }))]);
    let mut provider = Provider::start(&people);
    let mut arguments = openid_provider::arguments(&provider.issuer);
    arguments.extend(openid_provider::console_arguments());
    arguments.extend(["--oidc-session", "30m"].map(str::to_owned));
    let environment = openid_provider::console_environment();
    let server = Server::start_with(Options { arguments, environment, ..Options::default() });
    provider.know_console(&server);
    let client = server.client();
    client.post("/v1/organizations", &json!({ "id": "acme", "kind": "paid" })).expect(201);
    let (bound_id, bound_token) = root_key(&client, &["admin"], Some("acme"));
    let operator = Browser::sign_in(&client, server.root_token());
    let bound = Browser::sign_in(&client, &bound_token);
    let listed = |client: &Client| {
        let page = client.get("/v1/console-sessions").expect(200).json();
        page["data"].as_array().unwrap().clone()
    };
    let all = listed(&client);
    assert_eq!(all.len(), 2);
    let shown = &all[1];
    assert_eq!(
        (&shown["kind"], &shown["holder_id"], &shown["organization_id"], &shown["ip"]),
        (&json!("root_key"), &json!(bound_id), &json!("acme"), &json!("127.0.0.1"))
    );
    assert!(text(&shown["id"]).starts_with("cs_") && shown["role"].is_null());
    let narrowed = client.get("/v1/console-sessions?organization_id=acme&limit=1").expect(200).json();
    assert_eq!((&narrowed["total"], &narrowed["data"][0]["id"]), (&json!(1), &shown["id"]));
    let first = client.get("/v1/console-sessions?limit=1").expect(200).json();
    let next = format!("/v1/console-sessions?limit=1&cursor={}", text(&first["next_cursor"]));
    assert_eq!(client.get(&next).expect(200).json()["data"][0]["id"], shown["id"]);
    client.get("/v1/console-sessions?cursor=x").expect(422);

    // An administrator of one organization sees and ends its own only.
    let theirs = client.with_token(&bound_token);
    assert_eq!(listed(&theirs), std::slice::from_ref(shown));
    let path = |session: &Value| format!("/v1/console-sessions/{}", text(&session["id"]));
    assert_eq!(theirs.delete(&path(&all[0])).expect(404).code(), "console_session_not_found");
    client.with_token(&provider.token(&server, "olga", AUDIENCE)).get("/v1/console-sessions").expect(403);

    // On the console's page, and over HTTP.
    let page = operator.get("/console/sessions").expect_page(200);
    assert!(page.contains(&bound_id) && page.contains("(you)") && page.contains("End session…"), "{page}");
    let end = format!("/console/sessions/{}/end", text(&shown["id"]));
    assert!(operator.get(&end).expect_page(200).contains("revoke it to keep them out"));
    bound.get("/console/keys").expect_page(200);
    assert!(operator.submit_and_follow(&end, &[]).contains("The session was ended."));
    assert!(bound.get("/console/keys").location(303).starts_with("/console/sign-in"));
    operator.get(&end).expect_page(404);
    client.delete(&path(&all[0])).expect(204);
    assert!(operator.get("/console/keys").location(303).starts_with("/console/sign-in"));
    client.delete(&path(&all[0])).expect(404);
    assert!(listed(&client).is_empty());

    // What a user of the provider has minted ends with the user's session.
    let olga = Browser::with_cookie(&client, &provider.sign_in(&server, "olga"));
    let shown = listed(&client).remove(0);
    assert_eq!(
        (&shown["kind"], &shown["holder_id"], &shown["role"]),
        (&json!("user"), &json!("olga"), &json!("owner"))
    );
    let time = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
    let seconds = (time(&shown["expires_at"]) - time(&shown["started_at"])).num_seconds();
    assert_eq!(seconds, 30 * 60, "the provider is asked again after that");
    let invitation =
        [("user_id", "u2"), ("role", "owner"), ("link_seconds", "86400"), ("session_seconds", "86400")];
    let page = olga.submit("/console/portal-links", &invitation).expect_page(200);
    let link = between(&page, "id=\"token\" value=\"", "\"").split_once('#').unwrap().1.to_owned();
    let (cookie, csrf_token) = follow(&client, &link);
    let invited = client.with_session(&cookie, &csrf_token);
    let own = invited.get("/portal/session").expect(200).json();
    assert!(time(&own["portal_session"]["expires_at"]) <= time(&shown["expires_at"]));
    let (_, further) = minted(&invited, "acme", "auditor", json!({}));
    client.delete(&path(&shown)).expect(204);
    assert!(olga.get("/console/keys").location(303).starts_with("/console/sign-in"));
    assert!(!is_in(&invited) && !is_in(&further));

    // A revoked root key's sessions are not listed either.
    let _ = Browser::sign_in(&client, &bound_token);
    assert_eq!(listed(&client).len(), 1);
    client.delete(&format!("/v1/root-keys/{bound_id}")).expect(204);
    assert!(listed(&client).is_empty());
}
