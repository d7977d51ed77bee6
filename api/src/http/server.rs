//! The HTTP server: accepts connections, limits their number, and stops gracefully.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::admission::holders::{Hold, Holders};
use crate::admission::network::Network;
use crate::admission::refusal::Refusal;
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

/// A listener that cannot accept connections is logged at most once in this time.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How many connections are served at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// The connections of each listener.
    pub of_listener: u32,
    /// The connections of one network address over all listeners. Trusted proxies are exempt: they speak for
    /// many clients.
    pub of_address: u32,
}

/// A listener, and what is answered there.
pub(crate) struct Entrance {
    pub listener: Listener,
    pub router: Router,
    /// Whether keys are verified and created there, which the fast path does.
    pub has_endpoints: bool,
}

/// Files that the service has open beside its connections: its stores, their readers, and a reserve.
const OTHER_FILES_MAX: u64 = 512;

/// Raises the process's limit on open files to what [`serve`] may need, as far as the hard limit allows.
/// Common systems start a process with a limit of 1,024.
pub(crate) fn allow_open_files(connections_max: u64) {
    let needed = connections_max.saturating_add(OTHER_FILES_MAX);
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
/// do not. Connections beyond `limits` receive `overloaded`. Each listener has connections of its own, so
/// that clients of the network cannot take those of the gateway at a Unix socket. A connection carries one
/// request at a time, so this limits concurrent requests too.
pub(crate) async fn serve(
    entrances: Vec<Entrance>,
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    stop: impl Future<Output = ()>,
) {
    let (stop_connections, stop_requested) = Stop::channel();
    let mut pools = Vec::with_capacity(entrances.len());
    let addresses = Holders::default();
    let mut accepting = JoinSet::new();
    for Entrance { listener, router, has_endpoints } in entrances {
        let connections = Arc::new(Semaphore::new(limits.of_listener as usize));
        pools.push(Arc::clone(&connections));
        let acceptor = Acceptor {
            connections,
            addresses: addresses.clone(),
            of_address_max: limits.of_address,
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            stop: stop_requested.clone(),
            tls: tls.clone(),
            service: Arc::clone(&service),
            router,
            has_endpoints,
        };
        accepting.spawn(acceptor.accept_from(listener));
    }
    drop(stop_requested);
    tokio::select! {
        () = stop => {}
        ended = accepting.join_next() => tracing::error!(?ended, "a listener failed; stopping"),
    }
    // All listeners are closed when this returns.
    accepting.shutdown().await;
    service.stop();
    stop_connections.send_replace(true);
    let drained = join_all(pools.iter().map(|pool| pool.acquire_many(limits.of_listener)));
    if tokio::time::timeout(DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("closed connections that were still busy");
    }
}

/// Accepts the connections of one listener up to the limits.
struct Acceptor {
    /// Permits for served connections.
    connections: Arc<Semaphore>,
    /// The open connections of each address, over all listeners.
    addresses: Holders<Network>,
    of_address_max: u32,
    /// Permits for connections that receive an `overloaded` answer.
    refusals: Arc<Semaphore>,
    stop: Stop,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    router: Router,
    has_endpoints: bool,
}

impl Acceptor {
    async fn accept_from(self, listener: Listener) {
        let mut failures = Failures::default();
        loop {
            match listener.accept().await {
                Ok(accepted) => self.serve(accepted),
                Err(error) => {
                    failures.log(&error);
                    // Usually too many open files: a tight loop would only burn the processor until some are
                    // closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn serve(&self, accepted: Accepted) {
        let open = match self.admit(&accepted) {
            Ok(open) => open,
            Err(refusal) => return self.refuse(accepted, refusal),
        };
        let stop = self.stop.clone();
        let (service, router) = (Arc::clone(&self.service), self.router.clone());
        let has_endpoints = self.has_endpoints;
        let connection = Connection { service, router, has_endpoints, peer: accepted.peer() };
        let tls = self.tls.clone();
        tokio::spawn(async move {
            match (accepted, tls) {
                (Accepted::Network(stream, _), Some(tls)) => serve_tls(&tls, connection, stream, stop).await,
                (accepted, _) => connection.serve(accepted.into_socket(), stop).await,
            }
            drop(open);
        });
    }

    /// Counts a connection, or says why there are too many.
    fn admit(&self, accepted: &Accepted) -> Result<OpenConnection, Refusal> {
        let of_address = match accepted {
            Accepted::Network(_, peer) if !self.service.trusted_proxies.trusts(peer.ip().to_canonical()) => {
                let hold = self.addresses.take(peer.ip().into(), self.of_address_max);
                Some(hold.ok_or(Refusal::ConnectionsOfAddress)?)
            }
            _ => None,
        };
        let permit = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| Refusal::Connections)?;
        Ok(OpenConnection::new(Arc::clone(&self.service), permit, of_address))
    }

    fn refuse(&self, accepted: Accepted, refusal: Refusal) {
        self.service.metrics.refusals.note(refusal);
        self.service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
        if self.tls.is_some() && matches!(accepted, Accepted::Network(..)) {
            // Nothing can be sent before a TLS handshake.
            return;
        }
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            tokio::spawn(async move {
                answer_overloaded(accepted.into_socket(), refusal).await;
                drop(permit);
            });
        }
    }
}

/// Failures of a listener, of which only some are logged.
#[derive(Default)]
struct Failures {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Failures {
    fn log(&mut self, error: &io::Error) {
        if self.logged.is_some_and(|at| at.elapsed() < FAILURE_LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        tracing::warn!(%error, unlogged = self.unlogged, "could not accept a connection");
        *self = Self { logged: Some(Instant::now()), unlogged: 0 };
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
    _of_address: Option<Hold<Network>>,
}

impl OpenConnection {
    fn new(service: Arc<Service>, permit: OwnedSemaphorePermit, of_address: Option<Hold<Network>>) -> Self {
        service.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self { service, _permit: permit, _of_address: of_address }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.service.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers `overloaded` and closes the connection. Received bytes are read and discarded first: otherwise the
/// operating system would reset the connection and discard the answer.
async fn answer_overloaded(mut stream: Box<dyn Socket>, refusal: Refusal) {
    let whose = if refusal == Refusal::ConnectionsOfAddress { " from this address" } else { "" };
    let reason =
        format!("too many open connections{whose}; close idle connections, or try again in a second");
    let answer = Problem::new(Code::Overloaded, reason).into_http(&RequestId::draw());
    let answering = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(REFUSAL_TIME_MAX, answering).await {
        let (mut unread, mut sink) = (stream.take(CLOSING_LEN_MAX), tokio::io::sink());
        let _ = tokio::time::timeout(CLOSING_TIME_MAX, tokio::io::copy(&mut unread, &mut sink)).await;
    }
}
