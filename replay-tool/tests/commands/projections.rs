//! The commands `diff` and `rebuild`.

use std::fs;
use std::path::Path;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::KeyCommand;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use crate::fixture::{Data, revoke};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const CHECKPOINT: TableDefinition<'_, (), &[u8]> = TableDefinition::new("checkpoint");

fn of<'a>(json: &'a Value, projection: &str) -> &'a Value {
    let all = json["projections"].as_array().unwrap();
    all.iter().find(|it| it["projection"] == projection).unwrap()
}

fn write(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn row_key(data: &Data) -> Vec<u8> {
    data.key.to_u128().to_be_bytes().to_vec()
}

#[test]
fn diff_finds_the_projections_of_a_stopped_service_equal_and_does_not_write_to_them() {
    let data = Data::with_projections();
    data.save_snapshot(|_| {});
    let before = data.files();
    let json = data.run(&["diff", "--json"]).expect(0).json();
    assert_eq!((&json["ok"], &json["head"]), (&true.into(), &46.into()));
    for projection in ["key-list", "audit-trail", "verification"] {
        let found = of(&json, projection);
        assert_eq!((&found["same"], &found["position"]), (&true.into(), &46.into()), "{found}");
    }
    data.run(&["diff"]).expect(0);
    data.run(&["verify"]).expect(0);
    data.run(&["show", &data.key.to_string()]).expect(0);
    assert!(data.files() == before);
}

#[test]
fn a_projection_behind_the_log_is_compared_at_its_own_position() {
    let data = Data::with_projections();
    data.save_snapshot(|_| {});
    let open = data.open();
    open.change(data.key, revoke());
    open.change(data.key, KeyCommand::Delete);
    open.close();
    let before = data.files();
    let ran = data.run(&["diff"]).expect(0);
    assert!(ran.stdout.contains("key-list: at position 46, 2 behind the log's end"), "{ran:?}");
    let json = data.run(&["diff", "--json"]).expect(0).json();
    for projection in ["key-list", "audit-trail", "verification"] {
        assert_eq!(of(&json, projection)["behind"], 2);
    }
    assert!(data.files() == before);
}

#[test]
fn a_changed_row_is_named() {
    let data = Data::with_projections();
    let path = data.path("projections/key-list.redb");
    let good = fs::read(&path).unwrap();
    let key = row_key(&data);
    write(&path, |transaction| {
        let mut rows = transaction.open_table(ROWS).unwrap();
        let mut value = rows.get(key.as_slice()).unwrap().unwrap().value().to_vec();
        let place = value.windows(7).position(|it| it == b"Billing").unwrap();
        value[place] ^= 1;
        rows.insert(key.as_slice(), value.as_slice()).unwrap();
    });
    let ran = data.run(&["diff"]).expect(1);
    assert!(ran.stderr.contains("key-list") && ran.stderr.contains(&data.key.to_string()), "{ran:?}");
    let json = data.run(&["diff", "--json"]).expect(1).json();
    assert!(of(&json, "key-list")["row"].as_str().unwrap().contains(&data.key.to_string()));
    assert_eq!(of(&json, "audit-trail")["same"], true);

    fs::write(&path, &good).unwrap();
    write(&path, |transaction| {
        transaction.open_table(ROWS).unwrap().remove(key.as_slice()).unwrap();
    });
    let ran = data.run(&["diff"]).expect(1);
    assert!(ran.stderr.contains("in a fresh replay and not in the file"), "{ran:?}");
    data.run(&["rebuild", "--projection", "key-list"]).expect(0);
    data.run(&["diff"]).expect(0);
}

#[test]
fn a_projection_of_another_log_or_version_is_reported_as_different() {
    let data = Data::with_projections();
    let path = data.path("projections/audit-trail.redb");
    let good = fs::read(&path).unwrap();
    for (byte, said) in
        [(0, "another log"), (23, "ahead of the log"), (30, "another event at position 46"), (59, "version")]
    {
        fs::write(&path, &good).unwrap();
        write(&path, |transaction| {
            let mut table = transaction.open_table(CHECKPOINT).unwrap();
            let mut checkpoint = table.get(()).unwrap().unwrap().value().to_vec();
            checkpoint[byte] ^= 0x40;
            table.insert((), checkpoint.as_slice()).unwrap();
        });
        let ran = data.run(&["diff"]).expect(1);
        assert!(ran.stderr.contains("audit-trail") && ran.stderr.contains(said), "{ran:?}");
    }
}

#[test]
fn deleted_projections_are_rebuilt_with_equal_rows() {
    let data = Data::with_projections();
    let rows = |data: &Data, name: &str| {
        let database = Database::open(data.path(&format!("projections/{name}.redb"))).unwrap();
        let rows = database.begin_read().unwrap().open_table(ROWS).unwrap();
        let all = rows.iter().unwrap().map(|row| row.unwrap());
        all.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect::<Vec<_>>()
    };
    let before = ["key-list", "audit-trail"].map(|name| rows(&data, name));
    fs::remove_dir_all(data.path("projections")).unwrap();
    let ran = data.run(&["diff"]).expect(1);
    assert!(ran.stderr.contains("missing"), "{ran:?}");
    let json = data.run(&["rebuild", "--json"]).expect(0).json();
    assert_eq!(of(&json, "key-list")["position"], 46);
    assert_eq!(of(&json, "audit-trail")["position"], 46);
    data.run(&["diff"]).expect(0);
    assert!(["key-list", "audit-trail"].map(|name| rows(&data, name)) == before);
    let mut files: Vec<_> =
        fs::read_dir(data.path("projections")).unwrap().map(|it| it.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["audit-trail.redb", "key-list.redb"]);
}

#[test]
fn a_projection_left_by_a_crash_can_be_compared_and_rebuilt() {
    let data = Data::with_projections();
    let database = Database::open(data.path("projections/key-list.redb")).unwrap();
    let crashed = data.crashed();
    drop(database);
    let before = crashed.files();
    crashed.run(&["diff"]).expect(0);
    assert!(crashed.files() == before);
    crashed.run(&["rebuild"]).expect(0);
    crashed.run(&["diff"]).expect(0);
}

#[test]
fn a_projection_without_need_of_repair_is_read_page_by_page() {
    let data = Data::with_projections();
    // A repair reads all pages into memory. Closing the file after a commit leaves nothing to repair.
    for projection in ["key-list", "audit-trail"] {
        write(&data.path(&format!("projections/{projection}.redb")), |transaction| {
            let mut table = transaction.open_table(CHECKPOINT).unwrap();
            let checkpoint = table.get(()).unwrap().unwrap().value().to_vec();
            table.insert((), checkpoint.as_slice()).unwrap();
        });
    }
    data.run(&["diff"]).expect(0);
}

#[test]
fn a_projection_in_use_is_not_rebuilt() {
    let data = Data::with_projections();
    let database = Database::open(data.path("projections/key-list.redb")).unwrap();
    let ran = data.run(&["rebuild"]).expect(2);
    assert!(ran.stderr.contains("key-list.redb: in use"), "{ran:?}");
    drop(database);
}

#[test]
fn the_verification_snapshot_is_compared_by_diff_and_deleted_by_rebuild() {
    let data = Data::with_projections();
    let path = data.path("projections/verification.snapshot");
    // The index of a service that applied a second revocation in place of the reactivation.
    data.save_snapshot(|record| {
        if let Event::KeyReactivated((), ()) = &record.event {
            let note = keyledger_engine::domain::key::KeyRevokedPersonal { note: None };
            let facts = keyledger_engine::domain::key::KeyRevoked { reason: Default::default() };
            record.event = Event::KeyRevoked(facts, note);
        }
    });
    let ran = data.run(&["diff"]).expect(1);
    assert!(ran.stderr.contains("verification") && ran.stderr.contains(&data.key.to_string()), "{ran:?}");
    let ran = data.run(&["verify"]).expect(1);
    assert!(
        ran.stderr.contains("the log is correct") && ran.stderr.contains(&data.key.to_string()),
        "{ran:?}"
    );
    data.run(&["verify", "--log-only"]).expect(0);
    // Without the log's key, it is compared all the same.
    fs::rename(data.path("log-key"), data.path("elsewhere")).unwrap();
    data.run(&["verify"]).expect(1);
    fs::rename(data.path("elsewhere"), data.path("log-key")).unwrap();

    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = data.run(&["diff"]).expect(1);
    assert!(ran.stderr.contains("its authentication code does not match"), "{ran:?}");

    data.run(&["rebuild", "--projection", "audit-trail"]).expect(0);
    assert!(path.exists());
    let ran = data.run(&["rebuild"]).expect(0);
    assert!(ran.stdout.contains("verification.snapshot deleted"), "{ran:?}");
    assert!(!path.exists());
    assert!(data.run(&["diff"]).expect(0).stdout.contains("verification: no snapshot"));
}
