//! The console without scripts: sign-in and sign-out, its protections, and what each form appends to the log.

use keyledger_tests::client::console::{Browser, between};
use std::time::Duration;

use keyledger_tests::data::fixture::{
    api, code, events, follow, key, organization, portal_link, root_key, text, trail, types,
};
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::json;

#[test]
fn signing_in_begins_a_session_of_its_own() {
    let server = Server::start();
    let client = server.client();
    let outside = client.anonymous();
    assert_eq!(outside.get("/").expect(303).header("location"), Some("/console"));
    assert_eq!(outside.get("/console").expect(303).header("location"), Some("/console/sign-in"));
    let asked = outside.get("/console/keys?q=a%26b").expect(303);
    assert_eq!(asked.header("location"), Some("/console/sign-in?to=%2Fconsole%2Fkeys%3Fq%3Da%2526b"));

    let sign_in = |fields: &[(&str, &str)]| outside.request("POST", "/console/sign-in").form(fields);
    for wrong in ["", "klroot_x", "kl_live_x"] {
        let refused = sign_in(&[("secret", wrong)]).expect(422);
        assert!(wrong.is_empty() || !refused.text().contains(wrong), "the submitted secret is not repeated");
        assert!(
            refused.text().contains("Check that you copied all of it")
                && refused.header("set-cookie").is_none()
        );
    }
    // A planted cookie does not become the session's.
    let planted = "keyledger_session=klsession_planted";
    let answer =
        sign_in(&[("secret", server.root_token()), ("to", "/console/keys?q=x")]).header("cookie", planted);
    let answer = answer.expect(303);
    assert_eq!(answer.header("location"), Some("/console/keys?q=x"));
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    assert!(!cookie.contains("planted"));
    assert_eq!(outside.get("/console/keys").header("cookie", planted).expect(303).status, 303);
    let elsewhere = sign_in(&[("secret", server.root_token()), ("to", "https://evil.example/")]).expect(303);
    assert_eq!(elsewhere.header("location"), Some("/console"));

    // After a link on another site, the browser withholds the cookie until a page of the console reloads.
    let linked = outside.get("/console/keys").header("sec-fetch-site", "cross-site").expect(200);
    assert_eq!(linked.header("refresh"), Some("0"));

    let browser = Browser::with_cookie(&client, answer.cookie().unwrap());
    assert_eq!(browser.get("/console/sign-in").location(303), "/console");
    // Signing in again ends the previous session.
    let again = sign_in(&[("secret", server.root_token())]).header("cookie", browser.cookie()).expect(303);
    assert_eq!(browser.get("/console/keys").location(303), "/console/sign-in?to=%2Fconsole%2Fkeys");
    let browser = Browser::with_cookie(&client, again.cookie().unwrap());
    assert_eq!(browser.submit("/console/sign-out", &[]).location(303), "/console/sign-in");
    assert_eq!(browser.get("/console/keys").location(303), "/console/sign-in?to=%2Fconsole%2Fkeys");
}

