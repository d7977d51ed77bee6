//! Events as sentences: what was done to what, with the values before and after. The actor's name precedes
//! the sentence.

use std::fmt;

use keyledger_engine::value::time::Timestamp;
use serde_json::Value;

use super::event::Event;
use crate::console::parts::key::Key;
use crate::console::parts::moment::Moment;

/// The object of a sentence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    /// The subject of the page, called "it".
    It,
    /// Another object, by kind and name.
    Named(&'a str, &'a str),
}

/// A sentence without its actor. The object's name can contain any text, so it is kept apart from the words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub head: String,
    pub name: String,
    pub tail: String,
}

/// An event in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventText {
    /// `good` or `bad` if requests with the key start or stop working, else empty.
    pub tone: &'static str,
    pub sentence: Sentence,
    /// The values before, if known, and after.
    pub change: Option<(Option<String>, String)>,
}

/// What is known of a key before an event.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The key's version, or 0 if nothing is known.
    pub version: u32,
    name: Option<String>,
    description: Option<String>,
    metadata: Option<String>,
    scopes: Option<String>,
    expiry: Option<String>,
}

impl Sentence {
    fn new(head: impl Into<String>, object: Object<'_>, tail: impl Into<String>) -> Self {
        let (head, tail) = (head.into(), tail.into());
        match object {
            Object::It => Self { head: format!("{head} it"), name: String::new(), tail },
            Object::Named(kind, "") => Self { head: format!("{head} {kind}"), name: String::new(), tail },
            Object::Named(kind, name) => Self { head: format!("{head} {kind} "), name: name.into(), tail },
        }
    }

    /// A sentence about a part of the object.
    fn of_part(head: &str, part: &str, object: Object<'_>, tail: impl Into<String>) -> Self {
        match object {
            Object::It => Self { head: format!("{head} its {part}"), name: String::new(), tail: tail.into() },
            object @ Object::Named(..) => Self::new(format!("{head} the {part} of"), object, tail),
        }
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.head, self.name, self.tail)
    }
}

impl EventText {
    fn new(sentence: Sentence) -> Self {
        Self { tone: "", sentence, change: None }
    }

    fn good(self) -> Self {
        Self { tone: "good", ..self }
    }

    fn bad(self) -> Self {
        Self { tone: "bad", ..self }
    }

    fn change(self, before: Option<String>, after: String) -> Self {
        Self { change: Some((before, after)), ..self }
    }
}

impl Known {
    /// What is known of a key in a past state.
    pub(crate) fn of(key: &Key) -> Self {
        Self {
            version: key.version,
            name: Some(key.name.clone().unwrap_or_else(none)),
            description: Some(key.description.clone().unwrap_or_else(none)),
            metadata: Some(key.metadata.as_ref().map_or_else(none, Value::to_string)),
            scopes: Some(if key.scopes.is_empty() { none() } else { key.scopes.join(", ") }),
            expiry: Some(key.expires_at.map_or_else(|| "never".into(), exact)),
        }
    }

    /// Describes an event, and updates what is known to the state after it.
    pub(crate) fn describe(&mut self, event: &Event, object: Object<'_>) -> EventText {
        let data = &event.data;
        self.version = event.version;
        let whole = |head: &str, tail: String| EventText::new(Sentence::new(head, object, tail));
        let part = |part: &str, before: &mut Option<String>, after: String| {
            let sentence = Sentence::of_part("changed", part, object, "");
            EventText::new(sentence).change(before.replace(after.clone()), after)
        };
        match event.event_type.as_str() {
            "KeyCreated" => {
                self.learn(data);
                whole("created", created_tail(data)).good()
            }
            "KeyRenamed" => {
                let name = personal(data, "name");
                whole("renamed", String::new()).change(self.name.replace(name.clone()), name)
            }
            "KeyDescriptionChanged" => {
                part("description", &mut self.description, personal(data, "description"))
            }
            "KeyMetadataChanged" => part("metadata", &mut self.metadata, personal(data, "metadata")),
            "KeyScopesChanged" => part("scopes", &mut self.scopes, words(&data["scopes"])),
            "KeyExpiryChanged" => part("expiry", &mut self.expiry, expiry(&data["expires_at"])),
            "KeyRevoked" => whole("revoked", reason_tail(data).into()).bad(),
            "KeyReactivated" => whole("reactivated", String::new()).good(),
            "KeyRotated" => EventText::new(Sentence::of_part("rotated", "token", object, rotated_tail(data))),
            "KeyExpired" => whole("marked", " as expired".into()).bad(),
            "KeyDeleted" => whole("deleted", String::new()).bad(),
            _ => of_tenant(event, object).or_else(|| of_caller(event, object)).unwrap_or_else(|| {
                // A newer event type still shows by its name.
                whole(&event.event_type, String::new())
            }),
        }
    }

