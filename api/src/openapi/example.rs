//! Examples that work unchanged, derived from the schemas.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::typed_document::{
    Endpoint, Field, fields, is_nullable, json_schema, name_of, parameter, resolve, text,
};

/// The address of `make run`.
const BASE: &str = "http://127.0.0.1:7070";
/// The endpoint whose credential is the token to verify.
const FORWARD_AUTH: &str = "/v1/forward-auth";
/// The deepest nesting of objects.
const DEPTH_MAX: usize = 6;
const ULID: &str = "01KAJX7Q5M3J6S2Y9W8V4T1R0P";

/// Returns a request to the endpoint as a command line.
pub(super) fn curl(document: &Value, endpoint: &Endpoint<'_>) -> String {
    let mut line = match endpoint.methods.as_slice() {
        [method] if *method != "get" => format!("curl -X {} ", method.to_uppercase()),
        _ => String::from("curl "),
    };
    let _ = write!(line, "{}", address(endpoint));
    if endpoint.path.starts_with(FORWARD_AUTH) {
        line.push_str(" \\\n  -H \"Authorization: Bearer $TOKEN\"");
    } else if !endpoint.is_open() {
        line.push_str(" \\\n  -H \"Authorization: Bearer $ROOT_KEY\"");
    }
    let headers = endpoint.parameters().map(parameter).filter(|it| it.place == "header" && it.required);
    for header in headers {
        let _ = write!(
            line,
            " \\\n  -H \"{}: {}\"",
            header.name,
            plain(&value(document, header.schema, header.name, 0))
        );
    }
    if let Some(body) = request_body(document, endpoint) {
        line.push_str(" \\\n  -H \"Content-Type: application/json\"");
        // Within single quotes, the shell interprets only the single quote.
        let _ = write!(line, " \\\n  -d '{}'", format!("{body:#}").replace('\'', "'\\''"));
    }
    line
}

fn address(endpoint: &Endpoint<'_>) -> String {
    let mut parts = Vec::new();
    let mut before = "";
    for part in endpoint.path.split('/') {
        match part.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) => parts.push(path_value(before, name)),
            None => parts.push(part.to_owned()),
        }
        before = part;
    }
    let required = endpoint.parameters().map(parameter).filter(|it| it.place == "query" && it.required);
    let query: Vec<String> =
        required.map(|it| format!("{}={}", it.name, plain(&guess(it.name).unwrap_or(json!("1"))))).collect();
    match query.is_empty() {
        true => format!("{BASE}{}", parts.join("/")),
        false => format!("'{BASE}{}?{}'", parts.join("/"), query.join("&")),
    }
}

