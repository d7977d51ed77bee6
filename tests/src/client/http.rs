//! A small HTTP/1.1 client over plain sockets. It can send requests that a library would refuse to send, and
//! returns the answer unchanged.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::client::stream::Stream;
use crate::client::transcript::Transcript;
use crate::data::{documentation, standing_headers};

const MIN_POSITION: &str = "keyledger-min-position";

/// Sends requests to one server, each on a new connection.
///
/// A client reads its own writes: GET requests carry the newest position of earlier answers as
/// `Keyledger-Min-Position`. Clients derived from one another share that position.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    credentials: Vec<(&'static str, String)>,
    transcript: Transcript,
    /// The newest `Keyledger-Position` of all answers.
    newest: Arc<AtomicU64>,
    /// Whether answers must be as this version documents them.
    is_strict: bool,
}

impl Client {
    /// A client without credentials. All its answers are added to `transcript`.
    #[must_use]
    pub fn new(address: SocketAddr, transcript: Transcript) -> Self {
        Self { address, credentials: Vec::new(), transcript, newest: Arc::default(), is_strict: true }
    }

    /// This client for another version of the service, whose answers need not be as this one documents them.
    #[must_use]
    pub fn of_another_version(self) -> Self {
        Self { is_strict: false, ..self }
    }

    /// This client for another address, such as that of a server that was started again.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// This client with a bearer token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { credentials: vec![("authorization", format!("Bearer {token}"))], ..self.clone() }
    }

    /// This client with the session cookie and the CSRF token of a page.
    #[must_use]
    pub fn with_session(&self, cookie: &str, csrf_token: &str) -> Self {
        let credentials = vec![("cookie", cookie.to_owned()), ("x-csrf-token", csrf_token.to_owned())];
        Self { credentials, ..self.clone() }
    }

    /// This client without credentials.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { credentials: Vec::new(), ..self.clone() }
    }

    /// The server's address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request with any method and the client's credentials.
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

    /// Sets a body of any media type.
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

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection fails before the answer is complete.
    pub fn try_send(&self) -> io::Result<Response> {
        let mut stream = self.open()?;
        let mut body = Vec::new();
        stream.read_to_end(&mut body)?;
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

    /// Sends the request and reads the whole answer.
    ///
    /// # Panics
    /// When the connection fails, or docs/openapi.json does not list the status for the endpoint.
    #[track_caller]
    #[must_use]
    pub fn send(&self) -> Response {
        let sent = self.try_send();
        let response = sent.unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path));
        if self.client.is_strict {
            documentation::check(&self.method, &self.path, response.status);
            standing_headers::check(|name| response.header(name));
        }
        response
    }

    /// Sends the request and checks the status.
    ///
    /// # Panics
    /// When the connection fails or the status differs.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Response {
        let response = self.send();
        assert_eq!(response.status, status, "{} {}\n{}", self.method, self.path, response.text());
        response
    }

    /// Sends the request and returns once the head of the answer is read.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.open().unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path))
    }

    fn open(&self) -> io::Result<Stream> {
        Stream::open(self.client.address, &self.method, &self.encode("close"))
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header with this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The cookie that the answer sets, as `name=value`.
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
    /// When it is not JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }

    /// The `code` of a problem.
    #[track_caller]
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The `Keyledger-Position` of the answer.
    ///
    /// # Panics
    /// When the header is missing.
    #[track_caller]
    #[must_use]
    pub fn position(&self) -> u64 {
        let text = self.header("keyledger-position").expect("the answer has a Keyledger-Position");
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
