//! One HTTP answer whose body is read as it arrives, decoded from its `Content-Length` or chunks.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest wait for a connection, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer whose body is read as it arrives.
pub struct Stream {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    body: BufReader<Body>,
}

impl Stream {
    /// Sends the bytes of a request with this method on a new connection, and reads the head of the answer.
    ///
    /// # Errors
    /// When the connection fails before the head is complete.
    pub fn open(address: SocketAddr, method: &str, request: &[u8]) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.set_nodelay(true)?;
        // A server may refuse a request before it has read all of it. Its answer can still be read then.
        match socket.write_all(request) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Err(error);
            }
            _ => {}
        }
        let mut reader = BufReader::new(socket);
        let (status, headers) = read_head(&mut reader)?;
        let header = |name: &str| headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone());
        let framing = if method == "HEAD" || matches!(status, 204 | 304) {
            Framing::Length(0)
        } else if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
            Framing::Chunk { left: 0, first: true }
        } else {
            Framing::Length(header("content-length").and_then(|it| it.parse().ok()).unwrap_or(u64::MAX))
        };
        Ok(Self { status, headers, body: BufReader::new(Body { reader, framing }) })
    }

    /// Sets the longest wait of a read.
    ///
    /// # Panics
    /// When `timeout` is zero.
    pub fn set_timeout(&self, timeout: Duration) {
        self.body.get_ref().reader.get_ref().set_read_timeout(Some(timeout)).expect("a timeout above zero");
    }

    /// The next line of the body. `None` at its end, or when the read times out.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.body.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }
}

impl Stream {
    /// The next line of the body with this text. `None` if the body ends before, or when a read times out.
    pub fn next_line_with(&mut self, text: &str) -> Option<String> {
        loop {
            let line = self.next_line()?;
            if line.contains(text) {
                return Some(line);
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

enum Framing {
    Length(u64),
    Chunk { left: u64, first: bool },
}

struct Body {
    reader: BufReader<TcpStream>,
    framing: Framing,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunk { left: left @ 0, first } = &mut self.framing {
            let mut line = String::new();
            if !std::mem::replace(first, false) {
                self.reader.read_line(&mut line)?;
                line.clear();
            }
            self.reader.read_line(&mut line)?;
            *left = u64::from_str_radix(line.trim_end(), 16)
                .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("bad chunk length {line:?}")))?;
            if *left == 0 {
                self.framing = Framing::Length(0);
            }
        }
        let (Framing::Length(left) | Framing::Chunk { left, .. }) = &mut self.framing;
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.reader.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 && *left != u64::MAX {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if *left != u64::MAX {
            *left -= count as u64;
        }
        Ok(count)
    }
}

/// Reads the status line and the headers.
fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.trim().parse().ok())
        .ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, format!("no status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((status, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}
