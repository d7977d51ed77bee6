//! Load in a closed loop: one thread keeps one request under way on each of many connections.
//!
//! The thread waits for answers, reads them, sends the next request on each of their connections, and waits
//! again. That is two system calls per request and one `epoll_wait` for all answers that arrived together. No
//! connection waits for another. The clients that come with PostgreSQL and Redis work the same way.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// The longest wait for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// The protocol, which decides where an answer ends.
#[derive(Clone, Copy)]
pub enum Protocol {
    /// HTTP/1.1 with `Content-Length`.
    Http,
    /// Redis' bulk strings.
    Redis,
}

/// Many connections to one server.
pub struct Load {
    protocol: Protocol,
    connections: Vec<Connection>,
    /// Its events carry the index of their connection.
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

struct Connection {
    socket: Box<dyn Socket>,
    buffer: Vec<u8>,
}

trait Socket: Read + Write + AsFd + Send {}

impl<S: Read + Write + AsFd + Send> Socket for S {}

impl Load {
    /// Connects over the network.
    ///
    /// # Panics
    /// When no server listens there.
    #[must_use]
    pub fn connect(address: SocketAddr, protocol: Protocol, count: usize) -> Self {
        Self::new(protocol, count, || {
            let socket = TcpStream::connect(address).expect("the server listens");
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
            Box::new(socket)
        })
    }

    /// Connects to a Unix socket.
    ///
    /// # Panics
    /// When no server listens there.
    #[must_use]
    pub fn connect_unix(path: &Path, protocol: Protocol, count: usize) -> Self {
        Self::new(protocol, count, || {
            let socket = UnixStream::connect(path).expect("the server listens");
            socket.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
            Box::new(socket)
        })
    }

    fn new(protocol: Protocol, count: usize, open: impl Fn() -> Box<dyn Socket>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("the system has epoll");
        let connection = |at| {
            let socket = open();
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN).expect("a socket can be waited for");
            Connection { socket, buffer: vec![0; 16 * 1024] }
        };
        let connections = (0..count).map(connection).collect();
        Self { protocol, connections, epoll, events: Vec::with_capacity(count) }
    }

    /// Sends the requests of `next` for about `time`, passes every answer to `check`, and returns the answers
    /// per second.
    ///
    /// # Panics
    /// When the server closes a connection or does not answer.
    pub fn run<R: AsRef<[u8]>>(
        &mut self,
        time: Duration,
        mut next: impl FnMut() -> R,
        mut check: impl FnMut(&[u8]),
    ) -> f64 {
        let begin = Instant::now();
        for connection in &mut self.connections {
            connection.socket.write_all(next().as_ref()).expect("the server reads");
        }
        let mut count = 0_u64;
        while begin.elapsed() < time {
            self.wait();
            for event in &self.events {
                let connection = &mut self.connections[event.data.u64() as usize];
                check(connection.read(self.protocol).expect("the server answers"));
                connection.socket.write_all(next().as_ref()).expect("the server reads");
                count += 1;
            }
        }
        for connection in &mut self.connections {
            check(connection.read(self.protocol).expect("the server answers"));
            count += 1;
        }
        count as f64 / begin.elapsed().as_secs_f64()
    }

    /// Waits until an answer can be read.
    fn wait(&mut self) {
        let limit = Timespec::try_from(ANSWER_TIME_MAX).expect("it is short");
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&limit))
            .expect("sockets can be waited for");
        assert!(!self.events.is_empty(), "the server does not answer");
    }
}

impl Connection {
    fn read(&mut self, protocol: Protocol) -> io::Result<&[u8]> {
        let mut filled = 0;
        loop {
            let count = self.socket.read(&mut self.buffer[filled..])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += count;
            let answer = &self.buffer[..filled];
            let length = match protocol {
                Protocol::Http => http_length(answer),
                Protocol::Redis => redis_length(answer),
            };
            if length.is_some_and(|length| length <= filled) {
                return Ok(&self.buffer[..filled]);
            }
        }
    }
}

fn http_length(answer: &[u8]) -> Option<usize> {
    let head = memmem::find(answer, b"\r\n\r\n")? + 4;
    // In lower case, as all servers measured here write it.
    let name = b"\r\ncontent-length: ";
    let start = memmem::find(&answer[..head], name)? + name.len();
    let end = start + memmem::find(&answer[start..head], b"\r\n")?;
    Some(head + std::str::from_utf8(&answer[start..end]).ok()?.parse::<usize>().ok()?)
}

fn redis_length(answer: &[u8]) -> Option<usize> {
    let end = memmem::find(answer, b"\r\n")?;
    let number: i64 = std::str::from_utf8(answer.get(1..end)?).ok()?.parse().ok()?;
    assert!(answer[0] == b'$' && number >= 0, "{}", String::from_utf8_lossy(answer));
    Some(end + 2 + usize::try_from(number).ok()? + 2)
}
