//! The console's pages for operators and owners: what each form appends to the log, and which roles may
//! submit it.

use std::time::Duration;

use keyledger_tests::client::console::{Browser, between};
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    Application, api, application, code, follow, key, listed, organization, portal_link, root_key, text,
    token_request, trail, types,
};
use keyledger_tests::poll;
use keyledger_tests::processes::receiver::{Receiver, arguments};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

/// A name that runs as a script if it is not escaped.
const MARKUP: &str = "<script>alert(1)</script>\"'&";
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;";

/// The events of the object with an id.
fn events(client: &Client, id: &str) -> Vec<Value> {
    trail(client, id, &client.get("/v1/organizations?limit=1").expect(200))
}

/// The request name of a page's form.
fn request(page: &str) -> String {
    between(page, "name=\"request\" value=\"", "\"").to_owned()
}

#[test]
fn organizations_are_created_edited_and_deleted_by_forms() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let empty = browser.get("/console/organizations").expect_page(200);
    assert!(empty.contains("No organizations yet") && empty.contains("Create organization"));

    let form = browser.get("/console/organizations/new").expect_page(200);
    let request = request(&form);
    let fields = [("request", request.as_str()), ("name", MARKUP), ("kind", "paid"), ("id", "acme")];
    let mut wrong = fields;
    (wrong[2].1, wrong[3].1) = ("", "a b");
    let refused = browser.submit("/console/organizations", &wrong).expect_page(422);
    assert!(refused.contains("id=\"id-error\"") && refused.contains("is required"), "{refused}");
    assert!(refused.contains("value=\"a b\""), "the typed text is kept");
    let page = browser.submit_and_follow("/console/organizations", &fields);
    assert!(page.contains("was created") && page.contains("Paid organization"), "{page}");
    let taken = [("name", "Other"), ("kind", "paid"), ("id", "acme")];
    let refused = browser.submit("/console/organizations", &taken).expect_page(422);
    assert!(refused.contains("id=\"id-error\""), "{refused}");

    let list = browser.get("/console/organizations").expect_page(200);
    assert!(list.contains(ESCAPED) || list.contains("&lt;script&gt;alert(1)"), "{list}");
    assert!(!list.contains("<script>alert"));
    let found = browser.get("/console/organizations?q=ACM").expect_page(200);
    assert!(found.contains("<mark>acm</mark>e") && found.contains("1 organization found"), "{found}");
    assert!(
        browser.get("/console/organizations?q=nobody").expect_page(200).contains("No matching organizations")
    );

    let made = key(&client, "acme", json!({}));
    let form = browser.get("/console/organizations/acme/edit").expect_page(200);
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    let edited = [("version", version.as_str()), ("name", "Acme Inc."), ("kind", "partner")];
    let page = browser.submit_and_follow("/console/organizations/acme/edit", &edited);
    assert!(page.contains("Changes saved.") && page.contains("Portfolio"), "{page}");
    browser.submit("/console/organizations/acme/edit", &edited).expect_page(412);
    let unconfirmed = [("confirmation", "acme")];
    let refused = browser.submit("/console/organizations/acme/delete", &unconfirmed).expect_page(422);
    assert!(refused.contains("Type the text exactly as shown"));
    assert_eq!(code(&client, &made.token), "VALID");
    let page =
        browser.submit_and_follow("/console/organizations/acme/delete", &[("confirmation", "Acme Inc.")]);
    assert!(page.contains("was deleted") && page.contains("Deleted</span>"));
    // `KeyDeleted` may already have followed.
    assert!(matches!(&*code(&client, &made.token), "ORGANIZATION_INACTIVE" | "NOT_FOUND"));
    let page = browser.get("/console/organizations/acme").expect_page(200);
    assert!(page.contains("This organization was deleted") && !page.contains("/delete"));
    let events = events(&client, "acme");
    assert_eq!(
        types(&events),
        ["OrganizationCreated", "OrganizationRenamed", "OrganizationKindChanged", "OrganizationDeleted"]
    );
    assert!(events.iter().all(|event| event["actor"]["kind"] == "root_key"));
}

