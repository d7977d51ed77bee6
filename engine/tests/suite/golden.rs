//! Golden files: the bytes of every event type and schema ever written. They are never regenerated: a
//! difference means that existing logs would be read differently.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use keyledger_engine::codec::{decode, encode};
use keyledger_engine::domain::event::{Event, EventType};
use keyledger_engine::domain::record::Record;

use crate::samples;

/// Environment variable that makes the test write missing files, and only those.
const WRITE_MISSING: &str = "KEYLEDGER_WRITE_MISSING_GOLDEN_FILES";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Expected records of a golden file, with their labels. An older schema gets an arm of its own here, with
/// what the upcasters return.
fn expected(event_type: EventType, schema: u16) -> [(&'static str, Record); 2] {
    if (event_type, schema) == (EventType::PortalSessionCreated, 1) {
        return [true, false].map(|full| {
            let mut record = samples::record(event_type, full);
            if let Event::PortalSessionCreated(facts, _) = &mut record.event {
                facts.ends_by = None;
            }
            (if full { "full" } else { "bare" }, record)
        });
    }
    assert_eq!(schema, event_type.schema(), "{event_type} of schema {schema} has no expected records here");
    [("full", samples::record(event_type, true)), ("bare", samples::record(event_type, false))]
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn stored_bytes_stay_what_they_were() {
    let mut wanted = BTreeSet::new();
    for event_type in EventType::ALL {
        for schema in 1..=event_type.schema() {
            let name = format!("{event_type}.v{schema}.hex");
            let path = directory().join(&name);
            let expected = expected(*event_type, schema);
            if !path.exists() && std::env::var_os(WRITE_MISSING).is_some() {
                assert_eq!(
                    schema,
                    event_type.schema(),
                    "{name}: the file of an older schema cannot be regenerated"
                );
                let lines = expected
                    .iter()
                    .map(|(name, record)| format!("{name} {}\n", to_hex(&encode(record).unwrap())));
                fs::write(&path, lines.collect::<String>()).unwrap();
            }
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{name}: {error}; set {WRITE_MISSING}=1 once to write it"));
            assert_eq!(text.lines().count(), expected.len(), "{name}");
            for (line, (label, record)) in text.lines().zip(expected) {
                let (name_found, hex) = line.split_once(' ').unwrap();
                assert_eq!(name_found, label, "{name}");
                let stored = from_hex(hex);
                assert_eq!(
                    decode(&stored).unwrap(),
                    record,
                    "{name}, {label}: decodes differently than before"
                );
                if schema == event_type.schema() {
                    let written = to_hex(&encode(&record).unwrap());
                    assert_eq!(written, hex, "{name}, {label}: encodes differently than before");
                }
            }
            wanted.insert(name);
        }
    }
    let present: BTreeSet<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(present, wanted, "there must be exactly one file for each event type and schema");
}

/// The example in docs/format.md, byte by byte.
#[test]
fn the_example_of_the_documentation_is_right() {
    let documentation = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let text = fs::read_to_string(documentation).unwrap();
    let example = text.split("<!-- example -->").nth(1).unwrap();
    let documented: String =
        example.lines().filter_map(|line| line.strip_prefix("    ")?.split("  ").next()).collect();
    let record = samples::record(EventType::KeyReactivated, false);
    assert_eq!(documented.replace(' ', ""), to_hex(&encode(&record).unwrap()));
}
