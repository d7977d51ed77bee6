//! Golden files of all export formats: every event type in every schema ever written, decoded from the log's
//! golden files, and every kind of actor. Other programs read these files, so a difference affects users.

use std::fs;
use std::path::{Path, PathBuf};

use keyledger_engine::codec::decode;
use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::record::Record;
use keyledger_engine::log::LogId;
use keyledger_engine::value::actor::ActorKind;
use keyledger_projections::export::Format;
use serde_json::Value;

/// Set it to write missing golden files. Existing ones are never overwritten.
const WRITE_MISSING: &str = "KEYLEDGER_WRITE_MISSING_GOLDEN_FILES";

const LOG_ID: LogId = LogId(*b"0123456789abcdef");

const ACTORS: [ActorKind; 6] = [
    ActorKind::System,
    ActorKind::RootKey,
    ActorKind::Application,
    ActorKind::PortalSession,
    ActorKind::User,
    ActorKind::Key,
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn records() -> Vec<Record> {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden");
    let mut records = Vec::new();
    for event_type in EventType::ALL {
        for schema in 1..=event_type.schema() {
            let path = stored.join(format!("{event_type}.v{schema}.hex"));
            for line in fs::read_to_string(&path).unwrap().lines() {
                let (_, hex) = line.split_once(' ').unwrap();
                let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
                let entry: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
                records.push(decode(&entry).unwrap());
            }
        }
    }
    let by_everyone = ACTORS.map(|kind| {
        let mut record = records[0].clone();
        record.actor.kind = kind;
        record
    });
    records.extend(by_everyone);
    records
}

fn file(format: Format, records: &[Record]) -> String {
    let mut file = Vec::new();
    format.write_header(&mut file);
    format.write(LOG_ID, records, &mut file);
    String::from_utf8(file).unwrap()
}

#[test]
fn files_stay_what_they_were() {
    let records = records();
    for format in Format::ALL {
        let path = golden(&format!("events.{}", format.as_str()));
        let written = file(format, &records);
        if !path.exists() && std::env::var_os(WRITE_MISSING).is_some() {
            fs::write(&path, &written).unwrap();
        }
        let stored = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; set {WRITE_MISSING}=1 to write it", path.display()));
        for (written, stored) in written.lines().zip(stored.lines()) {
            assert_eq!(written, stored, "{}", path.display());
        }
        assert_eq!(written, stored, "{}: has other lines; delete it and write it again", path.display());
    }
}

#[test]
fn files_can_be_joined() {
    let records = records();
    for format in Format::ALL {
        let whole = file(format, &records);
        for at in [1, 7, records.len()] {
            let (first, second) = records.split_at(at);
            let mut joined = file(format, first).into_bytes();
            format.write(LOG_ID, second, &mut joined);
            assert_eq!(String::from_utf8(joined).unwrap(), whole);
        }
    }
}

#[test]
fn no_format_leaves_out_what_an_event_says() {
    for record in records() {
        let lines = Format::ALL.map(|format| {
            let mut line = Vec::new();
            format.write(LOG_ID, std::slice::from_ref(&record), &mut line);
            String::from_utf8(line).unwrap()
        });
        let [event, csv, cloud_event, ocsf] = &lines;
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(cloud_event)["data"], json(event));
        let csv = csv.replace("\"\"", "\"");
        assert!(csv.contains(&json(event)["data"].to_string()), "{csv}");
        let ocsf = json(ocsf);
        let mut said = ocsf["entity"]["data"].clone();
        if said.is_null() {
            said = ocsf["entity_result"]["data"].clone();
        }
        for (name, value) in json(event)["data"].as_object().unwrap() {
            let found = if name == "note" { &ocsf["comment"] } else { &said[name] };
            assert_eq!(found, value, "{name}: {ocsf}");
        }
        for text in &lines {
            assert!(!text.contains("digest"), "{text}");
        }
    }
}