#[test]
fn a_form_sent_twice_creates_one_object() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let request = request(&browser.get("/console/root-keys/new").expect_page(200));
    let fields = [("request", request.as_str()), ("name", "Gateway"), ("permissions", "keys:verify")];
    let page = browser.submit("/console/root-keys", &fields).expect_page(200);
    let token = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    let again = browser.submit("/console/root-keys", &fields).expect_page(200);
    assert!(again.contains("was already shown") && !again.contains(&token));
    assert_eq!(client.get("/v1/root-keys").expect(200).json()["total"], 2, "the first one and this");
}

#[test]
fn a_partners_portfolio_is_managed_by_forms() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let (partner, other) = (organization(&client, "partner"), organization(&client, "free"));
    let path = |tail: &str| format!("/console/organizations/{partner}{tail}");
    assert!(browser.get(&path("")).expect_page(200).contains("No clients yet"));
    assert!(
        browser.get(&path("/clients/new")).expect_page(200).contains(&format!("<option value=\"{other}\">"))
    );
    for (wrong, said) in [
        ("", "Choose the organization"),
        ("nobody", "client_organization_id-error"),
        (partner.as_str(), "its own client"),
    ] {
        let refused =
            browser.submit(&path("/clients"), &[("client_organization_id", wrong)]).expect_page(422);
        assert!(refused.contains(said), "{wrong}: {refused}");
    }
    let page = browser.submit_and_follow(&path("/clients"), &[("client_organization_id", &other)]);
    assert!(page.contains("was added to the portfolio") && page.contains(&other), "{page}");
    let made = key(&client, &partner, json!({ "owner": "client", "client_organization_id": other }));
    let unlink = path(&format!("/clients/{other}/unlink"));
    // The page counts what the key list has, so wait until the list has the key.
    let _ = listed(&client, &format!("/v1/keys?organization_id={partner}"));
    let form = browser.get(&unlink).expect_page(200);
    assert!(form.contains("1 key for this client alone is permanently deleted"), "{form}");
    let page = browser.submit_and_follow(&unlink, &[]);
    assert!(page.contains("was removed from the portfolio") && page.contains("No clients yet"));
    // The key is refused at once; its own deletion follows in the log.
    let refused = code(&client, &made.token);
    assert!(["ORGANIZATION_INACTIVE", "NOT_FOUND"].contains(&refused.as_str()), "{refused}");
    let all = client.get("/v1/events?limit=200").expect(200).json();
    let all = types(all["data"].as_array().unwrap());
    let of_links: Vec<_> = all.into_iter().filter(|it| it.starts_with("Client")).collect();
    assert_eq!(of_links, ["ClientLinked", "ClientUnlinked"]);
}

#[test]
fn policies_are_set_and_violations_listed() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({ "name": MARKUP, "scopes": ["old:scope"] }));
    let path = |tail: &str| format!("/console/organizations/{org}{tail}");
    assert!(browser.get(&path("")).expect_page(200).contains("No policy."));
    let form = browser.get(&path("/policies/production")).expect_page(200);
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    let fields = [
        ("version", version.as_str()),
        ("demands", "expiry_required"),
        ("max_lifetime_seconds", "90"),
        ("unit", "days"),
        ("scopes", "these"),
        ("allowed_scopes", "read:users write:users"),
        ("max_keys_per_user", "three"),
    ];
    let refused = browser.submit(&path("/policies/production"), &fields).expect_page(422);
    assert!(refused.contains("max_keys_per_user-error") && refused.contains("value=\"three\""), "{refused}");
    let mut good = fields;
    good[6].1 = "3";
    let page = browser.submit_and_follow(&path("/policies/production"), &good);
    for line in [
        "Keys last at most 90 days.",
        "Keys must expire.",
        "at most 3 active keys",
        "read:users, write:users",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    let policy = client.get(&format!("/v1/organizations/{org}/policies/production")).expect(200).json();
    assert_eq!(policy["max_lifetime_seconds"], 7_776_000);
    browser.get(&path("/policies/staging")).expect_page(404);

    let _ = listed(&client, &format!("/v1/keys?organization_id={org}"));
    let report = browser.get(&path("/violations")).expect_page(200);
    assert!(
        report.contains(&made.id) && report.contains("Scope old:scope:") && report.contains("Expiry:"),
        "{report}"
    );
    assert!(!report.contains("<script>alert"));
    let page = browser.submit_and_follow(&path("/policies/production/remove"), &[]);
    assert!(page.contains("The policy for production was removed"));
    let report = browser.get(&path("/violations")).expect_page(200);
    assert!(report.contains("No keys yet") || report.contains("complies with its policies"), "{report}");
    let events = events(&client, &org);
    assert_eq!(types(&events), ["OrganizationCreated", "PolicySet", "PolicyRemoved"]);
}

