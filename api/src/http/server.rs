//! The HTTP server: takes connections, bounds how many there are, and stops gracefully.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::http::connection::Connection;
use crate::http::listener::{Accepted, Listener, Socket};
use crate::http::request_id::RequestId;
use crate::http::tls::Tls;
use crate::service::Service;

/// Connections that are being told to come back; still more are closed without a word.
const TURNED_AWAY_MAX: usize = 256;
/// They get this long to hear it,
const TURNED_AWAY_TIME_MAX: Duration = Duration::from_secs(1);
/// this long to close then,
const CLOSING_TIME_MAX: Duration = Duration::from_millis(100);
/// and may send this many bytes until they do.
const CLOSING_LEN_MAX: u64 = 64 * 1024;
/// Connections that are busy at a stop get this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Files that the service may have open beside its connections: the stores, their readers, and some to spare.
const OTHER_FILES_MAX: u64 = 512;

/// Raises the process's bound on open files to what [`serve`] may need, as far as the system allows. Common systems
/// start a process with a bound of 1,024.
pub(crate) fn allow_open_files(connections_max: u32) {
    let needed = u64::from(connections_max) + OTHER_FILES_MAX;
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let raised = needed.min(maximum).max(current);
    if raised > current {
        let limit = Rlimit { current: Some(raised), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the bound on open files could not be raised");
        }
    }
    if raised < needed {
        tracing::warn!(
            "the system allows {raised} open files, so fewer than {connections_max} connections; \
             raise the hard limit (ulimit -Hn, LimitNOFILE=) to {needed}"
        );
    }
}

/// Tells connections that the service stops.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves when the service stops.
    pub(crate) async fn told(&mut self) {
        // A sender that is gone says the same.
        let _ = self.0.wait_for(|stops| *stops).await;
    }
}

/// Serves until `stop` resolves, then lets requests under way finish.
///
/// With `tls`, every connection from the network begins with its handshake; what stays on this machine needs none. At most
/// `connections_max` connections are served at a time; one more is told to come back. As a connection carries one request at
/// a time, this bounds the requests too.
pub(crate) async fn serve(
    listeners: Vec<Listener>,
    connections_max: u32,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let (stop_connections, stopping) = watch::channel(false);
    let entrance = Arc::new(Entrance {
        room: Arc::new(Semaphore::new(connections_max as usize)),
        door: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
        stopping,
        tls,
        service: Arc::clone(&service),
        router,
    });
    let mut taking = JoinSet::new();
    for listener in listeners {
        taking.spawn(Arc::clone(&entrance).take_from(listener));
    }
    tokio::select! {
        () = stop => {}
        ended = taking.join_next() => tracing::error!(?ended, "no connections are taken any more; stopping"),
    }
    // Nobody listens any more when this returns.
    taking.shutdown().await;
    service.stop();
    stop_connections.send_replace(true);
    if tokio::time::timeout(DRAIN_TIME_MAX, entrance.room.acquire_many(connections_max)).await.is_err() {
        tracing::warn!("some connections were still busy and were closed");
    }
}

/// Lets connections in, as many as there is room for.
struct Entrance {
    room: Arc<Semaphore>,
    door: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    router: Router,
}

impl Entrance {
    async fn take_from(self: Arc<Self>, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(accepted) => self.take(accepted),
                Err(error) => {
                    // Mostly too many open files: wait for some to close, as a tight loop would not help.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(&self, accepted: Accepted) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else { return self.turn_away(accepted) };
        let open = OpenConnection::new(Arc::clone(&self.service), permit);
        let stop = Stop(self.stopping.clone());
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

    fn turn_away(&self, accepted: Accepted) {
        self.service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
        if self.tls.is_some() && matches!(accepted, Accepted::Network(..)) {
            // Without a handshake there is no telling a client anything.
            return;
        }
        if let Ok(permit) = Arc::clone(&self.door).try_acquire_owned() {
            tokio::spawn(async move {
                tell_to_come_back(accepted.into_socket()).await;
                drop(permit);
            });
        }
    }
}

async fn serve_tls(tls: &Tls, connection: Connection, stream: TcpStream, mut stop: Stop) {
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = stop.told() => return,
    };
    match accepted {
        Ok(stream) => connection.serve(Box::new(stream), stop).await,
        Err(error) => tracing::debug!(%error, peer = %connection.peer, "no TLS connection was made"),
    }
}

/// Counts a connection as long as it is there, however it ends.
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

/// Tells a connection that there is no room. What it sends is read but not looked at: closing before would have the system
/// throw the answer away.
async fn tell_to_come_back(mut stream: Box<dyn Socket>) {
    let problem = Problem::new(
        Code::Overloaded,
        "too many connections are open; close some that are not in use, or try again in a second",
    );
    let answer = problem.into_http(&RequestId::draw());
    let telling = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(TURNED_AWAY_TIME_MAX, telling).await {
        let (mut rest, mut nowhere) = (stream.take(CLOSING_LEN_MAX), tokio::io::sink());
        let _ = tokio::time::timeout(CLOSING_TIME_MAX, tokio::io::copy(&mut rest, &mut nowhere)).await;
    }
}
