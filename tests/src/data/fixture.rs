//! Organizations, APIs, keys and sessions for tests, created through the HTTP interface.

use serde_json::{Value, json};

use crate::client::http::{Client, Request, Response};

/// An issued key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The key's id.
    pub id: String,
    /// Its token.
    pub token: String,
    /// The key object of the answer.
    pub key: Value,
    /// The position of its `KeyCreated` event.
    pub position: u64,
}

impl Issued {
    /// The path of the key, with `tail` after it.
    #[must_use]
    pub fn path(&self, tail: &str) -> String {
        format!("/v1/keys/{}{tail}", self.id)
    }
}

/// Creates an organization of this kind and returns its id.
#[track_caller]
#[must_use]
pub fn organization(client: &Client, kind: &str) -> String {
    let body = json!({ "name": format!("A {kind} organization"), "kind": kind });
    text(&client.post("/v1/organizations", &body).expect(201).json()["id"])
}

/// Registers an API with scopes and returns its id.
#[track_caller]
#[must_use]
pub fn api(client: &Client, scopes: &[&str]) -> String {
    let body = json!({ "name": "Users", "audience": "https://users.example", "scopes": scopes });
    text(&client.post("/v1/apis", &body).expect(201).json()["id"])
}

/// Issues a production key for an organization. `more` adds members to the request.
#[track_caller]
#[must_use]
pub fn key(client: &Client, organization: &str, more: Value) -> Issued {
    issued(&client.post("/v1/keys", &key_body(organization, more)).expect(201))
}

/// The request body for a production key. `more` adds members.
#[track_caller]
#[must_use]
pub fn key_body(organization: &str, more: Value) -> Value {
    let mut body = json!({ "organization_id": organization, "environment": "production" });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// Reads an answer that issues a key or a token.
#[track_caller]
#[must_use]
pub fn issued(response: &Response) -> Issued {
    let body = response.json();
    Issued {
        id: text(&body["key"]["id"]),
        token: text(&body["token"]),
        key: body["key"].clone(),
        position: response.position(),
    }
}

/// Creates a root key, optionally bound to an organization, and returns its id and token.
#[track_caller]
#[must_use]
pub fn root_key(client: &Client, permissions: &[&str], organization: Option<&str>) -> (String, String) {
    let mut body = json!({ "name": "A root key", "permissions": permissions });
    if let Some(organization) = organization {
        body["organization_id"] = organization.into();
    }
    let answer = client.post("/v1/root-keys", &body).expect(201).json();
    (text(&answer["root_key"]["id"]), text(&answer["token"]))
}

/// An application with its secret.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its id, which is also its OAuth client id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Application {
    /// The path of the application, with `tail` after it.
    #[must_use]
    pub fn path(&self, tail: &str) -> String {
        format!("/v1/applications/{}{tail}", self.id)
    }
}

/// Creates an application, optionally bound to an organization.
#[track_caller]
#[must_use]
pub fn application(client: &Client, permissions: &[&str], organization: Option<&str>) -> Application {
    let mut body = json!({ "name": "An application", "permissions": permissions });
    if let Some(organization) = organization {
        body["organization_id"] = organization.into();
    }
    let answer = client.post("/v1/applications", &body).expect(201).json();
    Application { id: text(&answer["application"]["id"]), secret: text(&answer["client_secret"]) }
}

/// A token request with the application's secret in the form. `more` adds parameters.
#[must_use]
pub fn token_request<'a>(
    client: &'a Client,
    application: &Application,
    more: &[(&str, &str)],
) -> Request<'a> {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", application.id.as_str()),
        ("client_secret", application.secret.as_str()),
    ];
    fields.extend(more);
    client.request("POST", "/oauth2/token").form(&fields)
}

/// Requests an access token with all of an application's permissions.
#[track_caller]
#[must_use]
pub fn access_token(client: &Client, application: &Application) -> String {
    text(&token_request(&client.anonymous(), application, &[]).expect(200).json()["access_token"])
}

/// Creates a link to a portal session and returns the session's id and the link's secret. `more` adds
/// members.
#[track_caller]
#[must_use]
pub fn portal_link(client: &Client, organization: &str, role: &str, more: Value) -> (String, String) {
    let mut body = json!({ "organization_id": organization, "role": role });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let answer = client.post("/v1/portal-sessions", &body).expect(201).json();
    let url = text(&answer["url"]);
    let (_, secret) = url.split_once("/portal#").expect("a link leads to the portal");
    (text(&answer["portal_session"]["id"]), secret.to_owned())
}

/// Follows a link and returns the session cookie and the CSRF token.
#[track_caller]
#[must_use]
pub fn follow(client: &Client, link: &str) -> (String, String) {
    let answer = client.anonymous().post("/portal/session", &json!({ "link": link })).expect(200);
    let cookie = answer.cookie().expect("a session comes with a cookie").to_owned();
    (cookie, text(&answer.json()["csrf_token"]))
}

/// A client that is signed in to the portal as user `u1`.
#[track_caller]
#[must_use]
pub fn signed_in(client: &Client, organization: &str, role: &str) -> Client {
    let (_, link) = portal_link(client, organization, role, json!({ "user_id": "u1" }));
    let (cookie, csrf_token) = follow(client, &link);
    client.with_session(&cookie, &csrf_token)
}

/// Verifies a token without further demands.
#[track_caller]
#[must_use]
pub fn verify(client: &Client, token: &str) -> Value {
    client.post("/v1/keys/verify", &json!({ "token": token })).expect(200).json()
}

/// The code of a token's verification.
#[track_caller]
#[must_use]
pub fn code(client: &Client, token: &str) -> String {
    text(&verify(client, token)["code"])
}

/// Reads a list of keys once it has everything that was answered before. The list follows the log with a
/// small delay.
#[track_caller]
#[must_use]
pub fn listed(client: &Client, path: &str) -> Value {
    let position = client.get("/v1/organizations?limit=1").expect(200).position();
    client.get(path).header("keyledger-min-position", &position.to_string()).expect(200).json()
}

/// All events of a key, oldest first.
#[track_caller]
#[must_use]
pub fn events(client: &Client, id: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/keys/{id}/events?limit=200")).expect(200).json();
    page["data"].as_array().expect("a page has data").clone()
}

/// All events of the stream with this id, oldest first, including those up to the answer's position.
#[track_caller]
#[must_use]
pub fn trail(client: &Client, id: &str, answer: &Response) -> Vec<Value> {
    let position = answer.position().to_string();
    let page =
        client.get("/v1/events?limit=200").header("keyledger-min-position", &position).expect(200).json();
    let events = page["data"].as_array().expect("a page has data");
    events.iter().filter(|event| event["stream"]["id"] == id).cloned().collect()
}

/// The types of events, in order.
#[must_use]
pub fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect()
}

/// The answers of a batch verification.
///
/// # Panics
/// When there are none.
#[track_caller]
#[must_use]
pub fn batch(answer: &Value) -> &[Value] {
    answer["data"].as_array().expect("a batch answers data")
}

/// A JSON string as text.
///
/// # Panics
/// When the value is not a string.
#[track_caller]
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
