//! One connection: reads its requests one after the other, answers them, and ends.

mod activity;
mod deadline;
mod head_scan;
mod hyper_refusal;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use self::activity::{Activity, MonitoredStream};
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::completion::{REQUEST_TIME_MAX, finish, note_answer, too_slow};
use crate::http::fast_path::{Next, answer_plain_requests};
use crate::http::listener::Socket;
use crate::http::log_gate;
use crate::http::request_id::RequestId;
use crate::http::stop::Stop;
use crate::service::Service;

/// All headers of a request together, in bytes.
const HEADERS_LEN_MAX: usize = 16 * 1024;
/// A connection to which nothing is written for this long is closed, at the latest after twice this time.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// The state that the requests of one connection share.
pub(crate) struct Connection {
    /// The service that answers.
    pub service: Arc<Service>,
    /// The endpoints.
    pub router: Router,
    /// Whether the fast path's endpoints are among them.
    pub has_endpoints: bool,
    /// The client's address, or that of a proxy in front of it.
    pub peer: SocketAddr,
}

impl Connection {
    /// Answers requests until the client closes the connection, the connection is idle for too long, or the
    /// service stops.
    pub(crate) async fn serve(self, stream: Box<dyn Socket>, stop: Stop) {
        let peer = self.peer;
        let activity = Arc::new(Activity::default());
        let stream = MonitoredStream::new(stream, Arc::clone(&activity));
        let answering = self.answer(stream, Arc::clone(&activity), stop);
        let served = tokio::spawn(async move {
            if let Err(error) = answering.await {
                tracing::debug!(error, %peer, "connection ended early");
            }
        });
        // The idle timer runs beside the answering task, so that no request has to poll it.
        let answering = served.abort_handle();
        tokio::select! {
            _ = served => {}
            () = activity.ceased(IDLE_TIME_MAX) => answering.abort(),
        }
    }

    async fn answer(
        self,
        mut stream: MonitoredStream<Box<dyn Socket>>,
        activity: Arc<Activity>,
        mut stop: Stop,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.has_endpoints {
            match answer_plain_requests(&mut stream, &self.service, self.peer.ip(), stop.requested()).await? {
                Next::Closed => return Ok(()),
                Next::HandOver(unread) => stream.hand_over(unread),
            }
        } else {
            stream.hand_over(BytesMut::new());
        }
        let connection = Arc::new(self);
        let respond = service_fn(|request| {
            activity.head_complete();
            let framing = check_framing(&request, &activity);
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.respond(request, framing).await) }
        });
        let mut serving = std::pin::pin!(
            hyper::server::conn::http1::Builder::new()
                .max_buf_size(HEADERS_LEN_MAX)
                // `MonitoredStream` bounds the time that headers may take.
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), respond)
        );
        tokio::select! {
            biased;
            served = serving.as_mut() => return Ok(served?),
            () = stop.requested() => {}
        }
        serving.as_mut().graceful_shutdown();
        Ok(serving.await?)
    }

    /// Answers one request through the router, unless its `framing` is refused.
    async fn respond(&self, mut request: Request<Incoming>, framing: Result<(), Problem>) -> Response {
        let request_id = RequestId::of(request.headers());
        let method = request.method().clone();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(request_id.clone());
        let admitted = framing
            .and_then(|()| check_host(&request))
            .and_then(|()| log_gate::admit(&self.service.inconsistency, request.uri().path()));
        let refused = admitted.err();
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

/// Waits for an answer within the time limit and completes it. This is the outermost layer, the one that
/// knows the request's id.
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
    let response = finish(service, response, request_id).await;
    note_answer(service, (method, route), response.status(), request_id, started);
    response
}

/// Refuses a request whose end can be read in two ways (RFC 9112 §6.3). hyper reads such a request by its
/// `Transfer-Encoding` and closes the connection after it, which is also what happens to one that is
/// [missed](Activity::has_content_length) here.
fn check_framing<B>(request: &Request<B>, activity: &Activity) -> Result<(), Problem> {
    if request.headers().contains_key(header::TRANSFER_ENCODING) && activity.has_content_length() {
        let detail = "a request must not have both Content-Length and Transfer-Encoding";
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    Ok(())
}

/// Refuses an HTTP/1.1 request without exactly one well-formed `Host` header (RFC 9112 §3.2).
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(header::HOST).iter().collect();
    let is_right = match hosts.as_slice() {
        [] => request.version() < Version::HTTP_11,
        [host] => is_host(host.as_bytes()),
        _ => false,
    };
    let wrong = "an HTTP/1.1 request must have exactly one Host header, such as `Host: keys.example.com`";
    if is_right { Ok(()) } else { Err(Problem::new(Code::MalformedRequest, wrong)) }
}

/// Whether a `Host` value is empty, or a host with or without a port (RFC 9110 §7.2).
fn is_host(value: &[u8]) -> bool {
    value.is_empty() || !value.contains(&b'@') && Authority::try_from(value).is_ok()
}
