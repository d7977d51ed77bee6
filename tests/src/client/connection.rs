//! A kept-alive HTTP connection for load, with as little work per answer as possible.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that sends prepared bytes and reads answers with a `Content-Length`.
pub struct Connection {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// When no server listens there.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(socket), line: Vec::new(), body: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one answer and returns its status and body.
    ///
    /// # Errors
    /// When the connection fails, or the answer has no `Content-Length`.
    pub fn read(&mut self) -> io::Result<(u16, &[u8])> {
        self.read_with_position().map(|(status, _, body)| (status, body))
    }

    /// Reads one answer and returns its status, `Keyledger-Position` and body.
    ///
    /// # Errors
    /// When the connection fails, or the answer has no `Content-Length`.
    pub fn read_with_position(&mut self) -> io::Result<(u16, Option<u64>, &[u8])> {
        let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
        self.next_line()?;
        let status =
            self.line.get(9..12).and_then(|it| std::str::from_utf8(it).ok()).and_then(|it| it.parse().ok());
        let status = status.ok_or_else(|| bad("no status line"))?;
        let (mut length, mut position) = (None, None);
        loop {
            self.next_line()?;
            if self.line.is_empty() {
                break;
            }
            length = length.or_else(|| self.number("content-length:"));
            position = position.or_else(|| self.number("keyledger-position:"));
        }
        if status == 204 {
            length = Some(0);
        }
        let length = length.ok_or_else(|| bad("no content-length"))?;
        self.body.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        self.reader.read_exact(&mut self.body)?;
        Ok((status, position, &self.body))
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<(u16, &[u8])> {
        self.write(bytes)?;
        self.read()
    }

    /// The value of the current line as a number, if the line is the header with this name. `name` includes
    /// the colon.
    fn number(&self, name: &str) -> Option<u64> {
        let head = self.line.get(..name.len())?;
        if !head.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        std::str::from_utf8(&self.line[name.len()..]).ok()?.trim().parse().ok()
    }

    fn next_line(&mut self) -> io::Result<()> {
        self.line.clear();
        if self.reader.read_until(b'\n', &mut self.line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        while matches!(self.line.last(), Some(b'\r' | b'\n')) {
            self.line.pop();
        }
        Ok(())
    }
}
