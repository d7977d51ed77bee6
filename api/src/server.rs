//! The HTTP server: takes connections, bounds what each may cost, and stops gracefully.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::activity::{Activity, NotedStream};
use crate::credential::LastCredential;
use crate::problem::{Code, Problem};
use crate::request_id::{self, RequestId};
use crate::routes::verify;
use crate::service::Service;

/// Connections at a time; one more is told to come back. As a connection carries one request at a time, this bounds the
/// requests too.
const CONNECTIONS_MAX: usize = 8_192;
/// All headers of a request, in bytes.
const HEADERS_LEN_MAX: usize = 16 * 1024;
/// A connection on which nothing is answered for this long, or at most twice as long, is closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// A request must be answered, or its stream begun, within this time.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Connections that are busy at a stop get this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves until `stop` resolves, then lets requests under way finish.
///
/// # Errors
/// When the listener cannot accept any more.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    router: Router,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files: wait for some to close, as a tight loop would not help.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => spawn_connection(stream, peer, permit, &service, &router, &graceful),
            Err(_) => {
                service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(turn_away(stream));
            }
        }
    }
    drop(listener);
    service.stop();
    if tokio::time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections were still busy and were closed");
    }
    Ok(())
}

fn spawn_connection(
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    service: &Arc<Service>,
    router: &Router,
    graceful: &GracefulShutdown,
) {
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    service.metrics.connections.fetch_add(1, Ordering::Relaxed);
    let connection = Arc::new(Connection {
        service: Arc::clone(service),
        router: router.clone(),
        peer,
        credential: LastCredential::default(),
    });
    let activity = Arc::new(Activity::default());
    let answering = Arc::clone(&connection);
    let answer = service_fn(move |request| {
        let connection = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(connection.respond(request).await) }
    });
    let io = TokioIo::new(NotedStream::new(stream, Arc::clone(&activity)));
    let serving = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEADERS_LEN_MAX)
        // A timer for each request would cost more than a verification; a connection has one of its own below.
        .header_read_timeout(None)
        .serve_connection(io, answer);
    let serving = graceful.watch(serving);
    let open = OpenConnection { service: Arc::clone(service), _permit: permit };
    let served = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
        drop(open);
    });
    // A task of its own, so that no request has to look at its timer.
    tokio::spawn(async move {
        let closing = served.abort_handle();
        tokio::select! {
            _ = served => {}
            () = activity.ceased(IDLE_TIME_MAX) => closing.abort(),
        }
    });
}

/// Counts a connection as long as it is there, however it ends.
struct OpenConnection {
    service: Arc<Service>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.service.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the requests of one connection share.
struct Connection {
    service: Arc<Service>,
    router: Router,
    peer: SocketAddr,
    credential: LastCredential,
}

impl Connection {
    /// Answers one request: the outermost layer, which knows the request's id.
    async fn respond(&self, request: Request<Incoming>) -> Response {
        let request_id = RequestId::of(request.headers());
        if request.method() == Method::POST && request.uri().path() == verify::PATH {
            let (parts, body) = request.into_parts();
            let response = verify::respond(&self.service, &self.credential, &parts.headers, body).await;
            return finish(&self.service, response, &request_id);
        }
        self.route(request, &request_id).await
    }

    async fn route(&self, mut request: Request<Incoming>, request_id: &RequestId) -> Response {
        let started = Instant::now();
        let method = request.method().clone();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(request_id.clone());
        let answering = self.router.clone().oneshot(request.map(Body::new));
        let response = match tokio::time::timeout(REQUEST_TIME_MAX, answering).await {
            Ok(Ok(response)) => response,
            Err(_) => Problem::new(Code::Overloaded, "the answer took too long").into_response(),
        };
        let route = response.extensions().get::<MatchedPath>().cloned();
        let mut response = finish(&self.service, response, request_id);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let (status, micros) = (response.status(), started.elapsed().as_micros());
        let route = route.as_ref().map_or("none", MatchedPath::as_str);
        // What changed is in the audit trail, with the request's id; a line for every request is for who asks for it.
        if status.is_server_error() {
            tracing::warn!(%method, route, status = status.as_u16(), request_id = request_id.as_str(), micros, "request");
        } else {
            tracing::debug!(%method, route, status = status.as_u16(), request_id = request_id.as_str(), micros, "request");
        }
        response
    }
}

/// Tells a connection that there is no room, without reading from it.
async fn turn_away(stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
        content-type: application/problem+json\r\ncontent-length: 95\r\n\r\n\
        {\"type\":\"/problems/overloaded\",\"title\":\"Too much at once\",\"status\":503,\"code\":\"overloaded\"}    ";
    let writing = async {
        stream.writable().await?;
        stream.try_write(ANSWER)
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), writing).await;
}

/// Completes an answer: the request's id, and the body of a problem.
fn finish(service: &Service, mut response: Response, request_id: &RequestId) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.code == Code::Overloaded {
            service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
        }
        *response.body_mut() =
            Body::from(serde_json::to_vec(&problem.body(request_id.as_str())).unwrap_or_default());
        let headers = response.headers_mut();
        // The router has measured the body that stood here before.
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    } else if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut refused = Problem::of(Code::MethodNotAllowed).into_response();
        if let Some(allow) = allow {
            refused.headers_mut().insert(header::ALLOW, allow);
        }
        return finish(service, refused, request_id);
    }
    service.metrics.answered(response.status());
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, request_id.to_header());
    response
}
