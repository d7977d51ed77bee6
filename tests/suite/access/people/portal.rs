//! The portal: links, sessions, what each role may do, and what pages of other sites cannot do.

use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    Issued, code, events, follow, issued, key, key_body, organization, portal_link, signed_in, text, trail,
    types, verify,
};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

/// Opening the page does not consume a link: link scanners open it ahead of the user.
fn check_sign_in_page(client: &Client) {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let _ = client.request(method, "/portal").send();
    }
    let page = client.get("/portal").expect(200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    client.get("/portal/sign-in.js").expect(200);
    client.get("/portal/style.css").expect(200);
}

#[test]
fn a_link_signs_one_user_in_once() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let minted = client
        .post("/v1/portal-sessions", &json!({ "organization_id": org, "role": "admin", "user_id": "u7" }))
        .expect(201);
    assert_eq!(minted.header("cache-control"), Some("no-store"));
    let shown = &minted.json()["portal_session"];
    let (id, url) = (text(&shown["id"]), text(&minted.json()["url"]));
    assert_eq!(
        (&shown["status"], &shown["role"], &shown["user_id"]),
        (&json!("pending"), &json!("admin"), &json!("u7"))
    );
    let (page, link) = url.split_once('#').unwrap();
    assert_eq!(page, format!("http://{}/portal", client.address()));
    token::check(link, "kllink_");

    check_sign_in_page(&client.anonymous());
    let body = json!({ "link": link });
    let started =
        client.anonymous().post("/portal/session", &body).header("user-agent", "browser/1").expect(200);
    let cookie = started.header("set-cookie").unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    assert!(!cookie.contains("Secure"), "this service is reached without TLS");
    assert_eq!(started.json()["portal_session"]["status"], "active");
    let again = client.anonymous().post("/portal/session", &body).expect(404);
    assert_eq!(again.code(), "portal_link_invalid");
    for wrong in [token::with_head("kllink_", [3; 32]), String::new(), "x".into(), server.root_token().into()]
    {
        client.anonymous().post("/portal/session", &json!({ "link": wrong })).expect(404);
    }

    let session = client.with_session(started.cookie().unwrap(), &text(&started.json()["csrf_token"]));
    let own = session.get("/portal/session").expect(200).json();
    assert_eq!(
        (&own["portal_session"]["id"], &own["csrf_token"]),
        (&json!(id), &started.json()["csrf_token"])
    );
    let made = issued(
        &session
            .post("/v1/keys", &key_body(&org, json!({ "name": "Mine" })))
            .header("user-agent", "browser/1")
            .expect(201),
    );
    assert_eq!(made.key["created_by"], json!(id));
    let actor = &events(&client, &made.id)[0]["actor"];
    assert_eq!(
        (&actor["kind"], &actor["id"], &actor["ip"], &actor["user_agent"]),
        (&json!("portal_session"), &json!(id), &json!("127.0.0.1"), &json!("browser/1"))
    );

    let signed_out = session.delete("/portal/session").expect(204);
    assert!(signed_out.header("set-cookie").unwrap().contains("Max-Age=0"));
    session.get("/portal/session").expect(401);
    session.get("/v1/keys").expect(401);
    let shown = client.get(&format!("/v1/portal-sessions/{id}")).expect(200).json();
    assert_eq!(shown["status"], "ended");
    let trail = trail(&client, &id, &signed_out);
    let kinds: Vec<&str> = trail.iter().map(|it| it["actor"]["kind"].as_str().unwrap()).collect();
    assert_eq!(types(&trail), ["PortalSessionCreated", "PortalSessionStarted", "PortalSessionEnded"]);
    assert_eq!(kinds, ["root_key", "portal_session", "portal_session"]);
    assert_eq!(trail[2]["data"], json!({ "reason": "signed_out" }));
}

