//! A small HTTP/1.1 client over plain sockets: it can send what a well-behaved library would not, and shows the answer as
//! it came.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::client::transcript::Transcript;
use crate::data::documentation;

/// No answer takes longer than this.
const TIMEOUT: Duration = Duration::from_secs(30);
const MIN_POSITION: &str = "keyledger-min-position";

/// Sends requests to one server, each on a connection of its own. What it reads is never older than what it was answered
/// before, nor are those of a client that was made from it (`Keyledger-Min-Position`).
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    credentials: Vec<(&'static str, String)>,
    transcript: Transcript,
    /// The newest position that an answer named.
    newest: Arc<AtomicU64>,
}

impl Client {
    /// A client without credentials, all of whose answers go to `transcript`.
    #[must_use]
    pub fn new(address: SocketAddr, transcript: Transcript) -> Self {
        Self { address, credentials: Vec::new(), transcript, newest: Arc::default() }
    }

    /// The same client with this bearer token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { credentials: vec![("authorization", format!("Bearer {token}"))], ..self.clone() }
    }

    /// The same client with a cookie and a CSRF token, as a page of the service has them.
    #[must_use]
    pub fn with_session(&self, cookie: &str, csrf_token: &str) -> Self {
        let credentials = vec![("cookie", cookie.to_owned()), ("x-csrf-token", csrf_token.to_owned())];
        Self { credentials, ..self.clone() }
    }

    /// The same client without credentials.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { credentials: Vec::new(), ..self.clone() }
    }

    /// The server's address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request with any method.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        let mut request = Request {
            client: self,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        };
        for (name, value) in &self.credentials {
            request = request.header(name, value);
        }
        request
    }

    /// A GET request.
    #[must_use]
    pub fn get(&self, path: &str) -> Request<'_> {
        self.request("GET", path)
    }

    /// A POST request with a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Request<'_> {
        self.request("POST", path).json(body)
    }

    /// A PATCH request with a JSON body.
    #[must_use]
    pub fn patch(&self, path: &str, body: &Value) -> Request<'_> {
        self.request("PATCH", path).json(body)
    }

    /// A PUT request with a JSON body.
    #[must_use]
    pub fn put(&self, path: &str, body: &Value) -> Request<'_> {
        self.request("PUT", path).json(body)
    }

    /// A DELETE request.
    #[must_use]
    pub fn delete(&self, path: &str) -> Request<'_> {
        self.request("DELETE", path)
    }
}

