//! One connection: its bytes, its requests in turn, and when it ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath};
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Sleep, sleep_until};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::activity::{Activity, NotedStream};
use crate::http::fast_path::{Next, answer_plain_requests};
use crate::http::listener::Socket;
use crate::http::request_id::{self, RequestId};
use crate::http::server::Stop;
use crate::service::Service;

/// All headers of a request, in bytes.
const HEADERS_LEN_MAX: usize = 16 * 1024;
/// A connection on which nothing is answered for this long, or at most twice as long, is closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// A request must be answered, or its stream begun, within this time.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// What the requests of one connection share.
pub(crate) struct Connection {
    /// Who answers.
    pub service: Arc<Service>,
    /// The calls.
    pub router: Router,
    /// The other side's address.
    pub peer: SocketAddr,
}

impl Connection {
    /// Answers what comes until the other side closes, nothing happens for a minute, or the service stops.
    pub(crate) async fn serve(self, stream: Box<dyn Socket>, stop: Stop) {
        let peer = self.peer;
        let activity = Arc::new(Activity::default());
        let stream = NotedStream::new(stream, Arc::clone(&activity));
        let served = tokio::spawn(async move {
            if let Err(error) = self.answer(stream, stop).await {
                tracing::debug!(error, %peer, "a connection ended early");
            }
        });
        // Beside the task that answers, so that no request has to look at the timer.
        let answering = served.abort_handle();
        tokio::select! {
            _ = served => {}
            () = activity.ceased(IDLE_TIME_MAX) => answering.abort(),
        }
    }

    async fn answer(
        self,
        mut stream: NotedStream<Box<dyn Socket>>,
        mut stop: Stop,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match answer_plain_requests(&mut stream, &self.service, self.peer.ip(), stop.told()).await? {
            Next::Closed => return Ok(()),
            Next::HandOver(unread) => stream.put_back(unread),
        }
        let connection = Arc::new(self);
        let respond = service_fn(|request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.respond(request).await) }
        });
        let mut serving = std::pin::pin!(
            hyper::server::conn::http1::Builder::new()
                .max_buf_size(HEADERS_LEN_MAX)
                // The connection has a timer of its own.
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), respond)
        );
        tokio::select! {
            biased;
            served = serving.as_mut() => return Ok(served?),
            () = stop.told() => {}
        }
        serving.as_mut().graceful_shutdown();
        Ok(serving.await?)
    }

    /// Answers one request by the router.
    async fn respond(&self, mut request: Request<Incoming>) -> Response {
        let request_id = RequestId::of(request.headers());
        let method = request.method().clone();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(request_id.clone());
        let refused = check_host(&request).err();
        let router = self.router.clone();
        let answering = async move {
            match refused {
                Some(problem) => Ok(problem.into_response()),
                None => tower::ServiceExt::oneshot(router, request.map(Body::new)).await,
            }
        };
        answered_in_time(&self.service, &method, &request_id, answering).await
    }
}

/// Waits for the answer to a request, but not for ever, and completes it: the outermost layer, which knows the request's id.
async fn answered_in_time<E: IntoResponse>(
    service: &Service,
    method: &Method,
    request_id: &RequestId,
    answering: impl Future<Output = Result<Response, E>>,
) -> Response {
    let started = Instant::now();
    let response = match tokio::time::timeout(REQUEST_TIME_MAX, answering).await {
        Ok(answer) => answer.into_response(),
        Err(_) => too_slow().into_response(),
    };
    let matched = response.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let response = finish(service, response, request_id);
    note_answer(service, (method, route), response.status(), request_id, started);
    response
}

fn too_slow() -> Problem {
    Problem::new(Code::Overloaded, "the answer took too long")
}

/// How long the requests of a connection may take, one after the other. It has one timer for all of them: setting one for
/// each costs more than to see, when it goes off, that it was for an earlier request.
#[derive(Default)]
pub(crate) struct TimeLimit(Option<Pin<Box<Sleep>>>);

impl TimeLimit {
    /// Waits for what a request is answered with, but not past `end`, which is not before that of the request before.
    ///
    /// # Errors
    /// `overloaded` when it took too long.
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

/// Counts an answer to a call, a method and its route, and has a line for it in the service's own log.
pub(crate) fn note_answer(
    service: &Service,
    (method, route): (&Method, &str),
    status: StatusCode,
    request_id: &RequestId,
    started: Instant,
) {
    service.metrics.answered(status);
    let micros = started.elapsed().as_micros();
    // What changed is in the audit trail, with the request's id; a line for every request is for who asks for it.
    if status.is_server_error() {
        tracing::warn!(%method, route, status = status.as_u16(), request_id = request_id.as_str(), micros, "request");
    } else {
        tracing::debug!(%method, route, status = status.as_u16(), request_id = request_id.as_str(), micros, "request");
    }
}

/// Refuses a request of HTTP/1.1 that does not say once, and in the right form, whom it is for (RFC 9112 §3.2).
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(header::HOST).iter().collect();
    let is_right = match hosts.as_slice() {
        [] => request.version() < Version::HTTP_11,
        [host] => is_host(host.as_bytes()),
        _ => false,
    };
    let wrong = "a request of HTTP/1.1 must have one Host header, such as `Host: keys.example.com`";
    if is_right { Ok(()) } else { Err(Problem::new(Code::MalformedRequest, wrong)) }
}

/// Whether a `Host` names a host, with or without a port, or nothing at all (RFC 9110 §7.2).
fn is_host(value: &[u8]) -> bool {
    value.is_empty() || !value.contains(&b'@') && Authority::try_from(value).is_ok()
}

/// Completes an answer: the request's id, and the body of a problem.
pub(crate) fn finish(service: &Service, mut response: Response, request_id: &RequestId) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.code == Code::Overloaded {
            service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
        }
        let problem_code = problem.code;
        *response.body_mut() =
            Body::from(serde_json::to_vec(&problem.body(request_id.as_str())).unwrap_or_default());
        let headers = response.headers_mut();
        // The router has measured the body that stood here before.
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(problem_code, Code::BodyTooLarge | Code::RequestTimeout) {
            // What is left of the body would be taken for the next request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    } else if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut refused = Problem::of(Code::MethodNotAllowed).into_response();
        if let Some(allow) = allow {
            refused.headers_mut().insert(header::ALLOW, allow);
        }
        return finish(service, refused, request_id);
    }
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, request_id.to_header());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_has_its_own_time() {
        let mut limit = TimeLimit::default();
        for _ in 0..3 {
            // The timer has gone off for the one before, or goes off now.
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
