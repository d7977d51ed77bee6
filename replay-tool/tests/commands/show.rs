//! The command `show`.

use keyledger_engine::domain::key::KeyCommand;
use keyledger_engine::domain::organization::OrganizationCommand;
use keyledger_engine::ledger::Command;
use keyledger_engine::value::time::Timestamp;

use crate::fixture::{Data, FIRST_NAME, START, acme};

const MEMBERS: [&str; 19] = [
    "id",
    "organization_id",
    "owner",
    "client_organization_id",
    "user_id",
    "name",
    "description",
    "environment",
    "api_id",
    "scopes",
    "metadata",
    "status",
    "start",
    "last_four",
    "created_at",
    "expires_at",
    "revoked_at",
    "version",
    "created_by",
];

#[test]
fn a_key_is_shown_with_its_history() {
    let data = Data::new();
    let id = data.key.to_string();
    let json = data.run(&["show", &id, "--json"]).expect(0).json();
    let members: Vec<_> = json["key"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, MEMBERS);
    assert_eq!((&json["key"]["name"], &json["key"]["version"]), (&"Billing".into(), &5.into()));
    let types: Vec<_> =
        json["events"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["KeyCreated", "KeyRenamed", "KeyRevoked", "KeyReactivated", "KeyRotated"]);
    let text = data.run(&["show", &id]).expect(0).stdout;
    for said in [
        &format!("named \"{FIRST_NAME}\""),
        "name set to \"Billing\"",
        "revoked (key_compromise): \"found in a public repository\", by root key rk_00000000000000000000000001 from 192.0.2.7",
        "reactivated",
        "previous token valid until",
        "position 6, version 5",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_key_is_shown_as_of_a_time_or_position() {
    let data = Data::new();
    let id = data.key.to_string();
    let status = |at: &str| {
        let json = data.run(&["show", &id, "--json", "--at", at]).expect(0).json();
        let (key, events) = (&json["key"], json["events"].as_array().unwrap().len());
        (key["status"].as_str().unwrap().to_owned(), key["name"].as_str().unwrap().to_owned(), events)
    };
    let active = |name: &str, events| ("active".to_owned(), name.to_owned(), events);
    assert_eq!(status("2"), active(FIRST_NAME, 1));
    assert_eq!(status("4"), ("revoked".to_owned(), "Billing".to_owned(), 3));
    assert_eq!(status("46"), active("Billing", 5));
    let records = data.reader();
    let records = keyledger_engine::log::LogReader::read(&*records, Default::default(), 6).unwrap();
    assert_eq!(status(&records[3].time.to_string()), ("revoked".to_owned(), "Billing".to_owned(), 3));
    let just_before = records[3].time.saturating_add_millis(-1).to_string();
    assert_eq!(status(&just_before), active("Billing", 2));

    for (at, code) in [("1", 1), ("47", 2), ("yesterday", 2), ("-1", 2), ("99999999999999999999", 2)] {
        let ran = data.run(&["show", &id, &format!("--at={at}")]).expect(code);
        assert!(ran.stderr.contains("--at"), "{ran:?}");
    }
    let early = Timestamp::from_millis(START - 1).to_string();
    data.run(&["show", &id, "--at", &early]).expect(1);
}

#[test]
fn an_unknown_key_is_an_error_and_a_token_is_not_repeated() {
    let data = Data::new();
    let ran = data.run(&["show", "key_00000000000000000000000000"]).expect(1);
    assert!(ran.stderr.starts_with("key_00000000000000000000000000: no such key"), "{ran:?}");
    let token = "kl_live_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM";
    let ran = data.run(&["show", token]).expect(2);
    assert!(ran.stderr.contains("KEY") && !ran.stderr.contains(token), "{ran:?}");
}

#[test]
fn keys_of_a_deleted_organization_and_deleted_keys_are_shown() {
    let data = Data::new();
    let open = data.open();
    open.execute(Command::Organization(acme(), OrganizationCommand::Delete));
    open.close();
    let id = data.key.to_string();
    let text = data.run(&["show", &id]).expect(0).stdout;
    assert!(text.contains("active, refused since its organization was deleted"), "{text}");
    let text = data.run(&["show", &id, "--at", "46"]).expect(0).stdout;
    assert!(!text.contains("organization was deleted"), "{text}");
    let open = data.open();
    open.change(data.key, KeyCommand::Delete);
    open.close();
    assert_eq!(data.run(&["show", &id, "--json"]).expect(0).json()["key"]["status"], "deleted");
}