#[test]
fn apis_are_registered_edited_and_deleted_by_forms() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    assert!(browser.get("/console/apis").expect_page(200).contains("No APIs yet"));
    let request = request(&browser.get("/console/apis/new").expect_page(200));
    let fields = [
        ("request", request.as_str()),
        ("name", MARKUP),
        ("audience", "https://users.example"),
        ("scopes", "read:users\nwrite:users"),
        ("token_prefix", "acme"),
    ];
    let mut wrong = fields;
    (wrong[2].1, wrong[3].1, wrong[4].1) = ("", "a\"b", "ACME");
    let refused = browser.submit("/console/apis", &wrong).expect_page(422);
    for field in ["audience", "scopes", "token_prefix"] {
        assert!(refused.contains(&format!("id=\"{field}-error\"")), "{field}: {refused}");
    }
    let page = browser.submit_and_follow("/console/apis", &fields);
    assert!(page.contains("was registered") && page.contains("acme_") && page.contains("write:users"));
    assert!(!page.contains("<script>alert"));
    let id = text(&client.get("/v1/apis").expect(200).json()["data"][0]["id"]);
    let path = |tail: &str| format!("/console/apis/{id}/{tail}");
    let made = key(&client, &organization(&client, "paid"), json!({ "api_id": id }));
    let form = browser.get(&path("edit")).expect_page(200);
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    let edited = [("version", version.as_str()), ("name", "Users"), ("scopes", "read:users")];
    assert!(
        browser
            .submit(&path("edit"), &[("version", &version), ("name", "")])
            .expect_page(422)
            .contains("name-error")
    );
    assert!(browser.submit_and_follow(&path("edit"), &edited).contains("Changes saved."));
    browser.submit(&path("edit"), &edited).expect_page(412);
    browser.submit(&path("delete"), &[("confirmation", "x")]).expect_page(422);
    assert!(browser.submit_and_follow(&path("delete"), &[("confirmation", "Users")]).contains("was deleted"));
    assert_eq!(code(&client, &made.token), "WRONG_API");
    assert_eq!(
        types(&events(&client, &id)),
        ["ApiRegistered", "ApiRenamed", "ApiScopesChanged", "ApiDeleted"]
    );
}

