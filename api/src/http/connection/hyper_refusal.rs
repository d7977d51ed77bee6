//! Replaces the error answers that hyper writes by itself, before there is a request, by problem documents.
//!
//! hyper has no hook for such an answer. It can only be recognized in the bytes that hyper writes: a head of
//! status 4xx without a body and, unlike every answer of the service, without a request id. It is the last
//! thing that hyper writes to a connection. docs/decisions/hyper-refusals.md has the alternatives.

use http::StatusCode;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

/// The head of hyper's own answer is shorter.
const HEAD_LEN_MAX: usize = 256;

/// Returns the bytes to write instead of `bytes` if those end with an error answer of hyper's own.
#[must_use]
pub(crate) fn replaced(bytes: &[u8]) -> Option<Vec<u8>> {
    // A part of a body never matches, whatever it contains: its head was written earlier.
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
/// hyper's own answer has these headers and no others.
const OWN_HEADERS: [&str; 3] = ["connection: close", "content-length: 0", "date: "];

fn problem_of(status: StatusCode) -> Problem {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::of(Code::HeadersTooLarge),
        _ => Problem::new(
            Code::MalformedRequest,
            "not an HTTP/1.1 request: the request line or a header is not in the form that RFC 9112 requires",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Returns what hyper itself writes for a malformed request.
    async fn hypers_answer_to(request: &str) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(256 * 1024);
        let service = hyper::service::service_fn(async |_| {
            Ok::<_, Infallible>(http::Response::new(String::from("hyper accepted the request")))
        });
        let mut connection = hyper::server::conn::http1::Builder::new();
        connection.max_headers(100).max_buf_size(16 * 1024);
        client.write_all(request.as_bytes()).await.unwrap();
        let ended = connection.serve_connection(TokioIo::new(server), service).await;
        assert!(ended.is_err(), "hyper accepts {request:.60}");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    }

    /// Fails if a new version of hyper writes its own answers in another form.
    #[tokio::test]
    async fn what_hyper_writes_is_recognized() {
        let long = format!("GET / HTTP/1.1\r\nx-long: {}\r\n\r\n", "a".repeat(60_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x-many: 1\r\n".repeat(101));
        for (request, code) in [
            (long.as_str(), "headers_too_large"),
            (many.as_str(), "headers_too_large"),
            ("GET / HTTP/1.1\r\na b: c\r\n\r\n", "malformed_request"),
            ("GET / HTTP/9.9\r\n\r\n", "malformed_request"),
            ("G(T / HTTP/1.1\r\n\r\n", "malformed_request"),
            ("GET\r\n\r\n", "malformed_request"),
            ("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n", "malformed_request"),
        ] {
            let answer = hypers_answer_to(request).await;
            let replacement = replaced(&answer);
            let replacement = replacement.unwrap_or_else(|| {
                panic!("hyper answers {request:.60} with {:?}", String::from_utf8_lossy(&answer))
            });
            let replacement = String::from_utf8(replacement).unwrap();
            let (head, body) = replacement.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 4") && head.contains("x-request-id: "), "{head}");
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["code"], code, "{request:.60}");
        }
    }

    const HYPERS: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
        content-length: 0\r\n\
        date: Sat, 21 Nov 2026 09:30:00 GMT\r\n\r\n";

    #[test]
    fn only_hypers_own_answer_is_replaced() {
        let earlier = "HTTP/1.1 204 No Content\r\nx-request-id: a\r\n\r\n";
        let replacement = replaced(format!("{earlier}{HYPERS}").as_bytes()).unwrap();
        let replacement = String::from_utf8(replacement).unwrap();
        assert!(
            replacement.starts_with(&format!("{earlier}HTTP/1.1 431 Request Header Fields Too Large\r\n")),
            "{replacement}"
        );
        assert!(replacement.contains("headers_too_large"), "{replacement}");
        for ours in [
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "",
            // Text from a caller, in a later part of an answer.
            &format!("1f\r\n{HYPERS}"),
            &HYPERS.replace("connection: close", "a description"),
        ] {
            assert_eq!(replaced(ours.as_bytes()), None, "{ours}");
        }
    }
}
