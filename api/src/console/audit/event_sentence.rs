//! An event as a sentence: what was done to what, with what was before and after. Whoever did it stands before it.

use std::fmt;

use keyledger_engine::value::time::Timestamp;
use serde_json::Value;

use super::event::Event;
use crate::console::parts::key::Key;
use crate::console::parts::moment::Moment;

/// What the sentence is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    /// What the page is about.
    It,
    /// Something else: its kind, and its name.
    Named(&'a str, &'a str),
}

/// A sentence without its subject. The name in it may be anything that people write, so it is kept apart from the words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sentence {
    /// What stands before the name.
    pub head: String,
    /// The name.
    pub name: String,
    /// What stands after it.
    pub tail: String,
}

/// A sentence, and what else there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whether it is `good` or `bad` for requests with the key; else nothing.
    pub tone: &'static str,
    /// The sentence.
    pub sentence: Sentence,
    /// What was before, if it is known, and after.
    pub change: Option<(Option<String>, String)>,
}

/// What is known of a key before an event.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// How many events it had; none if nothing is known.
    pub version: u32,
    name: Option<String>,
    description: Option<String>,
    metadata: Option<String>,
    scopes: Option<String>,
    end: Option<String>,
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
    fn of_part(head: &str, part: &str, object: Object<'_>) -> Self {
        match object {
            Object::It => Self { head: format!("{head} its {part}"), ..Self::default() },
            object @ Object::Named(..) => Self::new(format!("{head} the {part} of"), object, ""),
        }
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.head, self.name, self.tail)
    }
}

impl Known {
    /// What is known of a key as it was.
    pub(crate) fn of(key: &Key) -> Self {
        Self {
            version: key.version,
            name: Some(key.name.clone().unwrap_or_else(nothing)),
            description: Some(key.description.clone().unwrap_or_else(nothing)),
            metadata: Some(key.metadata.as_ref().map_or_else(nothing, Value::to_string)),
            scopes: Some(if key.scopes.is_empty() { nothing() } else { key.scopes.join(", ") }),
            end: Some(key.expires_at.map_or_else(|| "never".into(), exact)),
        }
    }

    /// Tells an event, and takes note of what is after it.
    pub(crate) fn tell(&mut self, event: &Event, object: Object<'_>) -> Told {
        let data = &event.data;
        self.version = event.version;
        let told = |tone, sentence| Told { tone, sentence, change: None };
        let whole = |tone, head: &str, tail: String| told(tone, Sentence::new(head, object, tail));
        let part = |head: &str, part: &str, before: &mut Option<String>, after: String| Told {
            tone: "",
            sentence: Sentence::of_part(head, part, object),
            change: Some((before.replace(after.clone()), after)),
        };
        match event.event_type.as_str() {
            "KeyCreated" => {
                *self = Self {
                    version: event.version,
                    name: Some(personal(data, "name")),
                    description: Some(personal(data, "description")),
                    metadata: Some(personal(data, "metadata")),
                    scopes: Some(words(&data["scopes"])),
                    end: Some(end(&data["expires_at"])),
                };
                let (environment, end) = (words(&data["environment"]), end(&data["expires_at"]));
                whole("good", "created", format!(" for {environment}; it ends: {end}"))
            }
            "KeyRenamed" => {
                let name = personal(data, "name");
                let change = Some((self.name.replace(name.clone()), name));
                Told { change, ..whole("", "renamed", String::new()) }
            }
            "KeyDescriptionChanged" => {
                part("changed", "description", &mut self.description, personal(data, "description"))
            }
            "KeyMetadataChanged" => {
                part("changed", "metadata", &mut self.metadata, personal(data, "metadata"))
            }
            "KeyScopesChanged" => part("changed", "scopes", &mut self.scopes, words(&data["scopes"])),
            "KeyExpiryChanged" => part("changed", "end", &mut self.end, end(&data["expires_at"])),
            "KeyRevoked" => {
                let reason = match data["reason"].as_str() {
                    Some("key_compromise") => ": leaked",
                    Some("superseded") => ": replaced",
                    Some("affiliation_changed") => ": its owner moved on",
                    Some("privilege_withdrawn") => ": its owner is no longer allowed",
                    _ => "",
                };
                whole("bad", "revoked", reason.into())
            }
            "KeyReactivated" => whole("good", "reactivated", String::new()),
            "KeyRotated" => {
                let until = &data["previous_valid_until"];
                let token = format!("{}…{}", words(&data["start"]), words(&data["last_four"]));
                let before = if until.is_null() {
                    "stopped at once".into()
                } else {
                    format!("was accepted until {}", end(until))
                };
                whole("", "gave", format!(" a new token, {token}; the one before {before}"))
            }
            "KeyExpired" => told("bad", Sentence::new("took note that the time of", object, " had come")),
            "KeyDeleted" => whole("bad", "deleted", String::new()),
            _ => of_other(event, object),
        }
    }
}

/// A personal text; it may have been erased.
fn personal(data: &Value, name: &str) -> String {
    match &data[name] {
        Value::Null if data["erased"] == true => "text that was erased".into(),
        value => words(value),
    }
}