    /// Takes the state of a new key from its first event.
    fn learn(&mut self, data: &Value) {
        *self = Self {
            version: self.version,
            name: Some(personal(data, "name")),
            description: Some(personal(data, "description")),
            metadata: Some(personal(data, "metadata")),
            scopes: Some(words(&data["scopes"])),
            expiry: Some(expiry(&data["expires_at"])),
        };
    }
}

fn created_tail(data: &Value) -> String {
    let environment = words(&data["environment"]);
    match expiry(&data["expires_at"]).as_str() {
        "never" => format!(" for {environment}; it never expires"),
        time => format!(" for {environment}; it expires {time}"),
    }
}

fn reason_tail(data: &Value) -> &'static str {
    match data["reason"].as_str() {
        Some("key_compromise") => ": leaked",
        Some("superseded") => ": replaced",
        Some("affiliation_changed") => ": owner changed",
        Some("privilege_withdrawn") => ": access withdrawn",
        _ => "",
    }
}

/// The end of an overlap can be past or future, so the words fit both.
fn rotated_tail(data: &Value) -> String {
    let until = &data["previous_valid_until"];
    let token = format!("{}…{}", words(&data["start"]), words(&data["last_four"]));
    if until.is_null() {
        format!(" to {token}; the previous token stopped working at once")
    } else {
        format!(" to {token}; the previous token is valid until {}", expiry(until))
    }
}

/// A personal text, which may have been erased.
fn personal(data: &Value, name: &str) -> String {
    match &data[name] {
        Value::Null if data["erased"] == true => "erased text".into(),
        value => words(value),
    }
}

/// Describes an event of an organization, a portfolio or an API.
fn of_tenant(event: &Event, object: Object<'_>) -> Option<EventText> {
    let data = &event.data;
    let whole = |head: &str, tail: String| EventText::new(Sentence::new(head, object, tail));
    let field = |name: &str| words(&data[name]);
    Some(match event.event_type.as_str() {
        "OrganizationCreated" => whole("created", format!(" with kind {}", field("kind"))),
        "OrganizationRenamed" | "ApiRenamed" => {
            whole("renamed", String::new()).change(None, personal(data, "name"))
        }
        "OrganizationKindChanged" => whole("changed the kind of", format!(" to {}", field("kind"))),
        "OrganizationDeleted" => whole("deleted", "; all of its keys stopped working".into()).bad(),
        "PolicySet" => whole("set the policy of", format!(" for {} keys", field("environment"))),
        "PolicyRemoved" => whole("removed the policy of", format!(" for {} keys", field("environment"))),
        "ClientLinked" => {
            let head = format!("linked {} to the portfolio of", field("client_organization_id"));
            whole(&head, String::new())
        }
        "ClientUnlinked" => {
            let head = format!("unlinked {} from the portfolio of", field("client_organization_id"));
            whole(&head, "; the keys created for it stopped working".into()).bad()
        }
        "ApiRegistered" => whole("registered", format!(" with audience {}", field("audience"))),
        "ApiScopesChanged" => {
            EventText::new(Sentence::of_part("changed", "scopes", object, "")).change(None, field("scopes"))
        }
        "ApiDeleted" => whole("deleted", "; its keys are refused".into()).bad(),
        _ => return None,
    })
}