#[test]
fn an_applications_secret_is_shown_once() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let browser = Browser::sign_in(&client, server.root_token());
    let form = browser.get(&format!("/console/applications/new?organization_id={org}")).expect_page(200);
    let first = request(&form);
    assert!(form.contains(&format!("value=\"{org}\"")));
    let fields = [
        ("request", first.as_str()),
        ("name", "Billing"),
        ("organization_id", &org),
        ("permissions", "keys:read"),
        ("permissions", "keys:create"),
    ];
    let refused = browser.submit("/console/applications", &fields[..3]).expect_page(422);
    assert!(
        refused.contains("id=\"permissions-error\"") && refused.contains("value=\"Billing\""),
        "{refused}"
    );
    let elsewhere = [("name", "x"), ("organization_id", "nobody"), ("permissions", "keys:read")];
    let refused = browser.submit("/console/applications", &elsewhere).expect_page(422);
    assert!(refused.contains("id=\"organization_id-error\""), "{refused}");
    let page = browser.submit("/console/applications", &fields).expect_page(200);
    let id = between(&page, "id=\"beside\" value=\"", "\"").to_owned();
    let secret = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    let made = Application { id: id.clone(), secret: secret.clone() };
    token_request(&client.anonymous(), &made, &[]).expect(200);
    let list = browser.get("/console/applications").expect_page(200);
    assert!(list.contains(&id) && !list.contains(&secret) && list.contains("keys:create"));
    let other =
        browser.get(&format!("/console/applications?organization_id={}", organization(&client, "paid")));
    assert!(!other.expect_page(200).contains(&id), "of another organization");

    let path = |tail: &str| format!("/console/applications/{id}/{tail}");
    let form = browser.get(&path("edit")).expect_page(200);
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    assert!(form.contains("value=\"keys:read\" checked") && !form.contains("value=\"admin\" checked"));
    let edited = [("version", version.as_str()), ("name", "Billing"), ("permissions", "keys:read")];
    assert!(browser.submit_and_follow(&path("edit"), &edited).contains("Changes saved."));
    let second = request(&browser.get(&path("rotate")).expect_page(200));
    let page = browser.submit(&path("rotate"), &[("request", &second)]).expect_page(200);
    let rotated = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    assert_ne!(rotated, secret);
    token_request(&client.anonymous(), &made, &[]).expect(401);
    assert!(
        browser.submit(&path("rotate"), &[("request", &second)]).expect_page(200).contains("already shown")
    );
    browser.submit(&path("delete"), &[("confirmation", "")]).expect_page(422);
    assert!(
        browser.submit_and_follow(&path("delete"), &[("confirmation", "Billing")]).contains("was deleted")
    );
    assert_eq!(
        types(&events(&client, &id)),
        [
            "ApplicationCreated",
            "ApplicationPermissionsChanged",
            "ApplicationSecretRotated",
            "ApplicationDeleted"
        ]
    );
}

#[test]
fn a_root_key_is_created_and_revoked_by_forms() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let org = organization(&client, "paid");
    let request = request(&browser.get("/console/root-keys/new").expect_page(200));
    let none = [("request", request.as_str()), ("name", MARKUP)];
    assert!(
        browser.submit("/console/root-keys", &none).expect_page(422).contains("id=\"permissions-error\"")
    );
    let fields = [
        ("request", request.as_str()),
        ("name", MARKUP),
        ("organization_id", &org),
        ("permissions", "admin"),
    ];
    let page = browser.submit("/console/root-keys", &fields).expect_page(200);
    assert!(!page.contains("<script>alert"));
    let token = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    let theirs = Browser::sign_in(&client, &token);
    // The root key is bound to one organization: what it creates is bound too, and it sees no other
    // organization.
    let list = theirs.get("/console/root-keys").expect_page(200);
    assert!(list.contains("1 root key") && list.contains("(you)") && !list.contains(server.root_token()));
    let bound = theirs
        .submit("/console/root-keys", &[("request", "r1"), ("name", "Second"), ("permissions", "keys:read")]);
    bound.expect_page(200);
    let all = client.get(&format!("/v1/root-keys?organization_id={org}")).expect(200).json();
    assert_eq!(all["total"], 2);
    assert_eq!(all["data"][1]["organization_id"], json!(org));
    let id = text(&all["data"][0]["id"]);
    let list = browser.get("/console/root-keys").expect_page(200);
    assert!(!list.contains("<script>alert") && !list.contains(&token) && list.contains(&id));
    let path = format!("/console/root-keys/{id}/revoke");
    browser.submit(&path, &[("confirmation", "")]).expect_page(422);
    assert!(
        browser.submit_and_follow(&path, &[("confirmation", MARKUP)]).contains("was permanently revoked")
    );
    client.with_token(&token).get("/v1/keys").expect(401);
    assert!(theirs.get("/console/keys").location(303).starts_with("/console/sign-in"));
    assert_eq!(types(&events(&client, &id)), ["RootKeyCreated", "RootKeyRevoked"]);
}

