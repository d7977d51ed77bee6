//! The command `stats`.

use serde_json::json;

use crate::fixture::{Data, revoke};

#[test]
fn everything_is_counted_once() {
    let data = Data::with_projections();
    let mut open = data.open();
    let key = open.create_key("revoked");
    open.change(key, revoke());
    open.close();
    let before = data.files();
    let json = data.run(&["stats", "--json"]).expect(0).json();
    assert_eq!((&json["ok"], &json["head"]), (&true.into(), &48.into()));
    assert_eq!(json["keys"], json!({ "active": 21, "revoked": 1, "expired": 0, "deleted": 0 }));
    assert_eq!(json["organizations"], json!({ "test": 0, "paid": 1, "partner": 0, "free": 0, "deleted": 0 }));
    assert_eq!(
        json["events_by_type"],
        json!({
            "KeyCreated": 22, "KeyDescriptionChanged": 20, "KeyRevoked": 2, "KeyReactivated": 1, "KeyRenamed": 1,
            "KeyRotated": 1, "OrganizationCreated": 1,
        })
    );
    assert_eq!(json["events_by_day"], json!([{ "day": "2026-09-21", "events": 48 }]));
    assert_eq!(json["first_event"], "2026-09-21T14:13:20.000Z");
    assert_eq!(json["checkpoints"]["count"], 0);
    let files: u64 = before.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(json["bytes"].as_u64(), Some(files));

    let text = data.run(&["stats"]).expect(0).stdout;
    for line in
        ["48 events, from 2026-09-21", "  2026-09-21  48\n", "  KeyCreated             22\n", "none signed"]
    {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
    // Bars are drawn on a terminal only.
    assert!(text.is_ascii(), "{text}");
    assert!(data.files() == before);
}