#[test]
fn a_pasted_link_lets_one_person_in_once() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let outside = client.anonymous();
    let sign_in = |secret: &str| outside.request("POST", "/console/sign-in").form(&[("secret", secret)]);
    let refused = |secret: &str| {
        let answer = sign_in(secret).expect(422);
        assert!(
            answer.text().contains("It was already used, has expired")
                && answer.header("set-cookie").is_none()
        );
        assert!(!answer.text().contains(secret), "the submitted secret is not repeated");
    };
    let address = |link: &str| format!("http://{}/portal#{link}", client.address());
    let portal = outside.get("/portal").expect(200).text();
    assert!(between(&portal, "<noscript>", "</noscript>").contains("href=\"/console/sign-in\""));

    // Opening the page, an address with the secret in it, and another site's page do not use up the link.
    let (session, link) = portal_link(&client, &org, "member", json!({ "user_id": "u1" }));
    let looked = outside.get(&format!("/console/sign-in?secret={link}")).expect(200);
    assert!(!looked.text().contains(&link) && looked.header("set-cookie").is_none());
    sign_in(&link).header("sec-fetch-site", "cross-site").expect(403);
    sign_in(&link).header("origin", "https://evil.example").expect(403);
    // The previous session ends, and a planted cookie does not become the session's.
    let before = Browser::sign_in(&client, server.root_token());
    let answer = sign_in(&format!("  {}\n", address(&link))).header("cookie", before.cookie()).expect(303);
    assert_eq!(answer.header("location"), Some("/console"));
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    assert_eq!(before.get("/console/keys").location(303), "/console/sign-in?to=%2Fconsole%2Fkeys");
    let member = Browser::with_cookie(&client, answer.cookie().unwrap());
    assert_ne!(member.cookie(), before.cookie());
    assert!(member.get("/console/keys").expect_page(200).contains("Your keys"));
    let trail = trail(&client, &session, &client.get("/v1/keys").expect(200));
    assert_eq!(types(&trail), ["PortalSessionCreated", "PortalSessionStarted"]);
    assert_eq!(trail[1]["actor"]["ip"], "127.0.0.1");

    refused(&link);
    refused(&address(&link));
    refused("kllink_x");
    let (taken_back, link) = portal_link(&client, &org, "owner", json!({}));
    client.delete(&format!("/v1/portal-sessions/{taken_back}")).expect(204);
    refused(&link);
    let (late, link) = portal_link(&client, &org, "owner", json!({ "link_seconds": 1 }));
    poll::until("the link to end", Duration::from_secs(10), || {
        let shown = client.get(&format!("/v1/portal-sessions/{late}")).expect(200).json();
        (shown["status"] == "expired").then_some(())
    });
    refused(&link);
    // The secret alone is enough, and sign-in continues to the requested page.
    let (_, link) = portal_link(&client, &org, "auditor", json!({}));
    let fields = [("secret", link.as_str()), ("to", "/console/audit")];
    let planted = "keyledger_session=klsession_planted";
    let entered =
        outside.request("POST", "/console/sign-in").form(&fields).header("cookie", planted).expect(303);
    assert_eq!(entered.header("location"), Some("/console/audit"));
    assert!(!entered.header("set-cookie").unwrap().contains("planted"));
}

#[test]
fn a_root_keys_sessions_end_with_it() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let (id, token) = root_key(&client, &["keys:read"], Some(&org));
    let browser = Browser::sign_in(&client, &token);
    let page = browser.get("/console/keys").expect_page(200);
    assert!(page.contains("A root key") && page.contains("A paid organization"));
    assert!(
        !page.contains("Create key") && !page.contains("/console/keys/new"),
        "the root key may only read"
    );
    client.delete(&format!("/v1/root-keys/{id}")).expect(204);
    assert_eq!(browser.get("/console/keys").location(303), "/console/sign-in?to=%2Fconsole%2Fkeys");
    assert_eq!(browser.submit("/console/theme", &[("theme", "dark")]).location(303), "/console/sign-in");
}

#[test]
fn every_page_is_protected() {
    let server = Server::start();
    let browser = Browser::sign_in(&server.client(), server.root_token());
    for path in ["/console/keys", "/console/sign-in", "/console/no-such-page", "/console/keys/new"] {
        let page = browser.get(path).0;
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let text = page.text();
        assert!(
            !text.contains("<style") && !text.contains(" style=") && !text.contains("javascript:"),
            "{path}"
        );
    }
    let missing = browser.get("/console/no-such-page").expect_page(404);
    assert!(missing.contains("No such page") && missing.contains("not_found") && missing.contains("req_"));
    // Assets are cached permanently, at an address that changes with their content.
    let page = browser.get("/console/keys").expect_page(200);
    let style = between(&page, "rel=\"stylesheet\" href=\"", "\"").to_owned();
    let file = browser.get(&style).0;
    assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(browser.get("/console/assets/0/console.css").0.status, 404);
}

