//! Events as files that other programs read. Every function here is pure: what a file says depends on the events and on
//! the log that they are of, and on nothing else, so that the service and the replay tool write the same bytes.
//!
//! A file is a header, empty but for CSV, and a line for each event; files of events that follow each other can be
//! joined by leaving the second one's header out. docs/exports.md says what a line holds.

mod cloud_events;
mod csv_rows;
mod ocsf;

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::LogId;
use serde_json::{Map, Value};

use crate::audit_trail::event_json;

pub use cloud_events::cloud_event;
pub use ocsf::ocsf_event;

/// How a file of events is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An event a line, as the HTTP interface shows it.
    NdJson,
    /// RFC 4180, every cell in quotes, no cell a formula.
    Csv,
    /// A CloudEvents 1.0 event in the JSON format a line.
    CloudEvents,
    /// An OCSF event a line.
    Ocsf,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::NdJson, Self::Csv, Self::CloudEvents, Self::Ocsf];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NdJson => "ndjson",
            Self::Csv => "csv",
            Self::CloudEvents => "cloudevents",
            Self::Ocsf => "ocsf",
        }
    }

    /// The media type of a file.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::NdJson | Self::CloudEvents | Self::Ocsf => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// Adds what a file begins with.
    pub fn write_header(self, file: &mut Vec<u8>) {
        if self == Self::Csv {
            csv_rows::write_header(file);
        }
    }

    /// Adds events of the log `log_id`.
    pub fn write(self, log_id: LogId, records: &[Record], file: &mut Vec<u8>) {
        let to_json: &dyn Fn(&Record) -> Value = match self {
            Self::Csv => return csv_rows::write(records, file),
            Self::NdJson => &event_json,
            Self::CloudEvents => &|record| cloud_event(log_id, record),
            Self::Ocsf => &ocsf_event,
        };
        for record in records {
            // JSON text holds no line breaks.
            file.extend_from_slice(to_json(record).to_string().as_bytes());
            file.push(b'\n');
        }
    }
}

/// An object without the members that are `null`.
fn present(mut object: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// What is in an object, or nothing if nothing is.
fn not_empty(object: Value) -> Value {
    if object.as_object().is_some_and(Map::is_empty) { Value::Null } else { object }
}
