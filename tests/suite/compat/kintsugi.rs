//! Kintsugi's endpoints, called as its clients do: `x-api-key`, `x-organization-id`, camelCase, FastAPI's
//! errors.

use keyledger_tests::client::http::{Client, Response};
use keyledger_tests::data::fixture::{self, organization, text};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

const KEYS: &str = "/v2/partner/api_keys";
const OWN_KEYS: &str = "/v1/organizations/api_keys";

fn start() -> Server {
    Server::start_with(Options {
        arguments: vec!["--compat".into(), "kintsugi".into()],
        ..Options::default()
    })
}

/// A caller by the headers that the original requires.
struct Caller {
    client: Client,
    api_key: String,
    organization: String,
}

impl Caller {
    fn new(server: &Server, permissions: &[&str], organization: &str) -> Self {
        let (_, api_key) = fixture::root_key(&server.client(), permissions, Some(organization));
        Self { client: server.anonymous(), api_key, organization: organization.to_owned() }
    }

    /// A caller with the permissions of owners and admins.
    fn admin(server: &Server, organization: &str) -> Self {
        let permissions = ["keys:create", "keys:read", "keys:delete", "organizations:read"];
        Self::new(server, &permissions, organization)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let mut request = self.client.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let request = request.header("x-api-key", &self.api_key);
        request.header("x-organization-id", &self.organization).send()
    }

    #[track_caller]
    fn create(&self, path: &str, body: Value) -> (String, String) {
        let answer = self.send("POST", path, Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer = answer.json();
        (text(&answer["apiKeyId"]), text(&answer["apiKeyToken"]))
    }

    #[track_caller]
    fn refused(&self, path: &str, body: Value, status: u16) -> Value {
        let answer = self.send("POST", path, Some(&body));
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()["detail"].clone()
    }
}

#[track_caller]
fn code(client: &Client, token: &str, organization: &str) -> String {
    let question = json!({ "token": token, "organization_id": organization });
    text(&client.post("/v1/keys/verify", &question).expect(200).json()["code"])
}

fn link(client: &Client, partner: &str, organization: &str) {
    client.put(&format!("/v1/organizations/{partner}/clients/{organization}"), &json!({})).expect(200);
}

#[test]
fn a_partner_manages_keys_of_its_clients() {
    let server = start();
    let api = server.client();
    let [partner, client, outsider] = ["partner", "paid", "paid"].map(|kind| organization(&api, kind));
    link(&api, &partner, &client);
    let caller = Caller::admin(&server, &partner);
    let (wide_id, wide) = caller.create(KEYS, json!({}));
    let made = json!({ "clientOrganizationId": client, "expiresAtSeconds": 4_102_444_800_i64 });
    let (client_id, for_client) = caller.create(KEYS, made);
    assert_eq!(code(&api, &wide, &client), "VALID");
    assert_eq!(code(&api, &wide, &partner), "VALID");
    assert_eq!(code(&api, &wide, &outsider), "WRONG_ORGANIZATION");
    assert_eq!(code(&api, &for_client, &client), "VALID");
    assert_eq!(code(&api, &for_client, &partner), "WRONG_ORGANIZATION");

    let detail = caller.refused(KEYS, json!({ "clientOrganizationId": outsider }), 403);
    assert!(text(&detail).contains("portfolio"), "{detail}");

    let page = caller.send("GET", &format!("{KEYS}?pageSize=1"), None).json();
    let rest = caller.send("GET", &format!("{KEYS}?pageNumber=1&pageSize=1"), None).json();
    for (page, number, more, id, client_of) in
        [(&page, 0, true, &client_id, json!(client)), (&rest, 1, false, &wide_id, Value::Null)]
    {
        assert_eq!(page["totalApiKeys"], 2);
        assert_eq!((&page["currentPage"], &page["pageSize"]), (&json!(number), &json!(1)));
        assert_eq!(page["hasMoreResults"], more);
        let [key] = page["apiKeys"].as_array().unwrap().as_slice() else { panic!("{page}") };
        assert_eq!((&key["apiKeyId"], &key["orgId"]), (&json!(id), &json!(partner)));
        assert_eq!(key["clientOrganizationId"], client_of);
        assert!(key["createdAt"].as_i64().unwrap() > 1_700_000_000);
        for absent in ["metadata", "userId", "displayName"] {
            assert_eq!(key[absent], Value::Null);
        }
    }
    assert_eq!(page["apiKeys"][0]["expiresAtSeconds"], 4_102_444_800_i64);
    assert_eq!(rest["apiKeys"][0]["expiresAtSeconds"], Value::Null);

    // Leaving the portfolio stops the client's key at once, and the partner's key for that client.
    api.delete(&format!("/v1/organizations/{partner}/clients/{client}")).expect(204);
    assert_ne!(code(&api, &for_client, &client), "VALID");
    assert_eq!(code(&api, &wide, &client), "WRONG_ORGANIZATION");

    assert_eq!(caller.send("DELETE", &format!("{KEYS}/{wide_id}"), None).json(), json!({}));
    assert_eq!(code(&api, &wide, &partner), "NOT_FOUND");
    assert_eq!(caller.send("DELETE", &format!("{KEYS}/{wide_id}"), None).status, 410);
}

#[test]
fn an_organization_creates_its_own_keys_unless_it_is_free() {
    let server = start();
    let api = server.client();
    let [paid, free] = ["paid", "free"].map(|kind| organization(&api, kind));
    let caller = Caller::admin(&server, &paid);
    let body = json!({ "expires_at_seconds": 4_102_444_800_i64, "metadata": { "team": "tax" } });
    let (id, token) = caller.create(OWN_KEYS, body);
    assert_eq!(code(&api, &token, &paid), "VALID");
    let key = api.get(&format!("/v1/keys/{id}")).expect(200).json();
    assert_eq!((&key["owner"], &key["metadata"]["team"]), (&json!("organization"), &json!("tax")));
    assert_eq!(key["expires_at"], "2100-01-01T00:00:00.000Z");
    // The key does not belong to a portfolio.
    assert_eq!(caller.send("DELETE", &format!("{KEYS}/{id}"), None).status, 404);
    let detail = caller.refused(KEYS, json!({}), 403);
    assert!(text(&detail).contains("partner"), "{detail}");

    let detail = Caller::admin(&server, &free).refused(OWN_KEYS, json!({}), 403);
    assert!(text(&detail).contains("free"), "{detail}");
}

#[test]
fn errors_have_the_form_of_fastapi() {
    let server = start();
    let api = server.client();
    let partner = organization(&api, "partner");
    let caller = Caller::admin(&server, &partner);
    let detail = caller.refused(KEYS, json!({ "expiresAtSeconds": 1 }), 422);
    assert_eq!(detail[0]["loc"], json!(["body", "expiresAtSeconds"]));
    assert_eq!(detail[0]["type"], "value_error");
    let detail = caller.refused(KEYS, json!({ "expiresAtSeconds": "soon", "clientOrganizationId": 7 }), 422);
    let places: Vec<_> = detail.as_array().unwrap().iter().map(|it| it["loc"].clone()).collect();
    assert_eq!(places, [json!(["body", "clientOrganizationId"]), json!(["body", "expiresAtSeconds"])]);
    assert_eq!(caller.send("GET", &format!("{KEYS}?pageSize=0&pageNumber=x"), None).status, 422);

    let broken = caller.client.request("POST", KEYS).body("application/json", b"{");
    let broken = broken.header("x-api-key", &caller.api_key).header("x-organization-id", &partner).send();
    assert_eq!((broken.status, &broken.json()["detail"][0]["type"]), (422, &json!("json_invalid")));
    let twice = json!({ "expiresAtSeconds": 4_000_000_000_u64, "expires_at_seconds": 4_000_000_000_u64 });
    let detail = caller.refused(KEYS, twice, 422);
    assert_eq!(
        detail,
        json!([{ "loc": ["body", "expiresAtSeconds"], "type": "value_error",
            "msg": "appears more than once, in several spellings; send one" }])
    );
    let detail = caller.refused(KEYS, json!([]), 422);
    assert_eq!(
        (&detail[0]["loc"], text(&detail[0]["msg"])),
        (&json!(["body"]), "must be a JSON object".into())
    );
    let nowhere = caller.client.get(KEYS).header("x-api-key", &caller.api_key).send();
    assert_eq!(nowhere.status, 422);
    assert_eq!(
        nowhere.json()["detail"][0],
        json!({ "loc": ["header", "x-organization-id"], "msg": "Field required", "type": "missing" })
    );
    let anonymous = caller.client.get(KEYS).header("x-organization-id", &partner).send();
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.json()["detail"].is_string() && anonymous.header("www-authenticate").is_some());
}

