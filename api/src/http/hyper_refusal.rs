//! What the HTTP library refuses by itself, before there is a request: said as every other problem is.
//!
//! It gives no other sign of such an answer than the bytes that it writes: a head of status 4xx without a body, and, unlike
//! every answer of the service, without a request's id. It is the last that it writes to a connection.

use http::StatusCode;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

/// The library's own head is shorter.
const HEAD_LEN_MAX: usize = 256;

/// What to write in the place of `bytes` if they end with an answer of the library's own.
#[must_use]
pub(crate) fn in_own_words(bytes: &[u8]) -> Option<Vec<u8>> {
    // A piece of a body is never taken for one, whatever it says: its head went out before it.
    if !bytes.starts_with(b"HTTP/1.1 ") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let tail_start = bytes.len().saturating_sub(HEAD_LEN_MAX);
    let tail = bytes.get(tail_start..)?;
    let start = tail.windows(START.len()).rposition(|window| window == START)?;
    let head = std::str::from_utf8(tail.get(start..)?).ok()?.to_ascii_lowercase();
    let mut headers = head.split("\r\n").skip(1).filter(|line| !line.is_empty());
    let is_own = headers.all(|line| OWN_HEADERS.iter().any(|own| line.starts_with(own)));
    if !is_own || !head.contains("\r\ncontent-length: 0\r\n") {
        return None;
    }
    let status: StatusCode = head.get(START.len() - 1..)?.get(..3)?.parse().ok()?;
    let mut instead = bytes.get(..tail_start + start)?.to_vec();
    instead.extend(problem_of(status).into_http(&RequestId::draw()));
    Some(instead)
}

const START: &[u8] = b"HTTP/1.1 4";
/// It writes these headers and no others.
const OWN_HEADERS: [&str; 3] = ["connection: close", "content-length: 0", "date: "];

fn problem_of(status: StatusCode) -> Problem {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::of(Code::HeadersTooLarge),
        _ => Problem::new(
            Code::MalformedRequest,
            "this is not a request of HTTP/1.1: its first line, or one of its headers, has another form than RFC 9112 says",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARYS: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
        date: Sat, 21 Nov 2026 09:30:00 GMT\r\n\r\n";

    #[test]
    fn only_the_librarys_own_answer_is_said_anew() {
        let earlier = "HTTP/1.1 204 No Content\r\nx-request-id: a\r\n\r\n";
        let said = in_own_words(format!("{earlier}{LIBRARYS}").as_bytes()).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.starts_with(&format!("{earlier}HTTP/1.1 431 Request Header Fields Too Large\r\n")),
            "{said}"
        );
        assert!(said.contains("headers_too_large"), "{said}");
        for ours in [
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "",
            // What somebody wrote, in a later piece of an answer.
            &format!("1f\r\n{LIBRARYS}"),
            &LIBRARYS.replace("connection: close", "a description"),
        ] {
            assert_eq!(in_own_words(ours.as_bytes()), None, "{ours}");
        }
    }
}