#[test]
fn forms_of_other_pages_are_refused() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({}));
    let browser = Browser::sign_in(&client, server.root_token());
    let path = format!("/console/keys/{}/revoke", made.id);
    let other = Browser::sign_in(&client, server.root_token());
    let outside = client.anonymous();
    let send = |fields: &[(&str, &str)], headers: &[(&str, &str)]| {
        let mut request = outside.request("POST", &path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.header("cookie", browser.cookie()).form(fields).send().status
    };
    let good = [("csrf_token", browser.csrf_token())];
    assert_eq!(send(&[], &[]), 403);
    assert_eq!(send(&[("csrf_token", other.csrf_token())], &[]), 403, "of another session");
    assert_eq!(send(&good, &[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(send(&good, &[("sec-fetch-site", "same-site")]), 403);
    assert_eq!(send(&good, &[("origin", "https://evil.example")]), 403);
    assert_eq!(send(&good, &[("origin", "null")]), 403);
    assert_eq!(code(&client, &made.token), "VALID");
    let sign_in = outside.request("POST", "/console/sign-in").header("origin", "https://evil.example");
    sign_in.form(&[("secret", server.root_token())]).expect(403);
    assert_eq!(send(&good, &[("sec-fetch-site", "same-origin")]), 303);
    assert_eq!(code(&client, &made.token), "REVOKED");
}

#[test]
fn keys_live_through_forms_alone() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let api = api(&client, &["read:users", "write:users"]);
    let browser = Browser::sign_in(&client, server.root_token());
    let empty = browser.get(&format!("/console/keys?organization_id={org}")).expect_page(200);
    assert!(empty.contains("No keys yet"));
    let form = browser.get(&format!("/console/keys/new?organization_id={org}")).expect_page(200);
    let request = between(&form, "name=\"request\" value=\"", "\"").to_owned();
    let scopes = format!("scopes:{api}");
    let fields = [
        ("organization_id", org.as_str()),
        ("request", &request),
        ("name", "Import"),
        ("environment", "production"),
        ("api_id", &api),
        (&scopes, "read:users"),
        ("expires_in", "one_month"),
        ("metadata", "{\"team\": 7}"),
    ];
    let mut wrong = fields;
    wrong[7].1 = "[";
    assert!(browser.submit("/console/keys", &wrong).expect_page(422).contains("Enter a JSON object"));
    wrong[7].1 = "";
    wrong[3].1 = "";
    let refused = browser.submit("/console/keys", &wrong).expect_page(422);
    assert!(refused.contains("is required") && refused.contains("value=\"Import\""), "{refused}");
    let page = browser.submit("/console/keys", &fields).expect_page(200);
    let token = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    assert_eq!(code(&client, &token), "VALID");
    let again = browser.submit("/console/keys", &fields).expect_page(200);
    assert!(again.contains("already shown") && !again.contains(&token));
    let list = browser.get(&format!("/console/keys?organization_id={org}&q=impo")).expect_page(200);
    assert!(list.contains("<mark>Impo</mark>rt") && !list.contains(&token));
    let id = between(&list, "href=\"/console/keys/key_", "\"");
    let id = format!("key_{id}");
    let path = |tail: &str| format!("/console/keys/{id}/{tail}");

    let form = browser.get(&path("edit")).expect_page(200);
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    let edited = [
        ("version", version.as_str()),
        ("name", "Import (EU)"),
        ("scope", "write:users"),
        ("ends", "never"),
        ("metadata", "{\"team\":7}"),
        ("to", "/console/keys"),
    ];
    let list = browser.submit_and_follow(&path("edit"), &edited);
    assert!(list.contains("Changes saved.") && list.contains("Import (EU)"));
    // The key was changed since the form was opened.
    assert!(browser.submit(&path("edit"), &edited).expect_page(412).contains("The object has changed"));

    let to = [("reason", "superseded"), ("note", "By hand"), ("to", "/console/keys")];
    let list = browser.submit_and_follow(&path("revoke"), &to);
    assert!(
        list.contains("“Import (EU)” was revoked.")
            && list.contains("Undo")
            && list.contains("Revoked</span>")
    );
    assert_eq!(code(&client, &token), "REVOKED");
    assert!(browser.submit(&path("revoke"), &to).expect_page(409).contains("revoked already"));
    let list = browser.submit_and_follow(&path("reactivate"), &[("to", "/console/keys")]);
    assert!(list.contains("works again"));
    let rotated = browser.submit(&path("rotate"), &[("overlap_seconds", "3600"), ("request", "r1")]);
    let new_token = between(&rotated.expect_page(200), "id=\"token\" value=\"", "\"").to_owned();
    assert_eq!([code(&client, &token), code(&client, &new_token)], ["VALID", "VALID"]);
    assert!(
        browser
            .submit(&path("delete"), &[("confirmation", "import")])
            .expect_page(422)
            .contains("Type the text exactly as shown")
    );
    let list = browser.submit_and_follow(&path("delete"), &[("confirmation", "Import (EU)")]);
    assert!(list.contains("was deleted") && !list.contains(&id));
    assert_eq!([code(&client, &token), code(&client, &new_token)], ["NOT_FOUND", "NOT_FOUND"]);

    let events = events(&client, &id);
    assert_eq!(
        types(&events),
        [
            "KeyCreated",
            "KeyRenamed",
            "KeyScopesChanged",
            "KeyExpiryChanged",
            "KeyRevoked",
            "KeyReactivated",
            "KeyRotated",
            "KeyDeleted"
        ]
    );
    assert_eq!(events[4]["data"], json!({ "reason": "superseded", "note": "By hand" }));
    for event in &events {
        assert_eq!(event["actor"]["kind"], "root_key", "{event}");
        assert_eq!(event["actor"]["ip"], "127.0.0.1");
        assert!(text(&event["request_id"]).starts_with("req_"));
    }
}

/// A text of a page with its character references resolved.
fn unescaped(html: &str) -> String {
    [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")]
        .iter()
        .fold(html.to_owned(), |html, (escaped, text)| html.replace(escaped, text))
}

/// The value of a textarea. An HTML parser drops the first line break and converts the others to line feeds.
fn in_textarea(page: &str, name: &str) -> String {
    let html = between(page, &format!("id=\"{name}\""), "</textarea>").split_once('>').unwrap().1;
    let text = unescaped(html).replace("\r\n", "\n").replace('\r', "\n");
    text.strip_prefix('\n').unwrap_or(&text).to_owned()
}

#[test]
fn a_form_that_comes_back_as_shown_changes_nothing() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let organization = client.post("/v1/organizations", &json!({ "name": " Acme ", "kind": "paid" }));
    let organization = text(&organization.expect(201).json()["id"]);
    let api = client.post("/v1/apis", &json!({ "name": " Users ", "audience": "u", "scopes": ["b", "a"] }));
    let api = text(&api.expect(201).json()["id"]);
    let description = "\n first <b> \r\nsecond\rthird & last\n";
    let issued = key(
        &client,
        &organization,
        json!({ "name": " Import ", "description": description, "api_id": api, "scopes": ["a", "b"],
            "metadata": { "z": 0.1, "a": "\"<" } }),
    );
    let before = client.get("/v1/apis").expect(200).position();
    let path = format!("/console/keys/{}/edit", issued.id);
    let page = browser.get(&path).expect_page(200);
    let sent = |text: String| text.replace('\n', "\r\n");
    let shown = sent(in_textarea(&page, "description"));
    assert_eq!(shown, "\r\n first <b> \r\nsecond\r\nthird & last\r\n");
    let metadata = sent(in_textarea(&page, "metadata"));
    let form = |description, metadata| {
        [
            ("name", " Import "),
            ("description", description),
            ("scope", "b"),
            ("scope", "a"),
            ("metadata", metadata),
            ("ends", "never"),
            ("version", "1"),
        ]
    };
    assert!(browser.submit_and_follow(&path, &form(&shown, &metadata)).contains("No changes were made."));
    let renamed = [("name", " Acme "), ("kind", "paid"), ("version", "1")];
    let path = format!("/console/organizations/{organization}/edit");
    assert!(browser.submit_and_follow(&path, &renamed).contains("No changes were made."));
    let path = format!("/console/apis/{api}/edit");
    let scopes = in_textarea(&browser.get(&path).expect_page(200), "scopes");
    let same = [("name", " Users "), ("scopes", &sent(scopes)), ("version", "1")];
    assert!(browser.submit_and_follow(&path, &same).contains("No changes were made."));
    assert_eq!(client.get("/v1/apis").expect(200).position(), before);
    assert_eq!(client.get(&issued.path("")).expect(200).json()["description"], description);

    // A changed text gets line feeds.
    let path = format!("/console/keys/{}/edit", issued.id);
    assert!(browser.submit_and_follow(&path, &form("one\r\ntwo", "{}")).contains("Changes saved."));
    let changed = client.get(&issued.path("")).expect(200).json();
    assert_eq!((&changed["description"], &changed["metadata"]), (&json!("one\ntwo"), &json!({})));
    assert_eq!((&changed["name"], &changed["version"]), (&json!(" Import "), &json!(3)));
}

#[test]
fn people_from_the_portal_see_what_their_role_allows() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let others = key(&client, &org, json!({ "name": "Secret project", "user_id": "u2" }));
    let enter = |role: &str| {
        let (_, link) = portal_link(&client, &org, role, json!({ "user_id": "u1" }));
        Browser::with_cookie(&client, &follow(&client, &link).0)
    };
    let member = enter("member");
    let page = member.get("/console/keys").expect_page(200);
    assert!(page.contains("Your keys") && !page.contains("Secret project") && page.contains("Create key"));
    for tail in ["", "/edit", "/revoke", "/rotate", "/delete"] {
        member.get(&format!("/console/keys/{}{tail}", others.id)).expect_page(404);
    }
    // A forged form is checked like an API request.
    for (tail, fields) in [
        ("revoke", vec![]),
        ("rotate", vec![("overlap_seconds", "0")]),
        ("delete", vec![("confirmation", "Secret project")]),
        ("edit", vec![("name", "x"), ("version", "1")]),
        ("reactivate", vec![]),
    ] {
        member.submit(&format!("/console/keys/{}/{tail}", others.id), &fields).expect_page(404);
    }
    let theirs =
        [("environment", "preview"), ("owner", "user"), ("user_id", "u2"), ("organization_id", "elsewhere")];
    member.submit("/console/keys", &theirs).expect_page(403);
    assert_eq!(code(&client, &others.token), "VALID");
    let own =
        member.submit("/console/keys", &[("environment", "preview"), ("name", "Mine")]).expect_page(200);
    let own = between(&own, "id=\"token\" value=\"", "\"").to_owned();
    let found = client.post("/v1/keys/find", &json!({ "token": own })).expect(200).json();
    assert_eq!((&found["key"]["user_id"], &found["key"]["owner"]), (&json!("u1"), &json!("user")));
    assert_eq!(found["events"][0]["actor"]["kind"], "portal_session");
    // A member sees their own key's history, but no proof, because the proof file contains the whole stored
    // event.
    let id = text(&found["key"]["id"]);
    client.post(&format!("/v1/keys/{id}/revoke"), &json!({ "reason": "superseded" })).expect(200);
    let page = member.get(&format!("/console/keys/{id}")).expect_page(200);
    assert!(
        page.contains("revoked it: replaced")
            && page.contains("View at version")
            && !page.contains(">Proof<"),
        "{page}"
    );
    assert_eq!(page.matches("from 127.0.0.1").count(), 1, "the root key's address is not shown");

    let auditor = enter("auditor");
    let page = auditor.get("/console/keys").expect_page(200);
    assert!(page.contains("Secret project") && !page.contains("Create key") && !page.contains("/revoke"));
    for path in ["/console/keys".to_owned(), format!("/console/keys/{}/revoke", others.id)] {
        auditor.submit(&path, &[("environment", "preview")]).expect_page(403);
    }
    for path in ["/console/keys/new".to_owned(), format!("/console/keys/{}/edit", others.id)] {
        auditor.get(&path).expect_page(403);
    }
    let admin = enter("admin");
    assert!(admin.get("/console/keys").expect_page(200).contains("Secret project"));
    assert_eq!(admin.submit(&format!("/console/keys/{}/revoke", others.id), &[]).0.status, 303);
    assert_eq!(code(&client, &others.token), "REVOKED");
    assert_eq!(admin.submit("/console/sign-out", &[]).location(303), "/console/sign-in");
    assert_eq!(admin.get("/console/keys").location(303), "/console/sign-in?to=%2Fconsole%2Fkeys");
}

#[test]
fn a_keys_page_shows_its_history() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({ "name": "prod", "metadata": { "tier": 2 } }));
    client.patch(&made.path(""), &json!({ "name": "Production" })).expect(200);
    client
        .post(&made.path("/revoke"), &json!({ "reason": "key_compromise", "note": "In a public place" }))
        .expect(200);
    client.post(&made.path("/reactivate"), &json!({})).expect(200);
    client.post(&made.path("/rotate"), &json!({ "overlap_seconds": 7200 })).expect(200);
    assert_eq!(code(&client, &made.token), "VALID");
    let browser = Browser::sign_in(&client, server.root_token());
    let path = format!("/console/keys/{}", made.id);
    let page = browser.get(&path).expect_page(200);
    for expected in [
        "<del><bdi>prod</bdi></del> → <ins><bdi>Production</bdi></ins>",
        "revoked it: leaked",
        "In a public place",
        "reactivated it",
        "rotated its token to ",
        "The previous token still works. It expires",
        "(root key)</bdi></strong> created it for production; it never expires",
        "from 127.0.0.1",
        "1 verification in the last 24 hours: 1 valid, 0 refused",
        "<th scope=\"col\" class=\"number\">Valid</th>",
        "&#34;tier&#34;: 2",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    let proof = between(&page, "<a href=\"/v1/events/", "\"").to_owned();
    let file = browser.get(&format!("/v1/events/{proof}")).0;
    assert!(file.status == 200 && file.text().starts_with("c2sp.org/tlog-proof"), "{}", file.text());

    let before = browser.get(&format!("{path}?version=1")).expect_page(200);
    assert!(before.contains("Version 1 of 5") && before.contains("<dd><bdi>prod</bdi></dd>"));
    let revoked = browser.get(&format!("{path}?version=3")).expect_page(200);
    assert!(revoked.contains("<dt>Status</dt><dd><span class=\"badge bad\">"), "{revoked}");

    client.delete(&made.path("")).expect(204);
    let page = browser.get(&path).expect_page(200);
    assert!(
        page.contains("Deleted</span></h1>") && page.contains("deleted it") && !page.contains("/revoke"),
        "{page}"
    );
    // A visitor who may not read events only learns that the key was deleted.
    let (_, reader) = root_key(&client, &["keys:read"], None);
    let reader = Browser::sign_in(&client, &reader);
    assert!(reader.get(&path).expect_page(410).contains("The key was deleted"));
    let kept = key(&client, &org, json!({ "name": "Kept" }));
    let page = reader.get(&format!("/console/keys/{}", kept.id)).expect_page(200);
    assert!(page.contains("Kept") && !page.contains("History") && !page.contains("data-dialog"), "{page}");
}

