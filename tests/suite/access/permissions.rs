//! Calls every documented endpoint with every permission and every role, and compares the result with
//! docs/permissions.md.

use std::collections::BTreeMap;
use std::fs;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{access_token, application, root_key, signed_in};
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::openid_provider::{AUDIENCE, Provider, arguments, person};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

/// The two tables of docs/permissions.md: what each role allows, and what each endpoint requires.
struct Table {
    roles: BTreeMap<String, Vec<String>>,
    permissions: Vec<String>,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    method: String,
    path: String,
    needs: Vec<String>,
    /// The permission that suffices for a caller who sees their own keys only.
    needs_for_own: Option<Vec<String>>,
    unbound: bool,
    kind: Kind,
    /// Whether the endpoint is Keyledger's own, and not one compatible with another service.
    is_own: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Everyone,
    PortalSession,
    Permissions,
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn read_table() -> Table {
    let text = fs::read_to_string(binaries::workspace().join("docs/permissions.md")).unwrap();
    let (roles_text, endpoints_text) = text.split_once("## Endpoints\n").unwrap();
    let (own_text, others_text) = endpoints_text.split_once("## Endpoints of other services").unwrap();
    let rows = |text: &str| {
        text.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect::<Vec<_>>()
    };
    let header = roles_text.lines().find(|line| line.starts_with("| permission")).unwrap();
    let names: Vec<String> = cells(header)[1..].iter().map(|name| (*name).to_owned()).collect();
    let mut table = Table { roles: BTreeMap::new(), permissions: Vec::new(), endpoints: Vec::new() };
    for row in rows(roles_text) {
        let cells = cells(&row);
        let permission = cells[0].trim_matches('`').to_owned();
        for (name, cell) in names.iter().zip(&cells[1..]) {
            let held = table.roles.entry(name.clone()).or_default();
            if !cell.is_empty() {
                held.push(permission.clone());
            }
        }
        table.permissions.push(permission);
    }
    let own = rows(own_text).into_iter().map(|row| (row, true));
    for (row, is_own) in own.chain(rows(others_text).into_iter().map(|row| (row, false))) {
        let cells = cells(&row);
        let (method, path) = cells[0].trim_matches('`').split_once(' ').unwrap();
        let named = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let (needs, needs_for_own) = match cells[1].split_once("; for own keys ") {
            Some((needs, for_own)) => (named(needs), Some(named(for_own))),
            None => (named(cells[1]), None),
        };
        let kind = match cells[1] {
            "nothing" => Kind::Everyone,
            "a portal session" => Kind::PortalSession,
            _ => Kind::Permissions,
        };
        assert_eq!(needs.is_empty(), kind != Kind::Permissions, "{row}");
        let unbound = cells[1].ends_with("unbound");
        table.endpoints.push(Endpoint {
            method: method.into(),
            path: path.into(),
            needs,
            needs_for_own,
            unbound,
            kind,
            is_own,
        });
    }
    table
}

/// A caller.
struct Holder {
    name: String,
    client: Client,
    permissions: Vec<String>,
    bound: bool,
    is_session: bool,
    sees_own_only: bool,
}

impl Holder {
    fn may(&self, endpoint: &Endpoint) -> bool {
        match endpoint.kind {
            Kind::Everyone => true,
            Kind::PortalSession => self.is_session,
            Kind::Permissions => {
                let holds = |needed: &String| self.permissions.iter().any(|it| it == needed || it == "admin");
                let needs =
                    endpoint.needs_for_own.as_ref().filter(|_| self.sees_own_only).unwrap_or(&endpoint.needs);
                needs.iter().all(holds) && !(endpoint.unbound && self.bound)
            }
        }
    }
}

fn holders(server: &Server, provider: &Provider, table: &Table) -> Vec<Holder> {
    let client = &server.client();
    let org = "acme";
    client.post("/v1/organizations", &json!({ "id": org, "kind": "paid" })).expect(201);
    let mut holders = Vec::new();
    for permission in &table.permissions {
        let holder = |name: &str, token: &str, bound: bool| Holder {
            name: format!("{name} with {permission}"),
            client: client.with_token(token),
            permissions: vec![permission.clone()],
            bound,
            is_session: false,
            sees_own_only: false,
        };
        holders.push(holder("a root key", &root_key(client, &[permission], None).1, false));
        holders.push(holder("a bound root key", &root_key(client, &[permission], Some(org)).1, true));
        let app = application(client, &[permission], None);
        holders.push(holder("an application", &access_token(client, &app), false));
    }
    for (role, permissions) in &table.roles {
        holders.push(Holder {
            name: format!("a portal session of role {role}"),
            client: signed_in(client, org, role),
            permissions: permissions.clone(),
            bound: true,
            is_session: true,
            sees_own_only: role == "member",
        });
        holders.push(Holder {
            name: format!("a user of role {role}"),
            client: client.with_token(&provider.token(server, role, AUDIENCE)),
            permissions: permissions.clone(),
            bound: true,
            is_session: false,
            sees_own_only: role == "member",
        });
    }
    holders
}

/// The answer to a caller.
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    /// Whether the answer says that the caller lacks the permission.
    fn is_refusal(&self) -> bool {
        let says_so =
            ["the caller lacks the permission", "concerns more than", "only callers with a portal session"];
        self.status == 403 && says_so.iter().any(|words| self.text.contains(words))
    }

