//! Events as files for other programs. All functions are pure: a file depends only on the events and their
//! log, so the service and the replay tool write the same bytes.
//!
//! A file is a header, empty except for CSV, and one line per event. Files of consecutive events can be
//! joined by leaving out the second header. docs/exports.md describes the lines.

mod cloud_events;
mod csv_rows;
mod ocsf;

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::LogId;
use serde_json::{Map, Value};

use crate::audit_trail::event_json;

pub use cloud_events::cloud_event;
pub use ocsf::{PRODUCT as OCSF_PRODUCT, SCHEMA_VERSION as OCSF_VERSION, ocsf_actor, ocsf_event};

/// Format of an event file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One event per line, as the HTTP interface shows it.
    NdJson,
    /// RFC 4180. Every cell is quoted, and no cell is a formula.
    Csv,
    /// One CloudEvents 1.0 event per line, in the JSON format.
    CloudEvents,
    /// One OCSF 1.8.0 event per line.
    Ocsf,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::NdJson, Self::Csv, Self::CloudEvents, Self::Ocsf];

    /// Returns the format's name on command lines and in URLs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NdJson => "ndjson",
            Self::Csv => "csv",
            Self::CloudEvents => "cloudevents",
            Self::Ocsf => "ocsf",
        }
    }

    /// Returns the media type of a file in this format.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::NdJson | Self::CloudEvents | Self::Ocsf => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// Appends the header of a file.
    pub fn write_header(self, file: &mut Vec<u8>) {
        if self == Self::Csv {
            csv_rows::write_header(file);
        }
    }

    /// Appends events of the log `log_id`.
    pub fn write(self, log_id: LogId, records: &[Record], file: &mut Vec<u8>) {
        let to_json: &dyn Fn(&Record) -> Value = match self {
            Self::Csv => return csv_rows::write(records, file),
            Self::NdJson => &event_json,
            Self::CloudEvents => &|record| cloud_event(log_id, record),
            Self::Ocsf => &ocsf_event,
        };
        for record in records {
            // JSON text contains no line breaks.
            file.extend_from_slice(to_json(record).to_string().as_bytes());
            file.push(b'\n');
        }
    }
}

/// Removes the members that are `null`.
fn present(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Replaces an empty object by `null`.
fn not_empty(object: Value) -> Value {
    if object.as_object().is_some_and(Map::is_empty) { Value::Null } else { object }
}
