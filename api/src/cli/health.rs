//! `keyledger health`, for containers without another HTTP client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;

use super::Outcome;
use crate::http::listener::ListenAddress;

/// The longest wait to connect, and then for the answer.
const TIME_MAX: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(super) struct Health {
    /// Address that the service listens on without TLS, as in `serve --listen`. The first one is asked.
    #[arg(
        long,
        env = "KEYLEDGER_LISTEN",
        default_value = "127.0.0.1:7070",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,
}

impl Health {
    /// Asks `/healthz`. Fails unless the answer is 200.
    pub(super) fn run(&self) -> Outcome {
        let address = self.listen.first().ok_or("--listen: name an address")?;
        let status = ask(address).map_err(|error| {
            format!("{address}: {error}; start the service, or name its address with --listen")
        })?;
        if status.split(' ').nth(1) == Some("200") {
            Ok(())
        } else {
            Err(format!("{address}: answered {status:?}; look into the service's log").into())
        }
    }
}

/// Returns the status line of the answer.
fn ask(address: &ListenAddress) -> std::io::Result<String> {
    match address {
        ListenAddress::Network(address) => {
            let stream = TcpStream::connect_timeout(&reachable(*address), TIME_MAX)?;
            stream.set_read_timeout(Some(TIME_MAX))?;
            status_line(stream)
        }
        ListenAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIME_MAX))?;
            status_line(stream)
        }
    }
}

/// A service that listens on all addresses of the machine is reached at the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

fn status_line(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).take(1_024).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
