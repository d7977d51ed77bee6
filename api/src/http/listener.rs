//! Listeners: at a network address, or at a Unix socket.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The prefix of a Unix socket's path, as in nginx and curl.
const UNIX_PREFIX: &str = "unix:";
/// Every user who may enter the socket's directory may connect, as with the loopback address: a connection
/// alone gives no access. Only the service should be able to write to that directory.
const SOCKET_MODE: u32 = 0o666;
/// Another process holds the lock for microseconds, while it starts to listen.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);
const LOCK_TRY_INTERVAL: Duration = Duration::from_millis(5);
/// The bytes of answers that the kernel takes before the network can send them. By default it takes megabytes
/// for each client that does not read. What is on its way over a fast network is not bounded by this.
const UNSENT_LEN_MAX: u32 = 64 * 1024;
/// The peer address of connections over a Unix socket: the loopback address.
const THIS_MACHINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// A network address: `127.0.0.1:7070`.
    Network(SocketAddr),
    /// The path of a Unix socket: `unix:/run/keyledger/keyledger.sock`.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX_PREFIX) {
            Some("") => Err("the path after unix: is missing, such as unix:/run/keyledger/keyledger.sock"),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Network)
                .map_err(|_| "must be an IP address and port, such as 127.0.0.1:7070, or unix: and a path"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// A byte stream of either kind of listener.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// Accepts connections at one address. Dropping it removes a Unix socket's file.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A TCP listener.
    Network(TcpListener),
    /// A Unix socket. Fields drop in order, so its file is removed while it is still listening: another
    /// process never sees it as left over.
    Unix { _file: SocketFile, listener: UnixListener },
}

impl Listener {
    /// Starts to listen. Replaces the file of a Unix socket that a killed process left behind.
    ///
    /// # Errors
    /// When the address is in use, or the operating system refuses it.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Network(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                // Accepted connections inherit it. On an error the kernel only buffers more.
                let _ = SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_LEN_MAX);
                Ok(Self::Network(TcpListener::from_std(listener)?))
            }
            ListenAddress::Unix(path) => {
                let directory = File::open(directory_of(path))?;
                lock_out_others(&directory);
                if is_left_over(path) {
                    fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                let file = SocketFile::of(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix { _file: file, listener })
            }
        }
    }

    /// The network address, with the port that the operating system chose for port 0.
    #[must_use]
    pub(crate) fn network_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Network(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// When the operating system refuses, for example because too many files are open.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Network(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Nagle's algorithm would only delay small answers.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Network(stream, peer))
            }
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// From the network, with the peer's address.
    Network(TcpStream, SocketAddr),
    /// From a Unix socket.
    Unix(UnixStream),
}

impl Accepted {
    /// The peer's address.
    #[must_use]
    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Self::Network(_, peer) => *peer,
            Self::Unix(_) => THIS_MACHINE,
        }
    }

    /// The byte stream.
    #[must_use]
    pub(crate) fn into_socket(self) -> Box<dyn Socket> {
        match self {
            Self::Network(stream, _) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }
}

/// The file of a Unix socket, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another service may have replaced the file by its own.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // A file that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes other processes wait before they listen in the same directory. Gives up after [`LOCK_TIME_MAX`], as
/// the directory may be locked for another reason.
fn lock_out_others(directory: &File) {
    let begun = Instant::now();
    while flock(directory, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        && begun.elapsed() < LOCK_TIME_MAX
    {
        thread::sleep(LOCK_TRY_INTERVAL);
    }
}

/// Whether the file is a socket without a listener. A busy or stopped listener still counts as one.
fn is_left_over(path: &Path) -> bool {
    let connect = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    is_socket && connect().is_err_and(|it| it == Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["127.0.0.1:7070", "[::1]:80", "unix:/run/keyledger.sock", "unix:relative.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "localhost", "/run/keyledger.sock", "127.0.0.1"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