#[test]
fn people_are_invited_by_a_link_that_is_shown_once() {
    let server = Server::start();
    let client = server.client();
    let browser = Browser::sign_in(&client, server.root_token());
    let org = organization(&client, "paid");
    let list = browser.get(&format!("/console/portal-links?organization_id={org}")).expect_page(200);
    assert!(list.contains("No links yet") && list.contains("Invite"));
    let form = browser.get(&format!("/console/portal-links/new?organization_id={org}")).expect_page(200);
    let request = request(&form);
    let fields = [
        ("request", request.as_str()),
        ("organization_id", &org),
        ("user_id", "ada"),
        ("role", "owner"),
        ("link_seconds", "600"),
        ("session_seconds", "3600"),
    ];
    let mut wrong = fields;
    (wrong[2].1, wrong[3].1) = ("", "member");
    assert!(
        browser.submit("/console/portal-links", &wrong).expect_page(422).contains("id=\"user_id-error\"")
    );
    let page = browser.submit("/console/portal-links", &fields).expect_page(200);
    let link = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    assert!(browser.submit("/console/portal-links", &fields).expect_page(200).contains("was already shown"));
    let list = browser.get("/console/portal-links").expect_page(200);
    assert!(list.contains("Link not used yet") && list.contains("ada") && !list.contains(&link));
    let (_, secret) = link.split_once("/portal#").expect("a link leads to the portal");
    let owner = Browser::with_cookie(&client, &follow(&client, secret).0);

    // An owner invites people to their own organization only.
    let theirs = owner.get("/console/portal-links").expect_page(200);
    assert!(theirs.contains("Signed in") && theirs.contains("ada"));
    let elsewhere = organization(&client, "paid");
    let forged =
        [("organization_id", elsewhere.as_str()), ("user_id", "eve"), ("role", "auditor"), ("request", "r9")];
    assert!(owner.submit("/console/portal-links", &forged).expect_page(200).contains("Link created"));
    let sessions = client.get("/v1/portal-sessions").expect(200).json();
    let eve = sessions["data"].as_array().unwrap().iter().find(|it| it["user_id"] == "eve").unwrap();
    assert_eq!(eve["organization_id"], json!(org), "bound to the inviter's own");
    let ada = sessions["data"].as_array().unwrap().iter().find(|it| it["user_id"] == "ada").unwrap();
    let (ada, eve) = (text(&ada["id"]), text(&eve["id"]));
    let page = owner.submit_and_follow(&format!("/console/portal-links/{eve}/end"), &[]);
    assert!(page.contains("The link was revoked."), "{page}");
    let page = browser.submit_and_follow(&format!("/console/portal-links/{ada}/end"), &[]);
    assert!(page.contains("The session was ended."), "{page}");
    assert!(owner.get("/console/keys").location(303).starts_with("/console/sign-in"));
    assert_eq!(
        types(&events(&client, &ada)),
        ["PortalSessionCreated", "PortalSessionStarted", "PortalSessionEnded"]
    );
}