#[test]
fn sessions_end_by_sign_out_deletion_and_time() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let (revoked, link) = portal_link(&client, &org, "admin", json!({}));
    let (cookie, csrf) = follow(&client, &link);
    let session = client.with_session(&cookie, &csrf);
    let (pending, unused) = portal_link(&client, &org, "auditor", json!({}));
    let (_, link) = portal_link(&client, &org, "owner", json!({}));
    let (kept_cookie, kept_csrf) = follow(&client, &link);
    let listed = client.get("/v1/portal-sessions").expect(200).json();
    assert_eq!(listed["total"], 3);

    client.delete(&format!("/v1/portal-sessions/{revoked}")).expect(204);
    session.get("/v1/keys").expect(401);
    assert_eq!(
        client.delete(&format!("/v1/portal-sessions/{revoked}")).expect(410).code(),
        "portal_session_ended"
    );
    client.delete(&format!("/v1/portal-sessions/{pending}")).expect(204);
    client.anonymous().post("/portal/session", &json!({ "link": unused })).expect(404);
    assert_eq!(client.get("/v1/portal-sessions").expect(200).json()["total"], 1);
    assert_eq!(client.get("/v1/portal-sessions/ps_x").expect(404).code(), "portal_session_not_found");

    // Sessions and links also end by themselves.
    let (short, link) = portal_link(&client, &org, "admin", json!({ "session_seconds": 1 }));
    let (cookie, csrf) = follow(&client, &link);
    let brief = client.with_session(&cookie, &csrf);
    let (_, late) = portal_link(&client, &org, "admin", json!({ "link_seconds": 1 }));
    poll::until("the session to end", Duration::from_secs(10), || {
        (brief.get("/v1/keys").send().status == 401).then_some(())
    });
    assert_eq!(client.get(&format!("/v1/portal-sessions/{short}")).expect(200).json()["status"], "expired");
    poll::until("the link to end", Duration::from_secs(10), || {
        let listed = client.get("/v1/portal-sessions").expect(200).json();
        (listed["total"] == 1).then_some(())
    });
    client.anonymous().post("/portal/session", &json!({ "link": late })).expect(404);

    // A session survives a restart and ends with its organization.
    server.kill();
    server.start_again();
    let client = server.client();
    let survivor = client.with_session(&kept_cookie, &kept_csrf);
    survivor.get("/v1/keys").expect(200);
    let (_, link) = portal_link(&client, &org, "owner", json!({}));
    client.delete(&format!("/v1/organizations/{org}")).expect(204);
    survivor.get("/v1/keys").expect(401);
    client.anonymous().post("/portal/session", &json!({ "link": link })).expect(404);
    let body = json!({ "organization_id": org, "role": "owner" });
    assert!(client.post("/v1/portal-sessions", &body).expect(422).text().contains("/organization_id"));
}