/// Returns an id with the prefix that the previous part of the path implies.
fn path_value(before: &str, name: &str) -> String {
    let prefix = match (before, name) {
        ("keys", _) => "key_",
        ("organizations", _) | ("clients", _) => "org_",
        ("apis", _) => "api_",
        ("root-keys", _) => "rk_",
        (_, name) => return guess(name).map_or_else(|| "1".into(), |value| plain(&value)),
    };
    format!("{prefix}{ULID}")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns a body with the required fields and those for which the schema has an example.
fn request_body(document: &Value, endpoint: &Endpoint<'_>) -> Option<Value> {
    let (schema, required) = endpoint.body()?;
    let mut fields = fields(document, schema);
    fields.sort_by_key(|field| !field.required);
    let mut body = Map::new();
    for field in &fields {
        if field.required || field.name == "name" || field.schema.get("example").is_some() {
            body.insert(field.name.into(), value(document, field.schema, field.name, 0));
        }
    }
    (required || !body.is_empty()).then_some(Value::Object(body))
}

/// Returns the answer to a successful request.
pub(super) fn answer(document: &Value, endpoint: &Endpoint<'_>) -> Option<(String, Value)> {
    let (status, response) = endpoint.responses().find(|(status, _)| status.starts_with('2'))?;
    Some((status.clone(), value(document, json_schema(response)?, "", 0)))
}

/// Returns a value that fits the schema.
pub(super) fn value(document: &Value, schema: &Value, name: &str, depth: usize) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    let object = name_of(schema).unwrap_or("");
    let schema = resolve(document, schema);
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    // Values that most objects do not have stay empty.
    let usually_absent = ["revoked_at", "deleted_at", "user_id", "reason", "causation_id", "next_cursor"];
    if is_nullable(schema) && usually_absent.contains(&name) {
        return Value::Null;
    }
    let kind = match schema.get("type") {
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|it| *it != "null").unwrap_or("")
        }
        _ => text(schema, "type"),
    };
    match kind {
        "array" => match (guess(name), schema.get("items")) {
            (Some(list @ Value::Array(_)), _) => list,
            (_, Some(items)) => Value::Array(vec![value(document, items, "", depth + 1)]),
            _ => json!([]),
        },
        "boolean" => json!(name == "valid" || name == "ready"),
        "integer" | "number" => number(name),
        "string" => match guess(name) {
            Some(guess @ Value::String(_)) => guess,
            _ if text(schema, "format") == "date-time" => json!("2026-11-12T14:03:07.112Z"),
            _ => json!("text"),
        },
        _ => {
            let members = fields(document, schema);
            if members.is_empty() {
                return guess(name).filter(Value::is_object).unwrap_or_else(|| json!({}));
            }
            let member = |it: &Field<'_>| {
                let own_id = (it.name == "id").then(|| own_id(object)).flatten();
                (it.name.to_owned(), own_id.unwrap_or_else(|| value(document, it.schema, it.name, depth + 1)))
            };
            Value::Object(members.iter().map(member).collect())
        }
    }
}

/// Returns an id of the type of object with this name.
fn own_id(object: &str) -> Option<Value> {
    let prefix = match object {
        "Key" => "key_",
        "Organization" => "org_",
        "Api" => "api_",
        "RootKey" => "rk_",
        "Event" => "evt_",
        _ => return None,
    };
    Some(json!(format!("{prefix}{ULID}")))
}

fn number(name: &str) -> Value {
    match name {
        "position" => json!(48_211),
        "total" | "version" | "schema" => json!(1),
        _ => json!(0),
    }
}

/// Returns a typical value for a member of this name.
fn guess(name: &str) -> Option<Value> {
    let id = |prefix: &str| json!(format!("{prefix}{ULID}"));
    Some(match name {
        "organization_id" => id("org_"),
        "key_id" => id("key_"),
        "api_id" => id("api_"),
        "created_by" | "actor_id" => id("rk_"),
        "event_id" | "causation_id" => id("evt_"),
        "request_id" => json!(ULID),
        "id" => id(""),
        "user_id" => json!("user_42"),
        "name" => json!("Production integration"),
        "description" => json!("Invoices of the web shop"),
        "environment" => json!("production"),
        "scopes" => json!(["invoices:read"]),
        "permissions" => json!(["keys:create", "keys:read"]),
        "metadata" => json!({ "team": "billing" }),
        "token" => json!("kl_live_..."),
        "tokens" => json!(["kl_live_..."]),
        "status" => json!("active"),
        "kind" => json!("paid"),
        "created_at" => json!("2026-11-12T14:03:07.112Z"),
        "expires_at" => json!("2027-02-12T14:03:07.112Z"),
        "revoked_at" | "deleted_at" => json!("2026-12-01T09:30:00.000Z"),
        "last_four" => json!("wxyz"),
        "start" => json!("klroot_ab12"),
        "detail" => json!("invalid fields: /name"),
        "title" => json!("Some fields are invalid"),
        "stream" => json!({ "kind": "key", "id": format!("key_{ULID}") }),
        "actor" => json!({ "kind": "root_key", "id": format!("rk_{ULID}") }),
        _ => return None,
    })
}
