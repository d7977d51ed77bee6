//! The HTTP server: accepts connections, limits their number, and stops gracefully.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::connection::Connection;
use crate::http::listener::{Accepted, Listener, Socket};
use crate::http::request_id::RequestId;
use crate::http::stop::Stop;
use crate::http::tls::Tls;
use crate::service::Service;

/// Connections beyond the limit that receive an `overloaded` answer at a time. Further ones are closed
/// without an answer.
const REFUSALS_MAX: usize = 256;
/// Writing that answer may take this long.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);
/// The client gets this long to close the connection,
const CLOSING_TIME_MAX: Duration = Duration::from_millis(100);
/// and may send this many bytes until it does.
const CLOSING_LEN_MAX: u64 = 64 * 1024;
/// How long busy connections may take to finish when the service stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Files that the service has open beside its connections: its stores, their readers, and a reserve.
const OTHER_FILES_MAX: u64 = 512;

/// Raises the process's limit on open files to what [`serve`] may need, as far as the hard limit allows.
/// Common systems start a process with a limit of 1,024.
pub(crate) fn allow_open_files(connections_max: u32) {
    let needed = u64::from(connections_max) + OTHER_FILES_MAX;
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let raised = needed.min(maximum).max(current);
    if raised > current {
        let limit = Rlimit { current: Some(raised), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "could not raise the limit on open files");
        }
    }
    if raised < needed {
        tracing::warn!(
            "the hard limit of {raised} open files is too low for {connections_max} connections; \
             raise it to {needed} (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

/// Serves until `stop` resolves, then waits for running requests to finish.
///
/// With `tls`, connections from the network use TLS; connections over a Unix socket stay on the machine and
/// do not. At most `connections_max` connections are served at a time; further ones receive `overloaded`. A
/// connection carries one request at a time, so this limits concurrent requests too.
pub(crate) async fn serve(
    listeners: Vec<Listener>,
    connections_max: u32,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let (stop_connections, stop_requested) = Stop::channel();
    let acceptor = Arc::new(Acceptor {
        connections: Arc::new(Semaphore::new(connections_max as usize)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        stop: stop_requested,
        tls,
        service: Arc::clone(&service),
        router,
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(Arc::clone(&acceptor).accept_from(listener));
    }
    tokio::select! {
        () = stop => {}
        ended = accepting.join_next() => tracing::error!(?ended, "a listener failed; stopping"),
    }
    // All listeners are closed when this returns.
    accepting.shutdown().await;
    service.stop();
    stop_connections.send_replace(true);
    if tokio::time::timeout(DRAIN_TIME_MAX, acceptor.connections.acquire_many(connections_max)).await.is_err()
    {
        tracing::warn!("closed connections that were still busy");
    }
}

/// Accepts connections up to the limit.
struct Acceptor {
    /// Permits for served connections.
    connections: Arc<Semaphore>,
    /// Permits for connections that receive an `overloaded` answer.
    refusals: Arc<Semaphore>,
    stop: Stop,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    router: Router,
}

impl Acceptor {
    async fn accept_from(self: Arc<Self>, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(accepted) => self.serve(accepted),
                Err(error) => {
                    // Usually too many open files: a tight loop would only burn the processor until some are
                    // closed.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn serve(&self, accepted: Accepted) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            return self.refuse(accepted);
        };
        let open = OpenConnection::new(Arc::clone(&self.service), permit);
        let stop = self.stop.clone();
        let (service, router) = (Arc::clone(&self.service), self.router.clone());
        let connection = Connection { service, router, peer: accepted.peer() };
        let tls = self.tls.clone();
        tokio::spawn(async move {
            match (accepted, tls) {
                (Accepted::Network(stream, _), Some(tls)) => serve_tls(&tls, connection, stream, stop).await,
                (accepted, _) => connection.serve(accepted.into_socket(), stop).await,
            }
            drop(open);
        });
    }

    fn refuse(&self, accepted: Accepted) {
        self.service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
        if self.tls.is_some() && matches!(accepted, Accepted::Network(..)) {
            // Nothing can be sent before a TLS handshake.
            return;
        }
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            tokio::spawn(async move {
                answer_overloaded(accepted.into_socket()).await;
                drop(permit);
            });
        }
    }
}

async fn serve_tls(tls: &Tls, connection: Connection, stream: TcpStream, mut stop: Stop) {
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = stop.requested() => return,
    };
    match accepted {
        Ok(stream) => connection.serve(Box::new(stream), stop).await,
        Err(error) => tracing::debug!(%error, peer = %connection.peer, "TLS handshake failed"),
    }
}

/// Counts an open connection in the metrics until it is dropped.
struct OpenConnection {
    service: Arc<Service>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(service: Arc<Service>, permit: OwnedSemaphorePermit) -> Self {
        service.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self { service, _permit: permit }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.service.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers `overloaded` and closes the connection. Received bytes are read and discarded first: otherwise the
/// operating system would reset the connection and discard the answer.
async fn answer_overloaded(mut stream: Box<dyn Socket>) {
    let problem = Problem::new(
        Code::Overloaded,
        "too many open connections; close idle connections, or try again in a second",
    );
    let answer = problem.into_http(&RequestId::draw());
    let answering = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(REFUSAL_TIME_MAX, answering).await {
        let (mut unread, mut sink) = (stream.take(CLOSING_LEN_MAX), tokio::io::sink());
        let _ = tokio::time::timeout(CLOSING_TIME_MAX, tokio::io::copy(&mut unread, &mut sink)).await;
    }
}
