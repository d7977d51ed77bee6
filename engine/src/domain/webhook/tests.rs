use super::*;
use crate::domain::record::{Personal, Record};
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::actor::Actor;
use crate::value::id::{EventId, WebhookId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn register() -> WebhookCommand {
    let url = "https://example.com/hook".parse().unwrap();
    let facts = WebhookRegistered { url, event_types: vec!["KeyRevoked".parse().unwrap()] };
    WebhookCommand::Register { organization_id: None, facts }
}

fn after_at(webhook: Option<Webhook>, command: &WebhookCommand, now: Timestamp) -> Webhook {
    let events = decide(webhook.as_ref(), None, command, now).unwrap();
    let apply = |webhook: Option<Webhook>, event| {
        let version = webhook.as_ref().map_or(0, |it| it.version.get()) + 1;
        let record = Record {
            position: Position::new(u64::from(version) + 10),
            id: EventId::from_u128(1),
            time: now,
            stream: StreamId::Webhook(WebhookId::from_u128(7)),
            version: Version::new(version),
            organization_id: None,
            actor: Actor::system(),
            request_id: None,
            causation: None,
            event,
            personal: Personal::Readable,
        };
        Webhook::apply(webhook, &record)
    };
    events.into_iter().fold(webhook, apply).unwrap()
}

fn after(webhook: Option<Webhook>, command: &WebhookCommand) -> Webhook {
    after_at(webhook, command, NOW)
}

fn edit(enabled: bool) -> WebhookCommand {
    WebhookCommand::Edit { url: None, event_types: None, enabled: Some(enabled) }
}

#[test]
fn the_secret_before_signs_until_its_time_and_no_longer() {
    let rotate = |overlap_millis| WebhookCommand::RotateSecret { overlap_millis };
    let at = |millis| NOW.saturating_add_millis(millis);
    let generations = |webhook: &Webhook, now| webhook.generations(now).collect::<Vec<_>>();
    let webhook = after(Some(after(None, &register())), &rotate(1_000));
    assert_eq!(generations(&webhook, at(999)), [2, 1]);
    assert_eq!(generations(&webhook, at(1_000)), [2]);
    let webhook = after_at(Some(webhook), &rotate(100), at(10));
    assert_eq!(generations(&webhook, at(109)), [3, 2, 1]);
    assert_eq!(generations(&webhook, at(110)), [3], "an earlier rotation signs no longer than the last");
    let webhook = after_at(Some(webhook), &rotate(0), at(20));
    assert_eq!(generations(&webhook, at(20)), [4], "without an overlap all others end");
    let many = (0..9).fold(webhook, |webhook, _| after_at(Some(webhook), &rotate(1_000), at(30)));
    assert_eq!(generations(&many, at(31)), [13, 12, 11, 10, 9]);
}

#[test]
fn what_changes_nothing_leaves_no_event() {
    let webhook = after(None, &register());
    for command in [
        edit(true),
        WebhookCommand::Edit {
            url: Some(webhook.url.clone()),
            event_types: Some(webhook.event_types.clone()),
            enabled: None,
        },
    ] {
        assert_eq!(decide(Some(&webhook), None, &command, NOW), Ok(Vec::new()));
    }
    let disabled = after(Some(webhook), &WebhookCommand::Disable(DisableReason::Gone));
    assert_eq!((disabled.disabled, disabled.is_enabled()), (Some(DisableReason::Gone), false));
    for command in [edit(false), WebhookCommand::Disable(DisableReason::Failing)] {
        assert_eq!(decide(Some(&disabled), None, &command, NOW), Ok(Vec::new()));
    }
    assert!(after(Some(disabled), &edit(true)).is_enabled());
}

#[test]
fn a_deleted_webhook_stays_deleted() {
    let deleted = after(Some(after(None, &register())), &WebhookCommand::Delete);
    assert!(!deleted.is_enabled());
    for command in [edit(true), WebhookCommand::Delete, WebhookCommand::RotateSecret { overlap_millis: 0 }] {
        assert_eq!(decide(Some(&deleted), None, &command, NOW), Err(Rejection::WebhookDeleted));
        assert_eq!(decide(None, None, &command, NOW), Err(Rejection::WebhookUnknown));
    }
    assert_eq!(decide(Some(&deleted), None, &register(), NOW), Err(Rejection::WebhookExists));
}

#[test]
fn an_organization_must_be_there() {
    let WebhookCommand::Register { facts, .. } = register() else { unreachable!() };
    let bound = WebhookCommand::Register { organization_id: Some("acme".parse().unwrap()), facts };
    assert_eq!(decide(None, None, &bound, NOW), Err(Rejection::OrganizationUnknown));
}

#[test]
fn addresses_are_complete_and_name_no_user() {
    for good in ["https://example.com", "http://[::1]:8080/a?b=c", "https://example.com/%C3%A4"] {
        assert_eq!(good.parse::<WebhookUrl>().unwrap().as_str(), good);
    }
    let long = format!("https://example.com/{}", "x".repeat(2_048));
    for bad in [
        "",
        "example.com",
        "ftp://example.com",
        "HTTPS://example.com",
        "https://",
        "https:///a",
        "https://:80/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:/",
        "https://example.com:+80/",
        "https://[::1]:0/",
        "https://[fe80::1%25eth0]/",
        "https://a@b/",
        "https://u:p@example.com/",
        "https://example.com/#a",
        "https://example.com/ä",
        "https://example.com/a b",
        "https://example.com\\@127.0.0.1/",
        &long,
    ] {
        assert!(bad.parse::<WebhookUrl>().is_err(), "{bad}");
    }
}

#[test]
fn only_what_there_is_can_be_asked_for() {
    assert!("KeyRevoked".parse::<MessageType>().is_ok());
    assert!("KeyExpiringSoon".parse::<MessageType>().is_ok());
    assert!("keyrevoked".parse::<MessageType>().is_err());
    let webhook = after(None, &register());
    assert!(webhook.wants("KeyRevoked") && !webhook.wants("KeyDeleted"));
}