#[test]
fn a_page_of_another_site_can_change_nothing() {
    let server = Server::start();
    let (client, anonymous) = (server.client(), server.anonymous());
    let org = organization(&client, "paid");
    let issued = key(&client, &org, json!({}));
    let (_, link) = portal_link(&client, &org, "admin", json!({}));
    // Another site cannot sign a user in either.
    let body = json!({ "link": link });
    let forged = anonymous.post("/portal/session", &body).header("sec-fetch-site", "cross-site");
    assert_eq!(forged.expect(403).code(), "csrf_failed");
    client
        .anonymous()
        .request("POST", "/portal/session")
        .body("text/plain", body.to_string().as_bytes())
        .expect(415);
    let (cookie, csrf) = follow(&client, &link);
    let bare = |method: &str, path: &str| anonymous.request(method, path).header("cookie", &cookie);
    bare("GET", "/v1/keys").expect(200);
    for (method, path) in [
        ("POST", "/v1/keys".to_owned()),
        ("PATCH", issued.path("")),
        ("DELETE", issued.path("")),
        ("POST", issued.path("/revoke")),
        ("DELETE", "/portal/session".to_owned()),
    ] {
        for request in [
            bare(method, &path),
            bare(method, &path).header("x-csrf-token", "0123456789abcdef0123456789abcdef"),
            bare(method, &path).header("x-csrf-token", &csrf).header("sec-fetch-site", "cross-site"),
            bare(method, &path).header("x-csrf-token", &csrf).header("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(request.json(&json!({})).expect(403).code(), "csrf_failed", "{method} {path}");
        }
    }
    assert_eq!(code(&client, &issued.token), "VALID");
    bare("POST", &issued.path("/revoke"))
        .header("x-csrf-token", &csrf)
        .header("sec-fetch-site", "same-origin")
        .json(&json!({}))
        .expect(200);
    // A valid cookie does not make up for an invalid credential.
    bare("GET", "/v1/keys").header("authorization", "Bearer nonsense").expect(401);
}

/// Two organizations and their keys: of the organization, of user `u1`, of user `u2`; and of the other's user
/// `u1`.
struct Keys {
    org: String,
    other: String,
    ours: Issued,
    mine: Issued,
    colleague: Issued,
    theirs: Issued,
}

fn keys(client: &Client) -> Keys {
    let (org, other) = (organization(client, "paid"), organization(client, "paid"));
    let ours = key(client, &org, json!({}));
    let mine = key(client, &org, json!({ "user_id": "u1" }));
    let colleague = key(client, &org, json!({ "user_id": "u2" }));
    let theirs = key(client, &other, json!({ "user_id": "u1" }));
    Keys { org, other, ours, mine, colleague, theirs }
}

/// The ids on a page of keys, sorted.
fn ids(page: &Value) -> Vec<String> {
    let mut ids: Vec<String> = page["data"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
    ids.sort();
    ids
}

#[test]
fn owners_and_admins_manage_all_keys_of_their_organization() {
    let server = Server::start();
    let client = server.client();
    let Keys { org, other, ours, mine, colleague, theirs } = keys(&client);
    for role in ["owner", "admin"] {
        let session = signed_in(&client, &org, role);
        let listed = session
            .get("/v1/keys?status=active")
            .header("keyledger-min-position", &theirs.position.to_string())
            .expect(200)
            .json();
        let mut expected = [ours.id.clone(), mine.id.clone(), colleague.id.clone()];
        expected.sort();
        assert_eq!(ids(&listed), expected, "{role}");
        let made = issued(&session.post("/v1/keys", &key_body(&org, json!({ "user_id": "u9" }))).expect(201));
        session.patch(&made.path(""), &json!({ "name": "x" })).expect(200);
        session.post(&made.path("/revoke"), &json!({})).expect(200);
        session.post(&made.path("/reactivate"), &json!({})).expect(200);
        session.post(&made.path("/rotate"), &json!({})).expect(200);
        session.delete(&made.path("")).expect(204);
        assert_eq!(
            types(&events(&session, &made.id)),
            ["KeyCreated", "KeyRenamed", "KeyRevoked", "KeyReactivated", "KeyRotated", "KeyDeleted"]
        );
        for request in [
            session.get(&theirs.path("")),
            session.post(&theirs.path("/revoke"), &json!({})),
            session.delete(&theirs.path("")),
            session.post("/v1/keys", &key_body(&other, json!({}))),
            session.get(&format!("/v1/keys?organization_id={other}")),
            session.get(&format!("/v1/organizations/{other}")),
        ] {
            request.expect(404);
        }
    }
}

#[test]
fn only_owners_create_portal_links() {
    let server = Server::start();
    let client = server.client();
    let Keys { org, other, .. } = keys(&client);
    let owner = signed_in(&client, &org, "owner");
    let _ = portal_link(&owner, &org, "auditor", json!({}));
    owner.post("/v1/portal-sessions", &json!({ "organization_id": other, "role": "auditor" })).expect(404);
    assert!(
        owner.get("/v1/portal-sessions").expect(200).json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["organization_id"] == json!(org))
    );
    let body = json!({ "organization_id": org, "role": "auditor" });
    signed_in(&client, &org, "admin").post("/v1/portal-sessions", &body).expect(403);
    let body = json!({ "organization_id": org, "role": "member" });
    assert!(client.post("/v1/portal-sessions", &body).expect(422).text().contains("/user_id"));
    let body =
        json!({ "organization_id": "nobody", "role": "chief", "link_seconds": 0, "session_seconds": 86401 });
    let refused = client.post("/v1/portal-sessions", &body).expect(422).text();
    for pointer in ["/role", "/link_seconds", "/session_seconds"] {
        assert!(refused.contains(pointer), "{pointer}: {refused}");
    }
}

#[test]
fn members_manage_their_own_keys() {
    let server = Server::start();
    let client = server.client();
    let Keys { org, ours, mine, colleague, theirs, .. } = keys(&client);
    let member = signed_in(&client, &org, "member");
    assert_eq!(
        ids(&member
            .get("/v1/keys")
            .header("keyledger-min-position", &theirs.position.to_string())
            .expect(200)
            .json()),
        std::slice::from_ref(&mine.id)
    );
    let made = issued(&member.post("/v1/keys", &key_body(&org, json!({}))).expect(201));
    assert_eq!(made.key["user_id"], "u1");
    member.post("/v1/keys", &key_body(&org, json!({ "user_id": "u2" }))).expect(403);
    member.patch(&mine.path(""), &json!({ "name": "x" })).expect(200);
    member.post(&mine.path("/rotate"), &json!({})).expect(200);
    member.delete(&made.path("")).expect(204);
    for foreign in [&ours, &colleague, &theirs] {
        for request in [
            member.get(&foreign.path("")),
            member.get(&foreign.path("?at=4")),
            member.patch(&foreign.path(""), &json!({ "name": "x" })),
            member.post(&foreign.path("/revoke"), &json!({})),
            member.post(&foreign.path("/reactivate"), &json!({})),
            member.post(&foreign.path("/rotate"), &json!({})),
            member.delete(&foreign.path("")),
        ] {
            assert_eq!(request.expect(404).code(), "key_not_found");
        }
    }
    member.get("/v1/keys?user_id=u2").expect(404);
    assert_eq!(
        types(&events(&member, &made.id)),
        ["KeyCreated", "KeyDeleted"],
        "the user can still read a deleted key's events"
    );
    for foreign in [&ours, &colleague, &theirs] {
        assert_eq!(member.get(&foreign.path("/events")).expect(404).code(), "key_not_found");
    }
    for path in ["/v1/events", &format!("/v1/events?key_id={}", mine.id), "/v1/events/1/proof"] {
        member.get(path).expect(403);
    }
}

/// To members, the token of a key that they may not see looks unknown.
#[test]
fn a_member_learns_nothing_about_other_tokens() {
    let server = Server::start();
    let client = server.client();
    let Keys { org, ours, colleague, theirs, .. } = keys(&client);
    let (owner, member) = (signed_in(&client, &org, "owner"), signed_in(&client, &org, "member"));
    let answered = |caller: &Client, token: &str| {
        let introspected =
            caller.request("POST", "/oauth2/introspect").form(&[("token", token)]).expect(200).json();
        let batch = caller.post("/v1/keys/verify-batch", &json!({ "tokens": [token] })).expect(200).json();
        let verdict = verify(caller, token);
        assert_eq!(batch["data"][0]["code"], verdict["code"]);
        assert_eq!(introspected["active"], verdict["valid"]);
        (text(&verdict["code"]), verdict["key_id"].is_null())
    };
    let unknown = answered(&owner, &token::with_head("kl_live_", [9; 32]));
    assert_eq!(unknown, ("NOT_FOUND".into(), true));
    assert_eq!(answered(&owner, &ours.token), ("VALID".into(), false));
    assert_eq!(answered(&owner, &colleague.token), ("VALID".into(), false));
    assert_eq!(answered(&owner, &theirs.token), unknown);
    let own = issued(&member.post("/v1/keys", &key_body(&org, json!({}))).expect(201));
    assert_eq!(answered(&member, &own.token), ("VALID".into(), false));
    for foreign in [&ours, &colleague, &theirs] {
        assert_eq!(answered(&member, &foreign.token), unknown);
    }
}

#[test]
fn auditors_read_and_change_nothing() {
    let server = Server::start();
    let client = server.client();
    let Keys { org, ours, mine, theirs, .. } = keys(&client);
    let auditor = signed_in(&client, &org, "auditor");
    assert!(
        auditor
            .get("/v1/keys")
            .header("keyledger-min-position", &theirs.position.to_string())
            .expect(200)
            .json()["total"]
            .as_u64()
            .unwrap()
            >= 3
    );
    auditor.get(&mine.path("/events")).expect(200);
    for event in auditor.get("/v1/events?limit=200").expect(200).json()["data"].as_array().unwrap() {
        assert_eq!(event["organization_id"], json!(org));
    }
    auditor.post("/v1/keys", &key_body(&org, json!({}))).expect(403);
    auditor.delete(&mine.path("")).expect(403);
    auditor.post("/v1/keys/verify", &json!({ "token": ours.token })).expect(403);
}

#[test]
fn over_tls_the_session_cookie_is_secure() {
    let arguments = ["--public-url", "https://keys.example"].map(str::to_owned).to_vec();
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let org = organization(&client, "paid");
    let (_, link) = portal_link(&client, &org, "admin", json!({}));
    let started = client.anonymous().post("/portal/session", &json!({ "link": link })).expect(200);
    let cookie = started.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-keyledger_session=") && cookie.contains("; Secure"));
}

#[test]
fn only_a_trusted_proxy_can_name_the_callers_address() {
    let forwarded = "203.0.113.9, 198.51.100.7, 127.0.0.2";
    let arguments = ["--trusted-proxy", "127.0.0.0/8,10.0.0.0/8"].map(str::to_owned).to_vec();
    let trusting = Server::start_with(Options { arguments, ..Options::default() });
    let arguments =
        ["--trusted-proxy", "127.0.0.1/32", "--forwarded-header", "forwarded"].map(str::to_owned).to_vec();
    let rfc_7239 = Server::start_with(Options { arguments, ..Options::default() });
    let plain = Server::start();
    for (server, expected) in [(&trusting, "198.51.100.7"), (&rfc_7239, "2001:db8::7"), (&plain, "127.0.0.1")]
    {
        let client = server.client();
        let body = json!({ "kind": "paid" });
        let created = client
            .post("/v1/organizations", &body)
            .header("x-forwarded-for", forwarded)
            .header("forwarded", "for=203.0.113.9, for=\"[2001:db8::7]:4711\"")
            .expect(201);
        let id = text(&created.json()["id"]);
        assert_eq!(trail(&client, &id, &created)[0]["actor"]["ip"], expected);
        // Both ways of answering count a verification for the same address.
        let issued = key(&client, &id, json!({}));
        client
            .post("/v1/keys/verify", &json!({ "token": issued.token }))
            .header("x-forwarded-for", forwarded)
            .header("forwarded", "for=203.0.113.9, for=\"[2001:db8::7]:4711\"")
            .expect(200);
        let usage = poll::until("the verification to be counted", Duration::from_secs(10), || {
            let usage = client.get(&issued.path("/usage")).expect(200).json();
            Some(usage).filter(|usage| !usage["last_verified_ip"].is_null())
        });
        assert_eq!(usage["last_verified_ip"], expected);
    }
}
