//! The command `verify`, and how every command reports a directory that it cannot use.

use std::fs;

use keyledger_engine::log::LogReader;
use keyledger_engine::log::redb::FILE_NAME;
use keyledger_engine::value::position::Position;
use keyledger_engine::vault;

use crate::fixture::{Data, run};

#[test]
fn an_intact_log_is_verified() {
    let data = Data::new();
    let root: String =
        data.reader().frontier().unwrap().root().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = data.run(&["verify"]).expect(0).stdout;
    assert!(text.contains("positions: 1 to 46") && text.contains(&root), "{text}");
    assert!(text.contains("events/s"), "{text}");
    let json = data.run(&["verify", "--json"]).expect(0).json();
    assert_eq!((&json["ok"], &json["head"], &json["root_hash"]), (&true.into(), &46.into(), &root.into()));
    assert_eq!(json["finding"], serde_json::Value::Null);
}

#[test]
fn a_changed_entry_is_found_at_its_position() {
    let data = Data::new();
    let path = data.path(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    // The event's id, because names are sealed.
    let id = data.reader().read(Position::new(1), 1).unwrap()[0].id.to_u128().to_be_bytes();
    let places: Vec<usize> = (0..bytes.len() - id.len()).filter(|at| bytes[*at..].starts_with(&id)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let ran = data.run(&["verify", "--json"]).expect(1);
    let json = ran.json();
    assert_eq!((&json["ok"], &json["finding"]["position"]), (&false.into(), &2.into()));
    assert!(ran.stderr.contains(path.to_str().unwrap()) && ran.stderr.contains("position 2"), "{ran:?}");
    let ran = data.run(&["verify"]).expect(1);
    assert!(ran.stdout.contains("first bad position: 2"), "{ran:?}");
    let key = data.key.to_string();
    data.run(&["rebuild"]).expect(1);
    data.run(&["show", &key]).expect(1);
}

#[test]
fn a_log_left_by_a_crash_can_be_verified() {
    let data = Data::new();
    let mut open = data.open();
    let key = open.create_key("the last key");
    let crashed = data.crashed();
    open.close();
    assert_eq!(crashed.run(&["verify", "--json"]).expect(0).json()["head"], 47);
    crashed.run(&["show", &key.to_string()]).expect(0);
}

#[test]
fn a_log_in_use_is_not_touched() {
    let data = Data::with_projections();
    let open = data.open();
    let before = data.files();
    let key = data.key.to_string();
    let commands: [&[&str]; 4] = [&["verify"], &["rebuild"], &["diff"], &["show", &key]];
    for command in commands {
        let ran = data.run(command).expect(2);
        assert!(ran.stderr.contains(FILE_NAME) && ran.stderr.contains("stop the service"), "{ran:?}");
        let json = data.run(&[command, &["--json"]].concat()).expect(2).json();
        assert_eq!((&json["command"], &json["ok"]), (&command[0].into(), &false.into()));
    }
    assert!(data.files() == before);
    open.close();
}

#[test]
fn a_missing_directory_or_log_is_named() {
    let data = Data::new();
    let missing = data.path("missing");
    let missing = missing.to_str().unwrap();
    let ran = run(&["verify", "--data", missing]).expect(2);
    assert!(ran.stderr.starts_with(missing), "{ran:?}");
    let log = data.path(FILE_NAME);
    let ran = run(&["diff", "--data", log.to_str().unwrap()]).expect(2);
    assert!(ran.stderr.contains("not a directory"), "{ran:?}");
    fs::remove_file(&log).unwrap();
    for command in ["verify", "rebuild", "diff"] {
        let ran = data.run(&[command]).expect(2);
        assert!(ran.stderr.starts_with(log.to_str().unwrap()), "{ran:?}");
    }
    let left = ["events.journal", vault::FILE_NAME];
    assert!(data.files().iter().all(|(path, _)| left.iter().any(|name| path.ends_with(name))));
    fs::write(&log, "").unwrap();
    data.run(&["verify"]).expect(1);
}

#[test]
fn a_wrong_command_line_is_reported_in_one_line() {
    let none: [&[&str]; 6] = [
        &[],
        &["verify"],
        &["unknown"],
        &["verify", "--data", ".", "--fast"],
        &["rebuild", "--data", ".", "--projection", "x"],
        &["show", "--data", "."],
    ];
    for arguments in none {
        let ran = run(arguments).expect(2);
        assert!(ran.stderr.contains("--help"), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
    assert!(run(&["--help"]).expect(0).stdout.contains("rebuild"));
}
