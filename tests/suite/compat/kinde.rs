//! Kinde's endpoints, called over TLS by Kinde's own published client, `@kinde/management-api-js`
//! (tests/node/kinde.mjs).

use std::net::IpAddr;

use keyledger_tests::data::fixture::text;
use keyledger_tests::processes::node;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::processes::tls::{Pair, curl};
use serde_json::{Value, json};

/// A server with TLS. Keyledger's own endpoints are called with curl.
struct Kinde {
    server: Server,
    pair: Pair,
    _directory: tempfile::TempDir,
}

impl Kinde {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pair = Pair::make(directory.path(), "kinde");
        let mut arguments = pair.arguments();
        arguments.extend(["--compat".into(), "kinde".into()]);
        let trusted = Some(pair.certificate.clone());
        let server = Server::start_with(Options { arguments, trusted, ..Options::default() });
        Self { server, pair, _directory: directory }
    }

    fn domain(&self) -> String {
        format!("https://{}", self.server.client().address())
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call(&["-d", &body.to_string()], path)
    }

    fn call(&self, arguments: &[&str], path: &str) -> Value {
        let credential = format!("authorization: Bearer {}", self.server.root_token());
        let url = self.domain() + path;
        let always = ["--fail-with-body", "-H", &credential, "-H", "content-type: application/json", &url];
        let output = curl(&self.pair.certificate, &[arguments, &always].concat());
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn application(&self, permissions: &[&str]) -> Value {
        let made = self.post("/v1/applications", &json!({ "name": "SDK", "permissions": permissions }));
        self.server.transcript().issue(made["client_secret"].as_str().unwrap());
        json!({ "client_id": made["client_id"], "client_secret": made["client_secret"] })
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["api_keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
}

#[track_caller]
fn refused(step: &Value, status: u16, code: &str) {
    assert_eq!(step["status"], status, "{step}");
    let errors = &step["body"]["errors"];
    // An object where nothing is found, an array everywhere else.
    let error = if status == 404 { errors } else { &errors[0] };
    assert_eq!(error["code"], code, "{step}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{step}");
}

/// APIs and scopes.
fn check_apis(steps: &Value) {
    let step = |name: &str| &steps[name];
    let api = text(&step("add_api")["api"]["id"]);
    let scope = |name: &str| json!({ "id": name, "key": name });
    assert_eq!(step("scopes")["scopes"], json!([scope("read:orders"), scope("write:orders")]));
    assert_eq!(step("scope")["scope"], scope("read:orders"));
    refused(step("add_scope_again"), 400, "INVALID_REQUEST");
    let listed = &step("apis")["apis"];
    assert_eq!((&listed[0]["id"], &listed[0]["is_management_api"]), (&json!(api), &json!(false)));
    assert_eq!(listed[0]["scopes"], step("scopes")["scopes"]);
    assert_eq!(step("apis_without_scopes")["apis"][0].get("scopes"), None);
    assert_eq!(step("api")["api"]["audience"], "https://orders.example");
}

/// New keys.
fn check_created_keys(steps: &Value, client_id: &str) {
    let step = |name: &str| &steps[name];
    let api = text(&step("add_api")["api"]["id"]);
    let created = step("create_for_organization");
    assert_eq!(
        (&created["code"], &created["message"]),
        (&json!("API_KEY_CREATED"), &json!("API key created"))
    );
    let (id, token) = (text(&created["api_key"]["id"]), text(&created["api_key"]["key"]));
    let before = step("get_before");
    assert_eq!((&before["code"], &before["message"]), (&json!("OK"), &json!("Success")));
    let key = &before["api_key"];
    for (name, expected) in [
        ("id", json!(id)),
        ("name", json!("Billing")),
        ("type", json!("organization")),
        ("status", json!("active")),
        ("key_prefix", json!(token[..6])),
        ("key_suffix", json!(token[token.len() - 4..])),
        ("last_verified_on", Value::Null),
        ("last_verified_ip", Value::Null),
        ("created_by", json!(client_id)),
        ("api_ids", json!([api])),
        ("scopes", json!(["read:orders"])),
        ("verification_count", json!(0)),
        ("organization_id", json!("acme")),
        ("user_id", Value::Null),
    ] {
        assert_eq!(key[name], expected, "{name}");
    }
    assert!(key["created_on"].is_string());
}

/// Verification, which is counted.
fn check_verifications(steps: &Value) {
    let step = |name: &str| &steps[name];
    let id = text(&step("create_for_organization")["api_key"]["id"]);
    let verified = step("verify_again");
    for (name, expected) in [
        ("code", json!("API_KEY_VERIFIED")),
        ("message", json!("API key verified")),
        ("is_valid", json!(true)),
        ("key_id", json!(id)),
        ("status", json!("active")),
        ("scopes", json!(["read:orders"])),
        ("org_code", json!("acme")),
        ("user_id", Value::Null),
        ("verification_count", json!(2)),
    ] {
        assert_eq!(verified[name], expected, "{name}");
    }
    assert_eq!(step("verify")["verification_count"], 1);
    assert_eq!(step("verify_user")["user_id"], "kp_1");
    let after = &step("get_after")["api_key"];
    assert_eq!(
        (&after["verification_count"], &after["last_verified_on"]),
        (&json!(2), &verified["last_verified_on"])
    );
    after["last_verified_ip"].as_str().unwrap().parse::<IpAddr>().unwrap();
}

/// Lists, newest key first.
fn check_lists(steps: &Value) {
    let step = |name: &str| &steps[name];
    assert_eq!(names(step("list")), ["Elsewhere", "Script", "Laptop", "Billing"]);
    assert_eq!(step("list")["has_more"], false);
    let mut shown = step("get_after")["api_key"].clone();
    for more in ["verification_count", "organization_id", "user_id"] {
        shown.as_object_mut().unwrap().remove(more).unwrap();
    }
    assert_eq!(step("list")["api_keys"][3], shown, "with its last verification");
    assert_eq!(names(step("list_of_organization")), ["Script", "Laptop", "Billing"]);
    assert_eq!(names(step("list_organization_keys")), ["Elsewhere", "Billing"]);
    assert_eq!(names(step("list_user_keys")), ["Script", "Laptop"]);
    assert_eq!(names(step("list_of_user")), ["Script"]);
    assert_eq!(step("list_of_user")["api_keys"][0]["type"], "user");
    for name in ["list_revoked", "list_inactive"] {
        assert_eq!(step(name)["api_keys"], json!([]), "{name}");
    }
    refused(step("list_bad_page"), 400, "INVALID_REQUEST");
    refused(step("list_bad_start"), 400, "INVALID_REQUEST");
    let pages = step("pages").as_array().unwrap();
    assert_eq!(pages.iter().map(|page| names(page).len()).collect::<Vec<_>>(), [3, 3, 2]);
    let walked: Vec<&str> = pages.iter().flat_map(names).collect();
    assert_eq!(walked, ["Page 4", "Page 3", "Page 2", "Page 1", "Page 0", "Script", "Laptop", "Billing"]);
}

/// Rotation: the same key, and the old token stops. Deletion.
fn check_rotation_and_deletion(steps: &Value) {
    let step = |name: &str| &steps[name];
    let created = &step("create_for_organization")["api_key"];
    let (id, token) = (text(&created["id"]), text(&created["key"]));
    let rotated = step("rotate");
    assert_eq!((&rotated["code"], &rotated["api_key"]["id"]), (&json!("API_KEY_ROTATED"), &json!(id)));
    let new = text(&rotated["api_key"]["key"]);
    assert_ne!(new, token);
    assert_eq!((&step("verify_old")["is_valid"], step("verify_old").get("key_id")), (&json!(false), None));
    assert_eq!(
        (&step("verify_new")["is_valid"], &step("verify_new")["verification_count"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(step("get_rotated")["api_key"]["key_suffix"], new[new.len() - 4..]);

    assert_eq!(step("delete"), &json!({ "code": "OK", "message": "Success" }));
    assert_eq!(
        (&step("verify_deleted")["is_valid"], &step("verify_deleted")["code"]),
        (&json!(false), &json!("API_KEY_INVALID"))
    );
    for name in ["get_deleted", "rotate_deleted", "delete_deleted", "get_unknown"] {
        refused(step(name), 404, "KEY_NOT_FOUND");
    }
    assert_eq!(names(step("list_after")), ["Page 4"]);
    assert_eq!(step("list_after")["has_more"], true);
}

/// Refused requests.
fn check_refusals(steps: &Value) {
    let step = |name: &str| &steps[name];
    let scope = |name: &str| json!({ "id": name, "key": name });
    let nothing = step("create_nothing");
    refused(nothing, 400, "INVALID_REQUEST");
    let messages: Vec<&str> = nothing["body"]["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["message"].as_str().unwrap())
        .collect();
    for field in ["name", "api_id", "org_code"] {
        assert!(messages.iter().any(|message| message.starts_with(field)), "{field}: {messages:?}");
    }
    for (name, field) in [
        ("create_unknown", "org_code"),
        ("create_unknown_scope", "scope_ids/0"),
        ("create_environment", "type"),
        ("verify_nothing", "api_key"),
    ] {
        refused(step(name), 400, "INVALID_REQUEST");
        let message = step(name)["body"]["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with(field), "{name}: {message}");
    }
    refused(step("create_free"), 403, "ORGANIZATION_KIND_NOT_ALLOWED");
    assert_eq!(
        step("verify_garbage"),
        &json!({ "code": "API_KEY_INVALID", "message": "API key is not valid", "is_valid": false })
    );
    refused(step("no_such_call"), 404, "ROUTE_NOT_FOUND");
    assert_eq!(step("scopes_after")["scopes"], json!([scope("read:orders")]));
    refused(step("api_after"), 404, "API_NOT_FOUND");
}

/// Callers with fewer permissions, or none.
fn check_other_callers(steps: &Value) {
    let step = |name: &str| &steps[name];
    assert!(names(step("reader_list")).contains(&"Laptop"));
    refused(step("reader_delete"), 403, "FORBIDDEN");
    refused(step("reader_verify"), 403, "FORBIDDEN");
    for name in ["stranger_list", "stranger_delete"] {
        refused(step(name), 403, "INVALID_CREDENTIALS");
    }
    refused(step("stranger_verify"), 401, "INVALID_CREDENTIALS");
}

#[test]
fn the_published_client_works_unmodified() {
    let kinde = Kinde::start();
    for (id, kind) in [("acme", "paid"), ("other", "test"), ("free", "free")] {
        kinde.post("/v1/organizations", &json!({ "id": id, "kind": kind, "name": id }));
    }
    let all =
        ["keys:create", "keys:read", "keys:revoke", "keys:delete", "keys:verify", "apis:read", "apis:write"];
    let mut input = kinde.application(&all);
    input["reader"] = kinde.application(&["keys:read"]);
    input["domain"] = kinde.domain().into();
    input["org"] = "acme".into();
    input["other_org"] = "other".into();
    input["free_org"] = "free".into();
    let steps = node::run_trusting(Some(&kinde.pair.certificate), "kinde.mjs", &input);
    let step = |name: &str| &steps[name];
    for name in
        ["create_for_organization", "create_for_user", "create_without_type", "create_elsewhere", "rotate"]
    {
        kinde.server.transcript().issue(step(name)["api_key"]["key"].as_str().unwrap());
    }
    assert_eq!(step("token_is_good"), true, "the client library verifies the token itself");

    check_apis(&steps);
    check_created_keys(&steps, input["client_id"].as_str().unwrap());
    check_verifications(&steps);
    check_lists(&steps);
    check_rotation_and_deletion(&steps);
    check_refusals(&steps);
    check_other_callers(&steps);

    // Keyledger's own endpoints see the same keys and the actor of each change.
    let id = text(&step("create_for_organization")["api_key"]["id"]);
    let events = kinde.call(&[], &format!("/v1/keys/{id}/events"));
    let events: Vec<(&str, &str)> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["actor"]["id"].as_str().unwrap()))
        .collect();
    let application = input["client_id"].as_str().unwrap();
    assert_eq!(events, ["KeyCreated", "KeyRotated", "KeyDeleted"].map(|event| (event, application)));
}

#[test]
fn a_key_stopped_through_keyledger_is_stopped_for_kinde() {
    let server = Server::start_with(Options {
        arguments: vec!["--compat".into(), "kinde".into()],
        ..Options::default()
    });
    let client = server.client();
    let acme = keyledger_tests::data::fixture::organization(&client, "paid");
    let api = keyledger_tests::data::fixture::api(&client, &["read:orders"]);
    let body = json!({ "name": "Billing", "api_id": api, "org_code": acme });
    let created = client.post("/api/v1/api_keys", &body).expect(201).json();
    let (id, token) = (text(&created["api_key"]["id"]), text(&created["api_key"]["key"]));
    let shown = |client: &keyledger_tests::client::http::Client| {
        let verified =
            client.post("/api/v1/api_keys/verify", &json!({ "api_key": token })).expect(200).json();
        let listed = client.get(&format!("/api/v1/api_keys/{id}")).expect(200).json();
        assert_eq!(verified["status"], listed["api_key"]["status"]);
        (verified["is_valid"].as_bool().unwrap(), text(&verified["status"]))
    };
    assert_eq!(shown(&client), (true, "active".into()));
    client.post(&format!("/v1/keys/{id}/revoke"), &json!({})).expect(200);
    assert_eq!(shown(&client), (false, "revoked".into()));
    let revoked = client.get("/api/v1/api_keys?status=revoked").expect(200).json();
    assert_eq!(names(&revoked), ["Billing"]);
    let refused = client.request("PUT", &format!("/api/v1/api_keys/{id}")).expect(400).json();
    assert_eq!(refused["errors"][0]["code"], "KEY_REVOKED");
    client.post(&format!("/v1/keys/{id}/reactivate"), &json!({})).expect(200);
    assert_eq!(shown(&client), (true, "active".into()));

    // A repeated request creates no second key and shows no token.
    let repeat =
        || client.post("/api/v1/api_keys", &body).header("idempotency-key", "once").expect(201).json();
    let (first, second) = (repeat(), repeat());
    assert_eq!(first["api_key"]["id"], second["api_key"]["id"]);
    assert_eq!(second["api_key"].get("key"), None);

    // A caller bound to another organization sees nothing of it.
    let other = keyledger_tests::data::fixture::organization(&client, "paid");
    let (_, bound) = keyledger_tests::data::fixture::root_key(&client, &["admin"], Some(&other));
    let bound = client.with_token(&bound);
    assert_eq!(names(&bound.get("/api/v1/api_keys").expect(200).json()), Vec::<&str>::new());
    bound.get(&format!("/api/v1/api_keys/{id}")).expect(404);
    bound.delete(&format!("/api/v1/api_keys/{id}")).expect(404);
    bound.request("PUT", &format!("/api/v1/api_keys/{id}")).expect(404);
    bound.get(&format!("/api/v1/api_keys?org_code={acme}")).expect(404);
    bound.get(&format!("/api/v1/api_keys?starting_after={id}")).expect(400);
    let verified = bound.post("/api/v1/api_keys/verify", &json!({ "api_key": token })).expect(200).json();
    assert_eq!(verified["is_valid"], false);
    assert_eq!(verified.get("key_id"), None);
    assert_eq!(
        bound.post("/api/v1/api_keys", &body).expect(400).json()["errors"][0]["code"],
        "INVALID_REQUEST"
    );
    // Without a code, keys belong to the caller's own organization.
    let own = json!({ "name": "Own", "api_id": api });
    let made = bound.post("/api/v1/api_keys", &own).expect(201).json();
    let made =
        client.get(&format!("/v1/keys/{}", made["api_key"]["id"].as_str().unwrap())).expect(200).json();
    assert_eq!(made["organization_id"], other.as_str());
}

#[test]
fn without_the_option_the_endpoints_do_not_exist() {
    let server = Server::start();
    let client = server.client();
    for path in ["/api/v1/api_keys", "/api/v1/apis", "/api/v1/anything"] {
        assert_eq!(client.get(path).expect(404).code(), "not_found");
    }
}