#[test]
fn only_callers_that_manage_all_keys_of_the_organization_are_allowed() {
    let server = start();
    let api = server.client();
    let [partner, other] = ["partner", "partner"].map(|kind| organization(&api, kind));
    let admin = Caller::admin(&server, &partner);
    let (id, _) = admin.create(KEYS, json!({}));
    let calls = [("POST", KEYS.to_owned()), ("GET", KEYS.to_owned()), ("DELETE", format!("{KEYS}/{id}"))];
    let member = ["keys:create", "keys:read", "keys:update", "keys:revoke", "keys:delete", "apis:read"];
    let auditor = ["keys:read", "organizations:read", "apis:read", "events:read"];
    for permissions in [member.as_slice(), &auditor] {
        let caller = Caller::new(&server, permissions, &partner);
        for (method, path) in &calls {
            let answer = caller.send(method, path, (*method == "POST").then_some(&json!({})));
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
        }
    }
    let stranger = Caller { organization: partner.clone(), ..Caller::admin(&server, &other) };
    for (method, path) in &calls {
        let answer = stranger.send(method, path, (*method == "POST").then_some(&json!({})));
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
    assert_eq!(admin.send("DELETE", &format!("{KEYS}/{id}"), None).status, 200);
}

#[test]
fn only_owners_and_admins_of_an_organization_are_allowed() {
    let server = start();
    let api = server.client();
    let partner = organization(&api, "partner");
    for (role, may) in [("owner", true), ("admin", true), ("member", false), ("auditor", false)] {
        let (id, _) = Caller::admin(&server, &partner).create(KEYS, json!({}));
        let person = fixture::signed_in(&api, &partner, role);
        let created = person.post(KEYS, &json!({})).header("x-organization-id", &partner).send();
        let own = person.post(OWN_KEYS, &json!({})).header("x-organization-id", &partner).send();
        let listed = person.get(KEYS).header("x-organization-id", &partner).send();
        let deleted = person.delete(&format!("{KEYS}/{id}")).header("x-organization-id", &partner).send();
        let found = [created.status, own.status, listed.status, deleted.status];
        assert_eq!(found, if may { [201, 201, 200, 200] } else { [403; 4] }, "{role}");
    }
}

#[test]
fn without_the_option_the_endpoints_do_not_exist() {
    let server = Server::start();
    assert_eq!(server.client().post(KEYS, &json!({})).send().status, 404);
    // The path matches that of an organization.
    assert_eq!(server.client().post(OWN_KEYS, &json!({})).send().status, 405);
    let document = start().client().get("/openapi.json").expect(200).json();
    assert!(document["paths"].get(KEYS).is_none(), "they are described in docs/compat-kintsugi.md");
}