#[test]
fn each_role_sees_and_does_what_the_table_says() {
    let server = Server::start();
    let client = server.client();
    let (org, other) = (organization(&client, "partner"), organization(&client, "paid"));
    let api = api(&client, &["read:users"]);
    let application = application(&client, &["keys:read"], Some(&org));
    let (root_key, _) = root_key(&client, &["keys:read"], None);
    let (link, _) = portal_link(&client, &other, "auditor", json!({ "user_id": "u9" }));
    let enter = |role: &str| {
        let (_, link) = portal_link(&client, &org, role, json!({ "user_id": "u1" }));
        Browser::with_cookie(&client, &follow(&client, &link).0)
    };
    let owner_pages = ["/console/portal-links", "/console/portal-links/new"];
    let operator_pages = ["/console/applications", "/console/root-keys"];
    for role in ["owner", "admin", "member", "auditor"] {
        let browser = enter(role);
        let keys = browser.get("/console/keys").expect_page(200);
        for (path, sees) in [
            ("/console/organizations", role != "member"),
            ("/console/portal-links", role == "owner"),
            ("/console/apis", true),
            ("/console/applications", false),
            ("/console/root-keys", false),
        ] {
            assert_eq!(keys.contains(&format!("href=\"{path}\"")), sees, "{role} {path}");
        }
        let page = browser.get("/console/apis").expect_page(200);
        assert!(page.contains("read:users") && !page.contains("Register API") && !page.contains("/edit"));
        if role == "member" {
            browser.get(&format!("/console/organizations/{org}")).expect_page(403);
        } else {
            assert_eq!(
                browser.get("/console/organizations").location(303),
                format!("/console/organizations/{org}")
            );
            let page = browser.get(&format!("/console/organizations/{org}")).expect_page(200);
            for forbidden in ["/edit", "/delete", "/policies/production", "/clients/new"] {
                assert!(!page.contains(&format!("{org}{forbidden}")), "{role} {forbidden}");
            }
            browser.get(&format!("/console/organizations/{other}")).expect_page(404);
            browser.get(&format!("/console/organizations/{org}/violations")).expect_page(200);
        }
        for path in owner_pages {
            let expected = if role == "owner" { 200 } else { 403 };
            browser.get(path).expect_page(expected);
        }
        for path in [
            "/console/organizations/new",
            "/console/apis/new",
            "/console/applications/new",
            "/console/root-keys/new",
            &format!("/console/organizations/{org}/delete"),
            &format!("/console/organizations/{org}/policies/preview"),
        ] {
            browser.get(path).expect_page(403);
        }
        for path in operator_pages {
            browser.get(path).expect_page(403);
        }
        // A forged form is checked like an API request.
        let refused = if role == "owner" { 404 } else { 403 };
        browser.submit(&format!("/console/portal-links/{link}/end"), &[]).expect_page(refused);
        let forged: [(String, &[(&str, &str)]); 11] = [
            ("/console/organizations".into(), &[("kind", "paid")]),
            (
                format!("/console/organizations/{org}/edit"),
                &[("name", "x"), ("kind", "paid"), ("version", "1")],
            ),
            (format!("/console/organizations/{org}/delete"), &[("confirmation", "A partner organization")]),
            (format!("/console/organizations/{org}/policies/production"), &[("version", "1")]),
            (format!("/console/organizations/{org}/policies/production/remove"), &[]),
            (format!("/console/organizations/{org}/clients"), &[("client_organization_id", &other)]),
            ("/console/apis".into(), &[("name", "x"), ("audience", "x")]),
            (format!("/console/apis/{api}/delete"), &[("confirmation", "Users")]),
            ("/console/applications".into(), &[("permissions", "keys:read")]),
            (format!("/console/applications/{}/rotate", application.id), &[]),
            (format!("/console/root-keys/{root_key}/revoke"), &[("confirmation", "A root key")]),
        ];
        for (path, fields) in forged {
            browser.submit(&path, fields).expect_page(403);
        }
    }
    let written = client.get("/v1/events?limit=200").expect(200).json();
    let by_people = written["data"].as_array().unwrap().iter().filter(|event| {
        event["actor"]["kind"] == "portal_session" && !text(&event["type"]).starts_with("PortalSession")
    });
    assert_eq!(by_people.count(), 0, "no portal session changed anything");
}