#[test]
fn a_token_is_tested_and_not_repeated() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({ "name": "Under test" }));
    let test = |browser: &Browser, fields: &[(&str, &str)]| {
        let page = browser.submit("/console/test", fields).expect_page(200);
        assert!(!page.contains(&made.token), "the page must not repeat the token");
        page
    };
    let operator = Browser::sign_in(&client, server.root_token());
    operator.submit("/console/test", &[]).expect_page(422);
    let good = test(&operator, &[("token", &made.token)]);
    assert!(good.contains("Accepted") && good.contains("<code>VALID</code>") && good.contains("Under test"));
    let elsewhere = test(&operator, &[("token", &made.token), ("environment", "preview")]);
    assert!(elsewhere.contains("Refused") && elsewhere.contains("<code>WRONG_ENVIRONMENT</code>"));
    assert!(test(&operator, &[("token", "kl_live_x")]).contains("<code>MALFORMED</code>"));
    client.delete(&made.path("")).expect(204);
    let gone = test(&operator, &[("token", &made.token)]);
    assert!(
        gone.contains("<code>NOT_FOUND</code>") && gone.contains("Deleted</span>"),
        "a deleted key is still found"
    );

    let (_, link) = portal_link(&client, &org, "auditor", json!({}));
    let auditor = Browser::with_cookie(&client, &follow(&client, &link).0);
    assert!(test(&auditor, &[("token", &made.token)]).contains("The key was deleted"));
    assert!(test(&auditor, &[("token", "kl_live_x")]).contains("No such key"));
    // An organization's own people see the result of verification. Keys that they may not see count as
    // unknown.
    let other = organization(&client, "paid");
    let elsewhere = key(&client, &other, json!({ "name": "Of somebody else" }));
    let ours = key(&client, &org, json!({ "name": "Ours", "user_id": "u1" }));
    let colleague = key(&client, &org, json!({ "name": "A colleague's", "user_id": "u2" }));
    for role in ["owner", "admin", "member"] {
        let (_, link) = portal_link(&client, &org, role, json!({ "user_id": "u1" }));
        let person = Browser::with_cookie(&client, &follow(&client, &link).0);
        let good = test(&person, &[("token", &ours.token)]);
        assert!(
            good.contains("Accepted") && good.contains("<code>VALID</code>") && good.contains("Ours"),
            "{role}"
        );
        let wrong = test(&person, &[("token", &ours.token), ("environment", "preview")]);
        assert!(wrong.contains("<code>WRONG_ENVIRONMENT</code>"), "{role}");
        let unseen = test(&person, &[("token", &elsewhere.token)]);
        assert!(unseen.contains("<code>NOT_FOUND</code>") && !unseen.contains("Of somebody else"), "{role}");
        let colleagues = test(&person, &[("token", &colleague.token)]);
        assert_eq!(colleagues.contains("A colleague"), role != "member");
        assert_eq!(colleagues.contains("<code>NOT_FOUND</code>"), role == "member");
    }
}

