//! Lines of the security log: OCSF events of the classes
//! [Authentication](https://schema.ocsf.io/1.8.0/classes/authentication) and
//! [API Activity](https://schema.ocsf.io/1.8.0/classes/api_activity).

use http::Method;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::export::{OCSF_PRODUCT, OCSF_VERSION, ocsf_actor};
use serde_json::{Value, json};

use super::attempt::Attempt;
use super::credential::{Credential, Outcome};
use super::sampler::Omitted;
use super::security_log::{Action, Place};
use crate::auth::principal::Principal;

const AUTHENTICATION: Class =
    Class { uid: 3002, name: "Authentication", category: (3, "Identity & Access Management") };
const API_ACTIVITY: Class = Class { uid: 6003, name: "API Activity", category: (6, "Application Activity") };
/// What OCSF has no number for.
const OTHER: u32 = 99;

struct Class {
    uid: u32,
    name: &'static str,
    category: (u32, &'static str),
}

/// How severe an event is, with OCSF's numbers.
#[derive(Clone, Copy)]
enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
        }
    }
}

/// A credential was accepted.
pub(super) fn accepted(
    principal: &Principal,
    credential: Credential,
    place: &Place,
    now: Timestamp,
) -> Value {
    let mut event = authentication((OTHER, "Authenticate"), credential, Outcome::Accepted, place, now);
    set(&mut event, "user", user_of(principal));
    set_tenant(&mut event, principal);
    event
}

/// A credential was refused.
pub(super) fn refused(attempt: &Attempt, place: &Place, now: Timestamp) -> Value {
    let mut event = authentication((OTHER, "Authenticate"), attempt.credential, attempt.outcome, place, now);
    // A credential that was good once says more than one that is made up: somebody still holds it.
    let severity = match attempt.outcome {
        Outcome::Revoked => Severity::Medium,
        Outcome::Accepted | Outcome::Expired => Severity::Informational,
        Outcome::Malformed | Outcome::Unknown | Outcome::Invalid => Severity::Low,
    };
    set_severity(&mut event, severity);
    let user = present(json!({
        "uid": attempt.holder,
        "name": attempt.holder.is_none().then_some("unknown"),
        "credential_uid": attempt.hint,
    }));
    set(&mut event, "user", user);
    event
}

/// A person signed in or out, or an application got an access token.
pub(super) fn session(
    action: Action,
    principal: &Principal,
    credential: Credential,
    place: &Place,
    now: Timestamp,
) -> Value {
    let activity = match action {
        Action::SignIn => (1, "Logon"),
        Action::SignOut => (2, "Logoff"),
        _ => (OTHER, "Issue Token"),
    };
    let mut event = authentication(activity, credential, Outcome::Accepted, place, now);
    set(&mut event, "message", action.message().into());
    set(&mut event, "user", user_of(principal));
    set_tenant(&mut event, principal);
    event
}

fn authentication(
    activity: (u32, &str),
    credential: Credential,
    outcome: Outcome,
    place: &Place,
    now: Timestamp,
) -> Value {
    let is_accepted = outcome == Outcome::Accepted;
    let message = if is_accepted { "credential accepted" } else { "credential refused" };
    let mut event = base(&AUTHENTICATION, activity, is_accepted, place, now);
    set(&mut event, "message", message.into());
    if !is_accepted {
        set(&mut event, "status_detail", outcome.as_str().into());
    }
    set(&mut event, "auth_protocol_id", OTHER.into());
    set(&mut event, "auth_protocol", credential.as_str().into());
    set(&mut event, "service", json!({ "name": OCSF_PRODUCT }));
    event
}

/// A caller did something that changes nothing and is worth knowing, or was refused by the table of rights.
pub(super) fn activity(
    principal: &Principal,
    (method, path): (&Method, &str),
    action: Action,
    place: &Place,
    now: Timestamp,
) -> Value {
    let is_allowed = action != Action::Forbidden;
    let activity = match *method {
        _ if is_allowed => (2, "Read"),
        Method::POST => (1, "Create"),
        Method::PUT | Method::PATCH => (3, "Update"),
        Method::DELETE => (4, "Delete"),
        _ => (2, "Read"),
    };
    let mut event = base(&API_ACTIVITY, activity, is_allowed, place, now);
    if !is_allowed {
        set_severity(&mut event, Severity::Low);
        set(&mut event, "status_detail", "forbidden".into());
    }
    set(&mut event, "message", action.message().into());
    set(&mut event, "actor", ocsf_actor(principal.kind, &principal.id));
    set(&mut event, "api", json!({ "operation": format!("{method} {path}") }));
    set_tenant(&mut event, principal);
    event
}

/// Further events like one that was omitted.
pub(super) fn omitted(omitted: Omitted<Value>) -> Value {
    let Omitted { first: mut event, count, begun, ended } = omitted;
    let message = event.get("message").and_then(Value::as_str).unwrap_or_default();
    let message = format!("{message}: {count} more like this, not listed one by one");
    set(&mut event, "message", message.into());
    set(&mut event, "count", count.into());
    set(&mut event, "start_time", begun.millis().into());
    set(&mut event, "end_time", ended.millis().into());
    event
}

fn base(
    class: &Class,
    (activity_id, activity_name): (u32, &str),
    is_success: bool,
    place: &Place,
    now: Timestamp,
) -> Value {
    let (status_id, status) = if is_success { (1, "Success") } else { (2, "Failure") };
    let (category_uid, category_name) = class.category;
    let endpoint = match place.ip {
        Some(ip) => json!({ "ip": ip.to_string() }),
        None => json!({ "name": "unknown" }),
    };
    let request = present(json!({ "uid": place.request_id, "user_agent": place.user_agent }));
    let has_request = request.as_object().is_some_and(|members| !members.is_empty());
    let mut event = json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class.uid,
        "class_name": class.name,
        "type_uid": class.uid * 100 + activity_id,
        "type_name": format!("{}: {activity_name}", class.name),
        "severity_id": Severity::Informational as u32,
        "severity": Severity::Informational.as_str(),
        "status_id": status_id,
        "status": status,
        "time": now.millis(),
        "metadata": present(json!({
            "version": OCSF_VERSION,
            "product": { "name": OCSF_PRODUCT, "vendor_name": OCSF_PRODUCT },
            "log_name": "security",
            "original_time": now.to_string(),
            "correlation_uid": place.request_id,
        })),
        "src_endpoint": endpoint,
    });
    if has_request {
        set(&mut event, "http_request", request);
    }
    event
}

fn user_of(principal: &Principal) -> Value {
    json!({ "uid": &*principal.id, "type_id": OTHER, "type": principal.kind.as_str() })
}

fn set_severity(event: &mut Value, severity: Severity) {
    set(event, "severity_id", (severity as u32).into());
    set(event, "severity", severity.as_str().into());
}

fn set_tenant(event: &mut Value, principal: &Principal) {
    let Some(organization_id) = &principal.organization_id else { return };
    if let Some(metadata) = event.get_mut("metadata") {
        set(metadata, "tenant_uid", organization_id.as_str().into());
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

fn present(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}