#[test]
fn a_webhook_is_managed_by_forms() {
    let server = Server::start_with(Options {
        arguments: arguments(&["--webhook-retries", "20ms"]),
        ..Options::default()
    });
    let client = server.client();
    let org = organization(&client, "paid");
    let receiver = Receiver::start();
    let url = receiver.url();
    let browser = Browser::sign_in(&client, server.root_token());
    assert!(browser.get("/console/webhooks").expect_page(200).contains("No webhooks yet"));
    let form = browser.get(&format!("/console/webhooks/new?organization_id={org}")).expect_page(200);
    let first = request(&form);
    let fields = [
        ("request", first.as_str()),
        ("url", &url),
        ("organization_id", &org),
        ("event_types", "KeyCreated"),
        ("event_types", "KeyRevoked"),
    ];
    let mut wrong = fields;
    wrong[1].1 = "ftp://\"><b>";
    let refused = browser.submit("/console/webhooks", &wrong).expect_page(422);
    assert!(refused.contains("id=\"url-error\"") && !refused.contains("\"><b>"), "{refused}");
    assert!(refused.contains("value=\"KeyRevoked\" checked"));
    let page = browser.submit("/console/webhooks", &fields).expect_page(200);
    let secret = between(&page, "id=\"token\" value=\"", "\"").to_owned();
    assert!(browser.submit("/console/webhooks", &fields).expect_page(200).contains("was already shown"));
    let id = text(&client.get("/v1/webhooks").expect(200).json()["data"][0]["id"]);
    let path = |tail: &str| format!("/console/webhooks/{id}{tail}");
    let list = browser.get("/console/webhooks").expect_page(200);
    assert!(list.contains(&id) && list.contains("KeyRevoked") && !list.contains(&secret));

    let page = browser.submit_and_follow(&path("/test"), &[]);
    assert!(page.contains("The test message was delivered."), "{page}");
    assert!(receiver.wait_for(1, |it| it.message_type() == "WebhookTest")[0].is_signed_with(&secret));
    receiver.answer_with(|_| 500.into());
    assert!(browser.submit_and_follow(&path("/test"), &[]).contains("was not delivered"));

    // A failed delivery can be redelivered.
    let made = key(&client, &org, json!({}));
    let page = poll::until("a dead letter", Duration::from_secs(20), || {
        let page = browser.get(&path("")).expect_page(200);
        page.contains("/dead-letters/").then_some(page)
    });
    assert!(page.contains("KeyCreated") && page.contains(&made.position.to_string()));
    receiver.answer_with(|_| 204.into());
    let letter = between(&page, "/dead-letters/", "/redeliver").to_owned();
    let page = browser.submit_and_follow(&path(&format!("/dead-letters/{letter}/redeliver")), &[]);
    assert!(page.contains("is being redelivered"));
    let _ = receiver.wait_for(2, |it| it.key_id() == made.id);
    let refused = browser.submit(&path("/redeliver"), &[("after", "soon")]).expect_page(422);
    assert!(refused.contains("id=\"after-error\""));
    let page = browser.submit_and_follow(&path("/redeliver"), &[("after", "0")]);
    assert!(page.contains("are being redelivered"));
    let _ = receiver.wait_for(3, |it| it.key_id() == made.id);

    let form = browser.get(&path("/edit")).expect_page(200);
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    assert!(form.contains("value=\"KeyCreated\" checked") && !form.contains("value=\"KeyDeleted\" checked"));
    let edited = [("version", version.as_str()), ("url", &url), ("event_types", "KeyDeleted")];
    assert!(browser.submit_and_follow(&path("/edit"), &edited).contains("Changes saved."));
    assert!(
        browser
            .submit_and_follow(&path("/enabled"), &[("enabled", "false")])
            .contains("The webhook is disabled.")
    );
    assert!(
        browser
            .submit_and_follow(&path("/enabled"), &[("enabled", "true")])
            .contains("The webhook is enabled.")
    );
    let second = request(&browser.get(&path("/rotate")).expect_page(200));
    let rotated = browser.submit(&path("/rotate"), &[("request", &second), ("overlap_seconds", "3600")]);
    let rotated = rotated.expect_page(200);
    assert!(rotated.contains("keeps signing until") && !rotated.contains(&secret));

    // An auditor sees the webhook but cannot change it. A member and another organization's owner do not see
    // it.
    let enter = |org: &str, role: &str| {
        let (_, link) = portal_link(&client, org, role, json!({ "user_id": "u1" }));
        Browser::with_cookie(&client, &follow(&client, &link).0)
    };
    let auditor = enter(&org, "auditor");
    let page = auditor.get(&path("")).expect_page(200);
    assert!(page.contains(&id) && !page.contains("Send test") && !page.contains("/delete"));
    enter(&org, "member").get("/console/webhooks").expect_page(403);
    let stranger = enter(&organization(&client, "paid"), "owner");
    stranger.get(&path("")).expect_page(404);
    for (tail, fields) in [
        ("/test", vec![]),
        ("/enabled", vec![("enabled", "false")]),
        ("/rotate", vec![]),
        ("/redeliver", vec![("after", "0")]),
        ("/delete", vec![]),
    ] {
        auditor.submit(&path(tail), &fields).expect_page(if tail == "/delete" { 422 } else { 403 });
        stranger.submit(&path(tail), &fields).expect_page(404);
    }
    let end = &id[id.len() - 6..];
    auditor.submit(&path("/delete"), &[("confirmation", end)]).expect_page(403);
    browser.submit(&path("/delete"), &[("confirmation", "x")]).expect_page(422);
    assert!(
        browser
            .submit_and_follow(&path("/delete"), &[("confirmation", end)])
            .contains("The webhook was deleted.")
    );
    assert_eq!(
        types(&events(&client, &id)),
        [
            "WebhookRegistered",
            "WebhookEventTypesChanged",
            "WebhookDisabled",
            "WebhookEnabled",
            "WebhookSecretRotated",
            "WebhookDeleted"
        ]
    );
}