#[test]
fn several_keys_are_changed_after_a_preview() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made: Vec<_> = (0..3).map(|n| key(&client, &org, json!({ "name": format!("Key {n}") }))).collect();
    client.post(&made[2].path("/revoke"), &json!({})).expect(200);
    let browser = Browser::sign_in(&client, server.root_token());
    let to = format!("/console/keys?organization_id={org}");
    let chosen = |action: &'static str, keys: &'static [usize]| {
        let mut fields = vec![("action", action.to_owned()), ("to", to.clone())];
        fields.extend(keys.iter().map(|index| ("key", made[*index].id.clone())));
        fields
    };
    let submit = |path: &str, fields: &[(&str, String)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.submit(path, &fields)
    };
    let preview = submit("/console/keys/selection", &chosen("revoke", &[0, 1, 2])).expect_page(200);
    assert!(preview.contains("Revoke 2 keys") && preview.contains("Not affected"), "{preview}");
    assert_eq!(code(&client, &made[0].token), "VALID", "a preview changes nothing");
    let answer = submit("/console/keys/selection/apply", &chosen("revoke", &[0, 1]));
    assert_eq!(answer.location(303), to);
    for key in &made {
        assert_eq!(code(&client, &key.token), "REVOKED");
    }
    let preview = submit("/console/keys/selection", &chosen("delete", &[0, 1])).expect_page(200);
    assert!(preview.contains("Type <strong class=\"verbatim\">delete 2</strong>"), "{preview}");
    let mut fields = chosen("delete", &[0, 1]);
    fields.push(("confirmation", "yes".into()));
    submit("/console/keys/selection/apply", &fields).expect_page(422);
    fields.last_mut().unwrap().1 = "delete 2".into();
    assert_eq!(submit("/console/keys/selection/apply", &fields).location(303), to);
    let states = [0, 1, 2].map(|index| code(&client, &made[index].token));
    assert_eq!(states, ["NOT_FOUND", "NOT_FOUND", "REVOKED"]);
    assert_eq!(types(&events(&client, &made[0].id)), ["KeyCreated", "KeyRevoked", "KeyDeleted"]);
}