/// A request under construction.
pub struct Request<'a> {
    client: &'a Client,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request<'_> {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    /// Sets a form as the body.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let encode = |text: &str| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._*".contains(byte);
            let one =
                |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            text.bytes().map(one).collect::<String>()
        };
        let pairs = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        self.body("application/x-www-form-urlencoded", body.as_bytes())
    }

    /// Sets any body.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: &[u8]) -> Self {
        self.headers.push(("content-type".into(), media_type.into()));
        self.body = Some(body.to_vec());
        self
    }

    /// The request's bytes.
    #[must_use]
    pub fn encode(&self, connection: &str) -> Vec<u8> {
        let Self { method, path, body, .. } = self;
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: {connection}\r\n",
            self.client.address
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let newest = self.client.newest.load(Ordering::Relaxed);
        if method == "GET" && newest > 0 && !self.headers.iter().any(|(name, _)| name == MIN_POSITION) {
            text.push_str(&format!("{MIN_POSITION}: {newest}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body.as_deref().unwrap_or_default());
        bytes
    }

    fn shows_secret(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        self.method == "POST"
            && (matches!(
                path,
                "/v1/keys"
                    | "/v1/root-keys"
                    | "/v1/applications"
                    | "/v1/webhooks"
                    | "/v1/portal-sessions"
                    | "/portal/session"
                    | "/oauth2/token"
                    | "/v2/partner/api_keys"
                    | "/v1/organizations/api_keys"
                    | "/api/v1/api_keys"
                    | "/console/keys"
                    | "/console/sign-in"
            ) || path.ends_with("/rotate")
                || path.ends_with("/rotate-secret"))
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// When the connection fails before the answer is complete.
    pub fn try_send(&self) -> io::Result<Response> {
        let mut stream = Stream::open(self)?;
        let mut body = Vec::new();
        stream.body.read_to_end(&mut body)?;
        let response = Response { status: stream.status, headers: stream.headers, body };
        if let Some(position) = response.header("keyledger-position").and_then(|it| it.parse().ok()) {
            self.client.newest.fetch_max(position, Ordering::Relaxed);
        }
        let mut head = response.head();
        if self.shows_secret()
            && let Some(secret) = response.session_secret()
        {
            self.client.transcript.issue(&secret);
            head = head.replacen(&secret, "", 1);
        }
        if response.header("content-type") == Some("application/octet-stream") {
            self.client.transcript.take(false, &head, b"");
            self.client.transcript.take_copy(&response.body);
        } else {
            self.client.transcript.take(self.shows_secret(), &head, &response.body);
        }
        Ok(response)
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    #[must_use]
    pub fn send(&self) -> Response {
        let sent = self.try_send();
        let response = sent.unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path));
        documentation::check(&self.method, &self.path, response.status);
        response
    }

    /// Sends it and checks the status.
    ///
    /// # Panics
    /// When the connection fails or the status is another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Response {
        let response = self.send();
        assert_eq!(response.status, status, "{} {}\n{}", self.method, self.path, response.text());
        response
    }

    /// Sends it and leaves the answer's body to be read as it comes.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream::open(self).unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path))
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header with this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The cookie that the answer sets: its name and its value.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.split(';').next()
    }

    fn session_secret(&self) -> Option<String> {
        let (_, secret) = self.cookie()?.split_once('=')?;
        Some(secret.to_owned()).filter(|secret| !secret.is_empty())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}), status {}: {}", self.status, self.text()))
    }

    /// The problem's code.
    #[track_caller]
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The position that a write answered.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn position(&self) -> u64 {
        let text = self.header("keyledger-position").expect("the answer names a position");
        text.parse().expect("the position is a number")
    }

    fn head(&self) -> String {
        let mut head = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\n"));
        }
        head
    }
}

/// An answer whose body is read as it comes.
pub struct Stream {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    body: BufReader<Body>,
}

impl Stream {
    fn open(request: &Request<'_>) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&request.client.address, TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.set_nodelay(true)?;
        // A server may refuse a request before it has read all of it; what it says then is still to be read.
        match socket.write_all(&request.encode("close")) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Err(error);
            }
            _ => {}
        }
        let mut reader = BufReader::new(socket);
        let (status, headers) = read_head(&mut reader)?;
        let header = |name: &str| headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone());
        let framing = if request.method == "HEAD" || matches!(status, 204 | 304) {
            Framing::Length(0)
        } else if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
            Framing::Chunk { left: 0, first: true }
        } else {
            Framing::Length(header("content-length").and_then(|it| it.parse().ok()).unwrap_or(u64::MAX))
        };
        Ok(Self { status, headers, body: BufReader::new(Body { reader, framing }) })
    }

    /// Sets how long reading may wait.
    ///
    /// # Panics
    /// When the socket refuses.
    pub fn set_timeout(&self, timeout: Duration) {
        self.body.get_ref().reader.get_ref().set_read_timeout(Some(timeout)).expect("a timeout above zero");
    }

    /// The next line of the body; `None` at its end or when reading has waited too long.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.body.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
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

/// Reads status line and headers.
///
/// # Errors
/// When the connection fails or what comes is no HTTP.
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

/// A connection that is kept alive, for load: it sends prepared bytes and reads answers that tell their length.
pub struct Connection {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nothing listens.
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

    /// Reads one answer: its status and body.
    ///
    /// # Errors
    /// When the connection fails, or the answer has no length.
    pub fn read(&mut self) -> io::Result<(u16, &[u8])> {
        self.read_with_position().map(|(status, _, body)| (status, body))
    }

    /// Reads one answer: its status, its position, and its body.
    ///
    /// # Errors
    /// When the connection fails, or the answer has no length.
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

    /// The number in the present line, if it is the header with this name and colon.
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