/// The console offers nobody what the service would refuse.
#[test]
fn visitors_are_offered_what_they_may_hand_on() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    client
        .put(&format!("/v1/organizations/{org}/policies/production"), &json!({ "name_required": true }))
        .expect(200);
    let great = application(&client, &["admin"], Some(&org));
    let small = application(&client, &["keys:read"], Some(&org));
    let own = ["organizations:read", "organizations:write", "applications:write", "keys:read"];
    let more = ["apis:read", "events:read", "portal:write"];
    let browser =
        |permissions: &[&str]| Browser::sign_in(&client, &root_key(&client, permissions, Some(&org)).1);
    let lesser = browser(&[&own[..], &more].concat());

    // The organization's kind, policies and deletion are the operator's.
    let page = lesser.get(&format!("/console/organizations/{org}")).expect_page(200);
    assert!(page.contains("Keys must have a name.") && page.contains("/edit\""));
    assert!(!page.contains("/delete\"") && !page.contains("/policies/"), "{page}");
    let form = lesser.get(&format!("/console/organizations/{org}/edit")).expect_page(200);
    assert!(form.contains("name=\"name\"") && !form.contains("name=\"kind\""), "{form}");
    let version = between(&form, "name=\"version\" value=\"", "\"").to_owned();
    let edited = [("version", version.as_str()), ("name", "Renamed"), ("kind", "partner")];
    let page = lesser.submit_and_follow(&format!("/console/organizations/{org}/edit"), &edited);
    assert!(
        page.contains("Changes saved.") && page.contains("Renamed") && page.contains("Paid organization")
    );
    for tail in ["/delete", "/policies/production", "/policies/production/remove"] {
        lesser.get(&format!("/console/organizations/{org}{tail}")).expect_page(403);
    }
    // An application with more rights than theirs is shown, and that is all.
    let page = lesser.get("/console/applications").expect_page(200);
    for tail in ["edit", "rotate", "delete"] {
        assert!(page.contains(&format!("{}/{tail}", small.id)), "{tail}");
        assert!(page.contains(&great.id) && !page.contains(&format!("{}/{tail}", great.id)), "{tail}");
    }
    lesser.submit(&format!("/console/applications/{}/rotate", great.id), &[]).expect_page(403);
    // They invite auditors, who may do no more than they, for ten minutes unless they choose another time.
    let form = lesser.get("/console/portal-links/new").expect_page(200);
    assert!(form.contains("value=\"auditor\"") && !form.contains("value=\"owner\""), "{form}");
    assert!(form.contains("value=\"600\" checked"), "{form}");
    let owner = [("role", "owner"), ("link_seconds", "600"), ("session_seconds", "3600")];
    lesser.submit("/console/portal-links", &owner).expect_page(403);
    let unable = browser(&["portal:write", "keys:read"]);
    let page = unable.get("/console/portal-links").expect_page(200);
    assert!(!page.contains("/console/portal-links/new"), "{page}");

    // An owner is told that what they create ends with their session.
    let (_, link) = portal_link(&client, &org, "owner", json!({}));
    let owner = Browser::with_cookie(&client, &follow(&client, &link).0);
    let form = owner.get("/console/portal-links/new").expect_page(200);
    assert!(form.contains("when you sign out"), "{form}");
}
