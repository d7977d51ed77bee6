//! Where the service takes connections: at an address of the network, or at a Unix socket.

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What stands before the path of a Unix socket, as nginx, curl and others have it.
const UNIX_PREFIX: &str = "unix:";
/// Whoever may enter the socket's directory may connect, as with the loopback address: a connection alone opens nothing.
/// Nobody else should be able to write to that directory.
const SOCKET_MODE: u32 = 0o666;
/// Whoever else begins to listen takes microseconds.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);
const LOCK_TRY_INTERVAL: Duration = Duration::from_millis(5);
/// What a connection over a Unix socket counts as having for its address: this machine's.
const THIS_MACHINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// An address of the network: `127.0.0.1:7070`.
    Network(SocketAddr),
    /// The path of a Unix socket: `unix:/run/keyledger/keyledger.sock`.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX_PREFIX) {
            Some("") => Err("the path is missing, as in unix:/run/keyledger/keyledger.sock"),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Network)
                .map_err(|_| "not an IP address and a port, such as 127.0.0.1:7070, nor unix: and a path"),
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

/// The two directions of a connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// Takes connections at one address. A Unix socket's file goes when it is dropped.
#[derive(Debug)]
pub(crate) enum Listener {
    /// From the network.
    Network(TcpListener),
    /// From this machine. The file goes before anybody could take it for one that was left.
    Unix { _file: SocketFile, listener: UnixListener },
}

impl Listener {
    /// Begins to listen. The file of a Unix socket that is left from a process that was killed is replaced.
    ///
    /// # Errors
    /// When the address is in use, or the system refuses it.
    ///
    /// # Panics
    /// Outside a runtime.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Network(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Network(TcpListener::from_std(listener)?))
            }
            ListenAddress::Unix(path) => {
                let directory = File::open(directory_of(path))?;
                keep_others_out(&directory);
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

    /// The address of the network that it listens at, with the port that the system chose if that was left to it.
    #[must_use]
    pub(crate) fn network_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Network(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// When the system has none to give, such as when too many files are open.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Network(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small; waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Network(stream, peer))
            }
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// A connection that was taken.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// From the network, and from where.
    Network(TcpStream, SocketAddr),
    /// From this machine.
    Unix(UnixStream),
}

impl Accepted {
    /// The other side's address.
    #[must_use]
    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Self::Network(_, peer) => *peer,
            Self::Unix(_) => THIS_MACHINE,
        }
    }

    /// What is sent is written to it and read from it.
    #[must_use]
    pub(crate) fn into_socket(self) -> Box<dyn Socket> {
        match self {
            Self::Network(stream, _) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }
}

/// The file of a Unix socket, as long as somebody listens there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The file, by its device and number: another service may have put its own there.
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
            // One that stays is replaced at the next start.
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

/// Has others wait that begin to listen in the same directory, but not for ever: it may be locked for another reason.
fn keep_others_out(directory: &File) {
    let begun = Instant::now();
    while flock(directory, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        && begun.elapsed() < LOCK_TIME_MAX
    {
        thread::sleep(LOCK_TRY_INTERVAL);
    }
}

/// Whether a socket stands here at which nobody listens. One whose listener is busy or stopped is not.
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
