//! JSON of requests: it is read without loss, or rejected with what is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

/// Reads an object. Empty text counts as an object without members.
///
/// # Errors
/// `malformed_request` if the text is not JSON. `invalid_request` if it is not an object, is nested too deep,
/// or has a number that the parser would change.
pub(crate) fn read_object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    let text = if text.is_empty() { b"{}" } else { text };
    let value: Value = serde_json::from_slice(text).map_err(|error| refused(&error))?;
    // Serde's derived code would also accept an array of the struct's members.
    if !value.is_object() {
        return Err(Problem::field("", "must be a JSON object"));
    }
    if let Some(offset) = lossy_integer(text) {
        let (line, column) = place(text, offset);
        return Err(Problem::field(
            "",
            format!(
                "the whole number at line {line}, column {column} needs more than 64 bits; send it as a \
                string"
            ),
        ));
    }
    serde_json::from_value(value).map_err(|error| refused(&error))
}

/// Reads an object in one pass. Returns `None` if anything is wrong with it; [`read_object`] then reports
/// what.
pub(crate) fn read_plain_object<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    // Serde's derived code would also accept an array of the struct's members.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let read = serde_json::from_slice(text).ok()?;
    lossy_integer(text).is_none().then_some(read)
}

/// Returns the problem of unreadable text. It names the place and never the content.
fn refused(error: &serde_json::Error) -> Problem {
    let (words, line, column) = (error.to_string(), error.line(), error.column());
    if words.starts_with("recursion limit exceeded") {
        return Problem::field("", "must be nested at most 127 deep");
    }
    if words.starts_with("number out of range") {
        let detail = format!("the number at line {line}, column {column} is past what a double can hold");
        return Problem::field("", detail);
    }
    // Serde reports this when a field appears under more than one of its names.
    if let Some(name) = words.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next()) {
        return Problem::field(format!("/{name}"), "appears more than once, in several spellings; send one");
    }
    Problem::new(
        Code::MalformedRequest,
        format!("the body is not valid JSON at line {line}, column {column}"),
    )
}

/// A whole number that does not fit into 64 bits has at least this many digits.
const LOSSY_DIGITS: usize = 19;

/// Returns the offset of the first whole number that does not fit into 64 bits, which the parser turns into a
/// float. `text` must be JSON.
fn lossy_integer(text: &[u8]) -> Option<usize> {
    if !has_many_digits(text) {
        return None;
    }
    let (mut at, mut in_string) = (0, false);
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'-' | b'0'..=b'9' if !in_string => {
                let rest = text.get(at..).unwrap_or_default();
                let len = rest.iter().position(|it| !b"+-.0123456789Ee".contains(it)).unwrap_or(rest.len());
                let number =
                    rest.get(..len).and_then(|number| std::str::from_utf8(number).ok()).unwrap_or("");
                let is_whole = !number.contains(['.', 'e', 'E']);
                if is_whole && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
                    return Some(at);
                }
                at += len;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns whether the text has a run of at least [`LOSSY_DIGITS`] digits. Most texts have none and need no
/// closer look. Steps of that length cannot miss such a run.
fn has_many_digits(text: &[u8]) -> bool {
    fn digits<'a>(bytes: impl Iterator<Item = &'a u8>) -> usize {
        bytes.take(LOSSY_DIGITS).take_while(|byte| byte.is_ascii_digit()).count()
    }
    let steps = (LOSSY_DIGITS - 1..text.len()).step_by(LOSSY_DIGITS);
    steps.filter_map(|at| text.split_at_checked(at)).any(|(before, after)| {
        let following = digits(after.iter());
        following > 0 && following + digits(before.iter().rev()) >= LOSSY_DIGITS
    })
}

/// Returns the line and the column of a byte, both from 1.
fn place(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (before.iter().filter(|byte| **byte == b'\n').count() + 1, offset - line_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let problem = read_object::<Value>(text.as_bytes()).unwrap_err();
        assert_eq!(problem.code, Code::InvalidRequest, "{text:.50}");
        assert_eq!(problem.errors.first().unwrap().detail, expected, "{text:.50}");
    }

    #[test]
    fn numbers_that_would_change_are_rejected() {
        for text in [
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":0,"d":-0,"e":1.5,"f":1e300}"#,
            r#"{"a":"18446744073709551616 \" 18446744073709551616"}"#,
            "",
        ] {
            assert!(read_object::<Value>(text.as_bytes()).is_ok(), "{text}");
        }
        check(
            "{\"a\":1,\n \"b\": [18446744073709551616]}",
            "the whole number at line 2, column 8 needs more than 64 bits; send it as a string",
        );
        check(
            "{\"\\\\\":-9223372036854775809}",
            "the whole number at line 1, column 7 needs more than 64 bits; send it as a string",
        );
        check("{\"a\":1E400}", "the number at line 1, column 10 is past what a double can hold");
        check(
            &format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127)),
            "must be nested at most 127 deep",
        );
        check("[1]", "must be a JSON object");
    }

    #[test]
    fn a_lossy_number_is_found_at_every_offset() {
        for blanks in 0..40 {
            for number in ["18446744073709551616", "-9223372036854775809"] {
                let text = format!("{{\"a\":{}{number}}}", " ".repeat(blanks));
                assert_eq!(lossy_integer(text.as_bytes()), Some(5 + blanks), "{text}");
                assert!(read_plain_object::<Value>(text.as_bytes()).is_none(), "{text}");
            }
        }
    }

    #[test]
    fn only_objects_are_read_in_one_pass() {
        let read = |text: &str| read_plain_object::<Value>(text.as_bytes());
        assert_eq!(read(" {\"a\": [1]}\n"), Some(serde_json::json!({ "a": [1] })));
        for text in ["", "[]", "[1]", "null", "{", "{} {}", "{\"a\":1E400}"] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_field_has_one_of_its_names() {
        #[derive(Debug, serde::Deserialize)]
        struct Body {
            #[serde(alias = "long_name", rename = "longName")]
            _long_name: u8,
        }
        let problem = read_object::<Body>(br#"{"longName":1,"long_name":1}"#).unwrap_err();
        let error = problem.errors.first().unwrap();
        assert_eq!(error.pointer, "/longName");
        assert_eq!(error.detail, "appears more than once, in several spellings; send one");
    }
}
