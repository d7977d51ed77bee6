//! A webhook receiver that records every request and answers as the test decides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::http::Client;
use crate::data::fixture::text;
use crate::poll;
use crate::processes::node;

/// The longest wait for a message.
const LIMIT: Duration = Duration::from_secs(20);

/// The arguments of a server that may send webhooks to this machine over HTTP, with short retries.
#[must_use]
pub fn arguments(more: &[&str]) -> Vec<String> {
    let own = ["--webhook-allow-http", "--webhook-allow-network", "127.0.0.0/8"];
    let retries = ["--webhook-retries", "100ms,200ms,300ms"];
    let own = if more.contains(&"--webhook-retries") { own.to_vec() } else { [&own[..], &retries].concat() };
    own.iter().chain(more).map(|it| (*it).to_owned()).collect()
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, unchanged.
    pub body: String,
    /// The time of arrival.
    pub at: Instant,
}

impl Received {
    /// A header's value; empty if the header is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The type of the message.
    #[must_use]
    pub fn message_type(&self) -> String {
        text(&self.json()["type"])
    }

    /// The id of the key that the message is about; empty if it is about none.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.json()["data"]["key_id"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the Standard Webhooks library accepts the signature with this secret.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let headers: serde_json::Map<String, Value> =
            self.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let input = json!({ "secret": secret, "body": self.body, "headers": headers });
        let answer = node::run("standard_webhooks.mjs", &input);
        assert!(answer["verified"] == self.json() || answer["verified"] == false, "{answer}");
        answer["verified"] != false
    }
}

/// The answer to a request.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Additional headers.
    pub headers: Vec<(&'static str, String)>,
    /// The time to wait before answering.
    pub delay: Duration,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

type Behaviour = Box<dyn FnMut(&Received) -> Answer + Send>;

struct Shared {
    received: Mutex<Vec<Received>>,
    behaviour: Mutex<Behaviour>,
    stopping: AtomicBool,
}

/// A receiver that listens until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// A receiver that answers 204 to everything.
    #[must_use]
    pub fn start() -> Self {
        Self::answering(|_| 204.into())
    }

    /// A receiver that answers with the result of `behaviour`.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn answering(behaviour: impl FnMut(&Received) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            behaviour: Mutex::new(Box::new(behaviour)),
            stopping: AtomicBool::new(false),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || while shared.answer(&stream).is_some() {});
                }
            })
        };
        Self { address, shared, thread: Some(thread) }
    }

    /// Replaces the behaviour.
    pub fn answer_with(&self, behaviour: impl FnMut(&Received) -> Answer + Send + 'static) {
        *lock(&self.shared.behaviour) = Box::new(behaviour);
    }

    /// The URL to register.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All requests received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Waits until at least `count` requests satisfy `wanted`, and returns all that do.
    #[track_caller]
    #[must_use]
    pub fn wait_for(&self, count: usize, wanted: impl Fn(&Received) -> bool) -> Vec<Received> {
        poll::until("messages to a webhook", LIMIT, || {
            let mut found = self.received();
            found.retain(&wanted);
            (found.len() >= count).then_some(found)
        })
    }
}

impl Shared {
    /// Reads one request and answers it. `None` once the connection has ended.
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let length = headers.iter().find(|header| header.0 == "content-length")?.1.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        let received = Received { path, headers, body, at: Instant::now() };
        let answer = lock(&self.behaviour)(&received);
        lock(&self.received).push(received);
        thread::sleep(answer.delay);
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if answer.status != 204 {
            head.push_str("content-length: 0\r\n");
        }
        head.push_str("\r\n");
        (&mut &*stream).write_all(head.as_bytes()).ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A webhook as it was registered.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Webhook {
    /// The path of the webhook, with `tail` after it.
    #[must_use]
    pub fn path(&self, tail: &str) -> String {
        format!("/v1/webhooks/{}{tail}", self.id)
    }
}

/// Registers a webhook, with more members from `more`.
#[track_caller]
#[must_use]
pub fn webhook(client: &Client, url: &str, more: Value) -> Webhook {
    let mut body = json!({ "url": url });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let answer = client.post("/v1/webhooks", &body).expect(201).json();
    Webhook { id: text(&answer["webhook"]["id"]), secret: text(&answer["secret"]) }
}
