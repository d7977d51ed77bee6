//! The HTTP server: takes connections, bounds how many there are, and stops gracefully.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::connection::Connection;
use crate::problem::{Code, Problem};
use crate::request_id::RequestId;
use crate::service::Service;
use crate::tls::Tls;

/// Connections that are being told to come back; still more are closed without a word.
const TURNED_AWAY_MAX: usize = 256;
/// Connections that are busy at a stop get this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Files that the service may have open beside its connections: the stores, their readers, and some to spare.
const OTHER_FILES_MAX: u64 = 512;

/// Raises the process's bound on open files to what [`serve`] may need, as far as the system allows. Common systems
/// start a process with a bound of 1,024.
pub fn allow_open_files(connections_max: u32) {
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
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves when the service stops.
    pub async fn told(&mut self) {
        // A sender that is gone says the same.
        let _ = self.0.wait_for(|stops| *stops).await;
    }
}

/// Serves until `stop` resolves, then lets requests under way finish.
///
/// With `tls`, every connection begins with its handshake. At most `connections_max` connections are served at a time; one more is told to come back. As a connection carries
/// one request at a time, this bounds the requests too.
///
/// # Errors
/// When the listener cannot accept any more.
pub async fn serve(
    listener: TcpListener,
    connections_max: u32,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
    router: Router,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let room = Arc::new(Semaphore::new(connections_max as usize));
    let door = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let (stop_connections, stopping) = watch::channel(false);
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
            Ok(permit) => {
                let open = OpenConnection::new(Arc::clone(&service), permit);
                let stop = Stop(stopping.clone());
                let connection = Connection { service: Arc::clone(&service), router: router.clone(), peer };
                // Answers are small; waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => connection.serve(stream, stop).await,
                        Some(tls) => serve_tls(&tls, connection, stream, stop).await,
                    }
                    drop(open);
                });
            }
            Err(_) => {
                service.metrics.overloaded.fetch_add(1, Ordering::Relaxed);
                // Without a handshake there is no telling a client anything.
                if tls.is_none()
                    && let Ok(permit) = Arc::clone(&door).try_acquire_owned()
                {
                    tokio::spawn(async move {
                        turn_away(stream).await;
                        drop(permit);
                    });
                }
            }
        }
    }
    drop(listener);
    service.stop();
    stop_connections.send_replace(true);
    if tokio::time::timeout(DRAIN_TIME_MAX, room.acquire_many(connections_max)).await.is_err() {
        tracing::warn!("some connections were still busy and were closed");
    }
    Ok(())
}

async fn serve_tls(tls: &Tls, connection: Connection, stream: TcpStream, mut stop: Stop) {
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = stop.told() => return,
    };
    match accepted {
        Ok(stream) => connection.serve(stream, stop).await,
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

/// Tells a connection that there is no room, without reading from it.
async fn turn_away(mut stream: TcpStream) {
    let problem = Problem::new(
        Code::Overloaded,
        "too many connections are open; close some that are not in use, or try again in a second",
    );
    let answer = problem.to_http(&RequestId::draw());
    let writing = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), writing).await;
}