/// Describes an event of a root key, an application, a portal session or a webhook, or an erasure.
fn of_caller(event: &Event, object: Object<'_>) -> Option<EventText> {
    let data = &event.data;
    let whole = |head: &str, tail: String| EventText::new(Sentence::new(head, object, tail));
    let field = |name: &str| words(&data[name]);
    let changed = |part: &str, name: &str| {
        EventText::new(Sentence::of_part("changed", part, object, "")).change(None, field(name))
    };
    Some(match event.event_type.as_str() {
        "RootKeyCreated" | "ApplicationCreated" => {
            whole("created", format!(" with permissions {}", field("permissions")))
        }
        "RootKeyRevoked" => whole("permanently revoked", String::new()).bad(),
        "ApplicationRenamed" => whole("renamed", String::new()).change(None, personal(data, "name")),
        "ApplicationPermissionsChanged" => changed("permissions", "permissions"),
        "ApplicationSecretRotated" | "WebhookSecretRotated" => {
            EventText::new(Sentence::of_part("rotated", "secret", object, ""))
        }
        "ApplicationDeleted" | "WebhookDeleted" => whole("deleted", String::new()).bad(),
        "PortalSessionCreated" => whole("created", format!(" with the role {}", field("role"))),
        "PortalSessionStarted" => whole("signed in with", String::new()),
        "PortalSessionEnded" if field("reason") == "idle" => whole("ended", ", which was not used".into()),
        "PortalSessionEnded" => whole("ended", String::new()),
        "WebhookRegistered" => whole("registered", String::new()).change(None, field("url")),
        "WebhookUrlChanged" => changed("URL", "url"),
        "WebhookEventTypesChanged" => changed("event types", "event_types"),
        "WebhookDisabled" => whole("disabled", format!(": {}", field("reason"))).bad(),
        "WebhookEnabled" => whole("enabled", String::new()).good(),
        "PersonalDataErased" => whole("permanently erased", format!(" of one {}", field("subject"))).bad(),
        _ => return None,
    })
}

fn none() -> String {
    "none".into()
}

/// A value in words.
fn words(value: &Value) -> String {
    match value {
        Value::Null => none(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => none(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A time in words, or `never`.
fn expiry(value: &Value) -> String {
    let time: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
    time.map_or_else(|| "never".into(), exact)
}

fn exact(time: Timestamp) -> String {
    Moment::new(time, time).exact()
}

#[cfg(test)]
mod tests {
    use keyledger_engine::domain::event::EventType;
    use serde_json::json;

    use super::*;

    fn event(event_type: &str, data: Value) -> Event {
        serde_json::from_value(json!({
            "position": 1, "time": "2026-11-12T14:03:07.112Z", "type": event_type, "version": 1,
            "stream": { "kind": "key", "id": "key_x" }, "organization_id": null, "request_id": null,
            "actor": { "kind": "root_key", "id": "rk_x", "ip": null, "user_agent": null }, "data": data,
        }))
        .unwrap()
    }

    #[test]
    fn changes_show_the_value_before() {
        let mut known = Known::default();
        let mut change = |event_type: &str, data: Value| {
            let text = known.describe(&event(event_type, data), Object::It);
            (text.sentence.to_string(), text.change)
        };
        let some = |before: &str, after: &str| Some((Some(before.to_owned()), after.to_owned()));
        let created =
            json!({ "name": "prod", "environment": "production", "expires_at": null, "scopes": ["a:b"] });
        assert_eq!(change("KeyCreated", created).0, "created it for production; it never expires");
        let renamed = change("KeyRenamed", json!({ "name": "Production" }));
        assert_eq!(renamed, ("renamed it".into(), some("prod", "Production")));
        assert_eq!(change("KeyRenamed", json!({ "name": null })).1, some("Production", "none"));
        let scopes = change("KeyScopesChanged", json!({ "scopes": [] }));
        assert_eq!(scopes, ("changed its scopes".into(), some("a:b", "none")));
        let erased = change("KeyDescriptionChanged", json!({ "description": null, "erased": true }));
        assert_eq!(erased.1, some("none", "erased text"));
        // An unknown previous value is not shown.
        let text = Known::default().describe(&event("KeyRenamed", json!({ "name": "x" })), Object::It);
        assert_eq!(text.change, Some((None, "x".into())));
    }

    #[test]
    fn every_event_is_a_sentence() {
        for event_type in EventType::ALL {
            let name = event_type.as_str();
            let text = Known::default().describe(&event(name, json!({})), Object::Named("thing", "N"));
            let sentence = text.sentence.to_string();
            assert!(!sentence.contains(name), "{name} has no sentence: {sentence}");
            assert!(sentence.contains("thing N"), "{name}: {sentence}");
        }
    }
}
