//! The outcome of a command: a report or a failure, each with its exit code.

use keyledger_engine::log;
use keyledger_engine::storage::data_directory;
use keyledger_projections::stored::store;
use serde::Serialize;
use serde_json::json;

/// Exit code: the data is damaged, differs or lacks what was asked for.
pub(crate) const WRONG: u8 = 1;
/// Exit code: the command could not run.
pub(crate) const COULD_NOT_RUN: u8 = 2;

/// The findings of a command that ran to its end.
pub(crate) struct Report {
    /// The text for people.
    pub(crate) text: String,
    /// One JSON object.
    pub(crate) json: String,
    /// The error line, if the data is wrong. The exit code is then [`WRONG`].
    pub(crate) wrong: Option<String>,
}

impl Report {
    pub(crate) fn new(text: String, json: &impl Serialize, wrong: Option<String>) -> Result<Self, Failure> {
        let json = serde_json::to_string(json).map_err(|error| {
            Failure::could_not_run(format!("the report cannot be written as JSON: {error}"))
        })?;
        Ok(Self { text, json, wrong })
    }
}

/// A command that did not finish: one line that names the file or argument, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) line: String,
    pub(crate) exit_code: u8,
}

impl Failure {
    pub(crate) fn wrong(line: impl Into<String>) -> Self {
        Self { line: line.into(), exit_code: WRONG }
    }

    pub(crate) fn could_not_run(line: impl Into<String>) -> Self {
        Self { line: line.into(), exit_code: COULD_NOT_RUN }
    }

    pub(crate) fn to_json(&self, command: &str) -> String {
        json!({ "command": command, "ok": false, "error": self.line }).to_string()
    }
}

impl From<data_directory::Error> for Failure {
    fn from(error: data_directory::Error) -> Self {
        Self::could_not_run(error.to_string())
    }
}

impl From<log::Error> for Failure {
    fn from(error: log::Error) -> Self {
        let line = error.to_string();
        let damaged =
            matches!(error, log::Error::Damaged { .. } | log::Error::DamagedFile(_) | log::Error::Record(_));
        if damaged { Self::wrong(line) } else { Self::could_not_run(line) }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Log(error) => error.into(),
            store::Error::Damaged { .. } | store::Error::Poisoned { .. } => Self::wrong(error.to_string()),
            error => Self::could_not_run(error.to_string()),
        }
    }
}

/// A number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