    /// Whether the answer says that the caller is not authenticated.
    fn is_unauthenticated(&self, endpoint: &Endpoint) -> bool {
        if endpoint.is_own {
            self.status == 401 && self.text.contains("\"unauthenticated\"")
        } else {
            // Kinde answers 403.
            matches!(self.status, 401 | 403) && !self.is_refusal()
        }
    }
}

/// Sends a request about an object that does not exist: a permitted caller gets an error that says so, and
/// nothing changes.
fn answer(client: &Client, endpoint: &Endpoint) -> Answer {
    let path: Vec<&str> = endpoint
        .path
        .split('/')
        .map(|part| if part.starts_with('{') { "key_01KAJX7Q5M3J6S2Y9W8V4T1R0P" } else { part })
        .collect();
    let mut request = client.request(&endpoint.method, &path.join("/"));
    if matches!(endpoint.method.as_str(), "POST" | "PUT" | "PATCH") {
        request = request.json(&json!({}));
    }
    let answer = request.send();
    Answer { status: answer.status, text: String::from_utf8_lossy(&answer.body).into_owned() }
}

#[test]
fn every_endpoint_requires_what_the_table_says() {
    let table = read_table();
    let claims = |role: &String| json!({ "role": role, "organization_id": "acme" });
    let people: Vec<Value> = table.roles.keys().map(|role| person(role, claims(role))).collect();
    let provider = Provider::start(&json!(people));
    let mut arguments = arguments(&provider.issuer);
    arguments.extend(["--compat", "kinde", "--compat", "kintsugi"].map(str::to_owned));
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let document = client.get("/openapi.json").expect(200).json();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let row =
                |endpoint: &&Endpoint| endpoint.path == *path && endpoint.method == method.to_uppercase();
            assert!(
                table.endpoints.iter().any(|endpoint| row(&endpoint)),
                "{method} {path} is not in the table"
            );
            count += 1;
        }
    }
    let own = table.endpoints.iter().filter(|endpoint| endpoint.is_own).count();
    assert_eq!(count, own, "the table lists endpoints that do not exist");
    assert!(
        count > 40
            && table.endpoints.len() > count + 10
            && table.permissions.len() > 10
            && table.roles.len() == 4
    );

    let holders = holders(&server, &provider, &table);
    let mut wrong = Vec::new();
    // Signing out ends the session that asks. Another test covers it.
    for endpoint in table.endpoints.iter().filter(|endpoint| {
        (endpoint.method.as_str(), endpoint.path.as_str()) != ("DELETE", "/portal/session")
    }) {
        for holder in &holders {
            let answer = answer(&holder.client, endpoint);
            let refused = answer.is_refusal();
            // Public endpoints decide themselves how to treat a credential.
            let as_expected = match (endpoint.kind, holder.may(endpoint)) {
                (Kind::Everyone, _) => !refused,
                (_, true) => !refused && !answer.is_unauthenticated(endpoint),
                (_, false) => refused,
            };
            if !as_expected {
                let Answer { status, text } = answer;
                wrong.push(format!(
                    "{}: {} {} answers {status} {text}",
                    holder.name, endpoint.method, endpoint.path
                ));
            }
        }
        if endpoint.kind != Kind::Everyone {
            for anonymous in [
                client.anonymous(),
                client.with_token(&token::root()),
                client.with_session("keyledger_session=x", "x"),
            ] {
                let answer = answer(&anonymous, endpoint);
                if !answer.is_unauthenticated(endpoint) {
                    let Answer { status, text } = answer;
                    wrong.push(format!(
                        "anonymous: {} {} answers {status} {text}",
                        endpoint.method, endpoint.path
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_documented_table_is_the_generated_one() {
    let output = std::process::Command::new(binaries::path("keyledger")).arg("permissions").output().unwrap();
    let path = binaries::workspace().join("docs/permissions.md");
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        String::from_utf8_lossy(&output.stdout) == stored,
        "{} is out of date; run `keyledger permissions > docs/permissions.md` and review the difference",
        path.display()
    );
}