#[test]
fn whatever_a_key_is_called_is_only_text() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let nasty = [
        "<script>alert(1)</script>".to_owned(),
        "\"><img src=x onerror=alert(1)>".to_owned(),
        "'; alert(1); '</title></style>".to_owned(),
        "\u{202e}gnp.exe\u{2066}\u{200b}".to_owned(),
        "{{ 7 * 7 }} ${7 * 7} {% include %}".to_owned(),
        "x".repeat(1_000),
        "\u{1f511}".repeat(1_000),
    ];
    let browser = Browser::sign_in(&client, server.root_token());
    let check = |page: &str| {
        for forbidden in ["<script>", "<img src=x", "</style>", "onerror=alert(1)>"] {
            assert!(!page.contains(forbidden), "{forbidden} in {page}");
        }
    };
    let mut shown = 0;
    for name in &nasty {
        let more = json!({ "name": name, "description": name, "user_id":
        name.chars().take(60).collect::<String>(),
            "metadata": { name.as_str(): name } });
        let made = client.post("/v1/keys", &keyledger_tests::data::fixture::key_body(&org, more)).send();
        // A name that the rules refuse cannot be shown. Every other name must be.
        if made.status == 422 {
            continue;
        }
        shown += 1;
        let id = text(&made.json()["key"]["id"]);
        for tail in ["", "/edit", "/revoke", "/rotate", "/delete", "?version=1"] {
            check(&browser.get(&format!("/console/keys/{id}{tail}")).expect_page(200));
        }
        let revoked = browser.submit_and_follow(&format!("/console/keys/{id}/revoke"), &[("note", name)]);
        assert!(revoked.contains("was revoked."));
        check(&revoked);
    }
    assert!(shown >= 5, "{shown}");
    check(&browser.get("/console/keys").expect_page(200));
    for searched in ["%3Cscript%3E", "%22%3E%3Cimg%20src%3Dx", "%E2%80%AE"] {
        check(&browser.get(&format!("/console/keys?q={searched}&user_id={searched}")).expect_page(200));
    }
    check(&browser.get("/console/keys/%3Cscript%3E").expect_page(404));
    check(&browser.submit("/console/keys", &[("name", &nasty[1]), ("organization_id", &nasty[0])]).0.text());
}
