//! What every request gets, whichever path answers it: a time limit, the completion of its answer, a count
//! and a log line.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::{Sleep, sleep_until};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::request_id::{self, RequestId};
use crate::service::Service;

/// A request must be answered, or its stream begun, within this time.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// The problem of a request that exceeded its time limit.
pub(crate) fn too_slow() -> Problem {
    Problem::new(Code::Overloaded, "the answer took too long")
}

/// The time limit for the requests of one connection, one after the other.
///
/// They share one timer: setting a timer for each request costs more than noticing, when the timer fires,
/// that it was set for an earlier request.
#[derive(Default)]
pub(crate) struct TimeLimit(Option<Pin<Box<Sleep>>>);

impl TimeLimit {
    /// Waits for `answering` until `end`, which must not be earlier than the previous request's.
    ///
    /// # Errors
    /// `overloaded` at `end`.
    pub(crate) async fn wait<T>(
        &mut self,
        end: Instant,
        answering: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let end = end.into();
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        let mut answering = pin!(answering);
        loop {
            tokio::select! {
                biased;
                answer = &mut answering => return Ok(answer),
                () = timer.as_mut() => {
                    if timer.deadline() >= end {
                        return Err(too_slow());
                    }
                    timer.as_mut().reset(end);
                }
            }
        }
    }
}

/// Counts an answer in the metrics and logs it with its method and route.
pub(crate) fn note_answer(
    service: &Service,
    (method, route): (&Method, &str),
    status: StatusCode,
    request_id: &RequestId,
    started: Instant,
) {
    service.metrics.answered(status);
    let (status, request_id, micros) = (status.as_u16(), request_id.as_str(), started.elapsed().as_micros());
    // Changes are in the audit trail with their request id, so a line for every request is for debugging
    // only.
    if status >= 500 {
        tracing::warn!(%method, route, status, request_id, micros, "request");
    } else {
        tracing::debug!(%method, route, status, request_id, micros, "request");
    }
}

/// Completes an answer: sets the headers that every answer has, and writes the body of a problem, which names
/// the request. Waits when many requests exceed their limits and this is one of them.
pub(crate) async fn finish(service: &Service, response: Response, request_id: &RequestId) -> Response {
    let response = complete(service, response, request_id);
    if response.status() == StatusCode::TOO_MANY_REQUESTS
        && let Some(delay) = service.rate_limits.delay()
    {
        tokio::time::sleep(delay).await;
    }
    response
}

fn complete(service: &Service, mut response: Response, request_id: &RequestId) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.code == Code::Overloaded {
            service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
        }
        let code = problem.code;
        *response.body_mut() =
            Body::from(serde_json::to_vec(&problem.body(request_id.as_str())).unwrap_or_default());
        let headers = response.headers_mut();
        // The router has set the length of the body that is replaced here.
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(code, Code::BodyTooLarge | Code::RequestTimeout) {
            // The unread part of the body would be parsed as the next request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    } else if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut refused = Problem::of(Code::MethodNotAllowed).into_response();
        if let Some(allow) = allow {
            refused.headers_mut().insert(header::ALLOW, allow);
        }
        return complete(service, refused, request_id);
    }
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, request_id.to_header());
    service.answer_headers.complete(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_has_its_own_time() {
        let mut limit = TimeLimit::default();
        for _ in 0..3 {
            // The timer has fired for the previous request, or fires now.
            let end = Instant::now() + Duration::from_millis(5);
            let answered = limit.wait(end, std::future::pending::<()>()).await;
            assert_eq!(answered.unwrap_err().code, Code::Overloaded);
            assert!(Instant::now() >= end);
            let later = end + REQUEST_TIME_MAX;
            assert_eq!(limit.wait(later, async { 1 }).await.unwrap(), 1);
        }
        let end = Instant::now() + Duration::from_millis(5);
        assert_eq!(limit.wait(end, async { 1 }).await.unwrap(), 1);
        let answering = tokio::time::sleep_until((end + Duration::from_millis(5)).into());
        assert!(limit.wait(end + REQUEST_TIME_MAX, answering).await.is_ok());
    }
}
