//! Events as CSV (RFC 4180), safe to open in a spreadsheet.

use keyledger_engine::domain::record::Record;
use serde_json::Value;

use crate::audit_trail::event_json;

const COLUMNS: [&str; 16] = [
    "position",
    "time",
    "type",
    "key_id",
    "organization_id",
    "actor_kind",
    "actor_id",
    "actor_ip",
    "actor_user_agent",
    "request_id",
    "id",
    "causation_id",
    "stream_kind",
    "stream_id",
    "version",
    "data",
];

/// Characters that start a formula in spreadsheets, some also in their full-width form (OWASP, "CSV
/// Injection").
const FORMULA_STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

pub(super) fn write_header(file: &mut Vec<u8>) {
    write_rows([COLUMNS.map(String::from)], file);
}

pub(super) fn write(records: &[Record], file: &mut Vec<u8>) {
    let rows = records.iter().map(|record| {
        let event = event_json(record);
        COLUMNS.map(|column| cell(&event, column))
    });
    write_rows(rows, file);
}

fn write_rows(rows: impl IntoIterator<Item = [String; COLUMNS.len()]>, file: &mut Vec<u8>) {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .quote_style(csv::QuoteStyle::Always)
        .from_writer(file);
    for row in rows {
        // Writing to memory does not fail, and all rows have the same number of cells.
        let _ = writer.write_record(row);
    }
    let _ = writer.flush();
}

/// Returns the cell of an event in a column.
fn cell(event: &Value, column: &str) -> String {
    let value = match column {
        "actor_kind" | "actor_id" | "actor_ip" | "actor_user_agent" => {
            event.get("actor").and_then(|actor| actor.get(column.trim_start_matches("actor_")))
        }
        "stream_kind" | "stream_id" => {
            event.get("stream").and_then(|stream| stream.get(column.trim_start_matches("stream_")))
        }
        _ => event.get(column),
    };
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => as_text(text),
        // A number, or an object, which starts with a brace.
        Some(value) => value.to_string(),
    }
}

/// Prefixes a text with an apostrophe if a spreadsheet could take it for a formula, with or without leading
/// blanks.
fn as_text(text: &str) -> String {
    let is_formula = text.starts_with(['\t', '\r', '\n']) || text.trim_start().starts_with(FORMULA_STARTS);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        for formula in
            ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u{a0}=1", "＝1+1", "＠A1"]
        {
            let event = serde_json::json!({ "request_id": formula });
            assert_eq!(cell(&event, "request_id"), format!("'{formula}"));
        }
        let event = serde_json::json!({ "position": 7, "key_id": null, "actor": { "ip": "::1" } });
        assert_eq!(cell(&event, "position"), "7");
        assert_eq!(cell(&event, "key_id"), "");
        assert_eq!(cell(&event, "actor_ip"), "::1");
    }

    #[test]
    fn cells_stay_cells() {
        let mut file = Vec::new();
        let mut row = [const { String::new() }; COLUMNS.len()];
        row[0] = "a\r\n\"b\",c;=1".into();
        write_rows([row], &mut file);
        let text = String::from_utf8(file).unwrap();
        assert!(text.starts_with("\"a\r\n\"\"b\"\",c;=1\",\"\","), "{text}");
        assert!(text.ends_with("\"\"\r\n"), "{text}");
    }
}
