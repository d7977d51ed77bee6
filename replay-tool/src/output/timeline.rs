//! Events in words. Texts chosen by clients are escaped, so that they cannot send control sequences to a
//! terminal.

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{KeyCreated, KeyCreatedPersonal, KeyRotated, OwnerKind};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::text::{Metadata, Scope};
use keyledger_engine::value::time::Timestamp;

/// Longer texts are cut to this many characters. `--json` has the full text.
const CHARS_MAX: usize = 120;

/// A record in one line: time, position, version, what happened, actor and cause.
pub(crate) fn sentence(record: &Record) -> String {
    let (time, position) = (record.time, record.position);
    let what = happened(record);
    let who = by(&record.actor);
    let because = record.causation.map(|event| format!(", caused by {event}")).unwrap_or_default();
    format!("{time}  position {position}, version {}: {what}, by {who}{because}", record.version)
}

/// Shown in place of a text whose sealing key was destroyed.
pub(crate) const ERASED: &str = "[erased]";

fn happened(record: &Record) -> String {
    let is_erased = record.personal == Personal::Erased;
    match &record.event {
        Event::KeyCreated(facts, personal) if is_erased => {
            format!("{}, personal text {ERASED}", created(facts, personal))
        }
        Event::KeyRenamed(..) if is_erased => format!("name set to {ERASED}"),
        Event::KeyDescriptionChanged(..) if is_erased => format!("description set to {ERASED}"),
        Event::KeyMetadataChanged(..) if is_erased => format!("metadata set to {ERASED}"),
        Event::KeyRevoked(facts, _) if is_erased => format!("revoked ({}): {ERASED}", facts.reason),
        Event::KeyCreated(facts, personal) => created(facts, personal),
        Event::KeyRenamed((), personal) => changed("name", personal.name.as_ref().map(|it| it.as_str())),
        Event::KeyDescriptionChanged((), personal) => {
            changed("description", personal.description.as_ref().map(|it| it.as_str()))
        }
        Event::KeyMetadataChanged((), personal) => match &personal.metadata {
            Some(metadata) => format!("metadata set to {}", plain(metadata.as_json())),
            None => "metadata removed".into(),
        },
        Event::KeyScopesChanged(facts, ()) if facts.scopes.is_empty() => "all scopes removed".into(),
        Event::KeyScopesChanged(facts, ()) => format!("scopes set to {}", scopes(&facts.scopes)),
        Event::KeyExpiryChanged(facts, ()) => match facts.expires_at {
            Some(end) => format!("expiry set to {end}"),
            None => "expiry removed".into(),
        },
        Event::KeyRevoked(facts, personal) => {
            let note = personal.note.as_ref().map(|note| format!(": {}", quoted(note.as_str())));
            format!("revoked ({}){}", facts.reason, note.unwrap_or_default())
        }
        Event::KeyReactivated((), ()) => "reactivated".into(),
        Event::KeyRotated(facts, ()) => rotated(facts, record.time),
        Event::KeyExpired(facts, ()) => format!("expired (expiry was {})", facts.expires_at),
        Event::KeyDeleted((), ()) => "deleted".into(),
        // Not expected in a key's stream. Its type name is better than nothing.
        event => event.event_type().to_string(),
    }
}

fn created(facts: &KeyCreated, personal: &KeyCreatedPersonal) -> String {
    let mut parts = vec![format!("created for {}", facts.environment)];
    if let Some(name) = &personal.name {
        parts.push(format!("named {}", quoted(name.as_str())));
    }
    match (&facts.owner.kind, &facts.owner.client_id) {
        (OwnerKind::Partner, _) => parts.push("for the partner's portfolio".into()),
        (OwnerKind::Client, Some(client_id)) => parts.push(format!("for the client {client_id}")),
        _ => {}
    }
    if let Some(user_id) = &personal.user_id {
        parts.push(format!("for the user {}", quoted(user_id.as_str())));
    }
    if let Some(description) = &personal.description {
        parts.push(format!("description {}", quoted(description.as_str())));
    }
    if let Some(api_id) = facts.api_id {
        parts.push(format!("for {api_id}"));
    }
    if !facts.scopes.is_empty() {
        parts.push(format!("with the scopes {}", scopes(&facts.scopes)));
    }
    if let Some(metadata) = personal.metadata.as_ref().map(Metadata::as_json) {
        parts.push(format!("with the metadata {}", plain(metadata)));
    }
    match facts.expires_at {
        Some(end) => parts.push(format!("expires at {end}")),
        None => parts.push("never expires".into()),
    }
    parts.push(format!("token {}...{}", facts.hint.start, facts.hint.last_four));
    parts.join(", ")
}

fn rotated(facts: &KeyRotated, time: Timestamp) -> String {
    let token = format!("{}...{}", facts.hint.start, facts.hint.last_four);
    if facts.previous_valid_until > time {
        format!("new token {token}, previous token valid until {}", facts.previous_valid_until)
    } else {
        format!("new token {token}, previous token no longer valid")
    }
}

fn changed(what: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{what} set to {}", quoted(text)),
        None => format!("{what} removed"),
    }
}

fn scopes(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
}

fn by(actor: &Actor) -> String {
    let who = match actor.kind {
        ActorKind::System => "the system".to_owned(),
        kind => format!("{} {}", kind.as_str().replace('_', " "), plain(&actor.id)),
    };
    match actor.ip {
        Some(ip) => format!("{who} from {ip}"),
        None => who,
    }
}

/// A text in quotation marks, truncated and escaped like [`plain`].
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text).replace('"', "\\\""))
}

/// A text truncated to [`CHARS_MAX`], with control and formatting characters escaped.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == CHARS_MAX {
            shown.push_str("...");
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(quoted(text), shown);
    }

    #[test]
    fn texts_cannot_send_control_sequences_to_a_terminal() {
        check("Production \u{1f511} naïve", "\"Production \u{1f511} naïve\"");
        check("two\nlines", "\"two\\nlines\"");
        check("\u{1b}[2J", "\"\\u{1b}[2J\"");
        check("\u{202e}gnp.exe", "\"\\u{202e}gnp.exe\"");
        check("say \"x\"", "\"say \\\"x\\\"\"");
        check(&"x".repeat(121), &format!("\"{}...\"", "x".repeat(120)));
    }
}