/// An event of something that is no key.
fn of_other(event: &Event, object: Object<'_>) -> Told {
    let data = &event.data;
    let whole = |head: &str, tail: String| Told {
        tone: "",
        sentence: Sentence::new(head, object, tail),
        change: None,
    };
    let renamed = || Told { change: Some((None, personal(data, "name"))), ..whole("renamed", String::new()) };
    let deleted = |tail: &str| Told { tone: "bad", ..whole("deleted", tail.into()) };
    let field = |name: &str| words(&data[name]);
    match event.event_type.as_str() {
        "OrganizationCreated" => whole("created", format!(", which is of kind {}", field("kind"))),
        "OrganizationRenamed" | "ApiRenamed" | "ApplicationRenamed" => renamed(),
        "OrganizationKindChanged" => whole("changed", format!(": it is now of kind {}", field("kind"))),
        "OrganizationDeleted" => deleted("; every key of it stopped"),
        "PolicySet" => whole("set the policy of", format!(" for {} keys", field("environment"))),
        "PolicyRemoved" => whole("removed the policy of", format!(" for {} keys", field("environment"))),
        "ClientLinked" => {
            whole(&format!("took {} into the portfolio of", field("client_organization_id")), String::new())
        }
        "ClientUnlinked" => {
            let head = format!("took {} out of the portfolio of", field("client_organization_id"));
            Told { tone: "bad", ..whole(&head, "; every key made for it stopped".into()) }
        }
        "ApiRegistered" => whole("registered", format!(" for the audience {}", field("audience"))),
        "ApiScopesChanged" => {
            let change = Some((None, field("scopes")));
            Told {
                change,
                sentence: Sentence::of_part("changed", "scopes", object),
                ..whole("", String::new())
            }
        }
        "ApiDeleted" => deleted("; every key for it is refused"),
        "RootKeyCreated" => whole("created", format!(", which may {}", field("permissions"))),
        "RootKeyRevoked" => Told { tone: "bad", ..whole("revoked", ", for good".into()) },
        "ApplicationCreated" => whole("created", format!(", which may {}", field("permissions"))),
        "ApplicationPermissionsChanged" => {
            let (change, sentence) =
                (Some((None, field("permissions"))), Sentence::of_part("changed", "permissions", object));
            Told { change, sentence, ..whole("", String::new()) }
        }
        "ApplicationSecretRotated" => whole("gave a new secret to", String::new()),
        "ApplicationDeleted" => deleted(""),
        "PortalSessionCreated" => whole("made", format!(", with the role {}", field("role"))),
        "PortalSessionStarted" => whole("signed in by", String::new()),
        "PortalSessionEnded" => whole("ended", String::new()),
        "WebhookRegistered" => {
            Told { change: Some((None, field("url"))), ..whole("registered", String::new()) }
        }
        "WebhookUrlChanged" => {
            let (change, sentence) =
                (Some((None, field("url"))), Sentence::of_part("changed", "address", object));
            Told { change, sentence, ..whole("", String::new()) }
        }
        "WebhookEventTypesChanged" => {
            let (change, sentence) =
                (Some((None, field("event_types"))), Sentence::of_part("changed", "types of events", object));
            Told { change, sentence, ..whole("", String::new()) }
        }
        "WebhookSecretRotated" => whole("gave a new secret to", String::new()),
        "WebhookDisabled" => Told { tone: "bad", ..whole("disabled", format!(": {}", field("reason"))) },
        "WebhookEnabled" => Told { tone: "good", ..whole("enabled", String::new()) },
        "WebhookDeleted" => deleted(""),
        "PersonalDataErased" => {
            let whose = field("subject");
            Told { tone: "bad", ..whole("erased", format!(": the personal data of one {whose}, for good")) }
        }
        other => whole(other, String::new()),
    }
}

fn nothing() -> String {
    "nothing".into()
}

/// A value in words.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::Null => nothing(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => nothing(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A time in words.
fn end(value: &Value) -> String {
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
    fn changes_are_told_with_what_was_before() {
        let mut known = Known::default();
        let mut change = |event_type: &str, data: Value| {
            let told = known.tell(&event(event_type, data), Object::It);
            (told.sentence.to_string(), told.change)
        };
        let some = |before: &str, after: &str| Some((Some(before.to_owned()), after.to_owned()));
        let created =
            json!({ "name": "prod", "environment": "production", "expires_at": null, "scopes": ["a:b"] });
        assert_eq!(change("KeyCreated", created).0, "created it for production; it ends: never");
        let renamed = change("KeyRenamed", json!({ "name": "Production" }));
        assert_eq!(renamed, ("renamed it".into(), some("prod", "Production")));
        assert_eq!(change("KeyRenamed", json!({ "name": null })).1, some("Production", "nothing"));
        let scopes = change("KeyScopesChanged", json!({ "scopes": [] }));
        assert_eq!(scopes, ("changed its scopes".into(), some("a:b", "nothing")));
        let erased = change("KeyDescriptionChanged", json!({ "description": null, "erased": true }));
        assert_eq!(erased.1, some("nothing", "text that was erased"));
        // Of what is not known, nothing is said.
        let told = Known::default().tell(&event("KeyRenamed", json!({ "name": "x" })), Object::It);
        assert_eq!(told.change, Some((None, "x".into())));
    }

    #[test]
    fn every_event_is_a_sentence() {
        for event_type in EventType::ALL {
            let name = event_type.as_str();
            let told = Known::default().tell(&event(name, json!({})), Object::Named("thing", "N"));
            let sentence = told.sentence.to_string();
            assert!(!sentence.contains(name), "{name} has no sentence: {sentence}");
            assert!(sentence.contains("thing N"), "{name}: {sentence}");
        }
    }
}
