//! Strangers that make the service ask its OpenID provider, which answers slowly.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::organization;
use keyledger_tests::data::token::base64;
use keyledger_tests::processes::openid_provider::{arguments, console_arguments};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::json;

const DELAY: Duration = Duration::from_millis(1_500);

/// A provider without users. It counts what it is asked for, and takes its time. It ends with the test.
struct SlowProvider {
    issuer: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl SlowProvider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let provider = Self { issuer: issuer.clone(), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (issuer, asked) = (issuer.clone(), Arc::clone(&asked));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                        while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                            line.clear();
                        }
                        asked.lock().unwrap().push(path.clone());
                        thread::sleep(DELAY);
                        let body = match path.as_str() {
                            "/jwks" => json!({ "keys": [] }),
                            _ => json!({
                                "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"),
                                "authorization_endpoint": format!("{issuer}/authorize"),
                                "token_endpoint": format!("{issuer}/token"),
                            }),
                        };
                        let body = body.to_string();
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                            body.len()
                        );
                        if stream.write_all((head + &body).as_bytes()).is_err() {
                            return;
                        }
                        line.clear();
                    }
                });
            }
        });
        provider
    }

    /// How often a path was asked for.
    fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|it| *it == path).count()
    }
}

fn serve(provider: &SlowProvider) -> Server {
    let limit = ["--rate-limit-sign-ins", "60/24h"].map(str::to_owned).to_vec();
    let arguments = [arguments(&provider.issuer), console_arguments(), limit].concat();
    Server::start_with(Options { arguments, ..Options::default() })
}

/// Sends requests at the same time. Returns their statuses and the longest time of one.
fn at_once(count: usize, send: impl Fn(usize) -> u16 + Sync) -> (Vec<u16>, Duration) {
    let send = &send;
    let answers: Vec<(u16, Duration)> = thread::scope(|scope| {
        let sending = |number| {
            scope.spawn(move || {
                let begun = Instant::now();
                (send(number), begun.elapsed())
            })
        };
        let threads: Vec<_> = (0..count).map(sending).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let slowest = answers.iter().map(|answer| answer.1).max().unwrap();
    (answers.into_iter().map(|answer| answer.0).collect(), slowest)
}

fn with_unknown_key(client: &Client, number: usize) -> Client {
    let header = json!({ "alg": "RS256", "kid": format!("unknown-{number}") }).to_string();
    client.with_token(&format!("{}.e30.AAAA", base64(header.as_bytes(), true)))
}

#[test]
fn tokens_with_unknown_keys_share_one_request_to_the_provider() {
    let provider = SlowProvider::start();
    let server = serve(&provider);
    let client = server.client();
    let (statuses, slowest) =
        at_once(40, |number| with_unknown_key(&client, number).get("/v1/keys").send().status);
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!((provider.count("/.well-known/openid-configuration"), provider.count("/jwks")), (1, 1));
    // Both answers of the provider, and not one pair for each caller.
    assert!(slowest < DELAY * 4, "{slowest:?}");
    // Callers with other credentials do not wait for the provider.
    let begun = Instant::now();
    let _ = organization(&client, "paid");
    assert!(begun.elapsed() < DELAY, "{:?}", begun.elapsed());
}

#[test]
fn sign_ins_share_the_providers_metadata_and_are_limited_by_address() {
    let provider = SlowProvider::start();
    let server = serve(&provider);
    let anonymous = server.anonymous();
    let begin = |_| anonymous.get("/console/openid").try_send().unwrap().status;
    let (statuses, slowest) = at_once(40, begin);
    assert!(statuses.iter().all(|status| *status == 303), "{statuses:?}");
    assert!(slowest < DELAY * 3, "{slowest:?}");
    let more: Vec<u16> = (0..40).map(begin).collect();
    assert!(more[..20].iter().all(|status| *status == 303), "{more:?}");
    assert!(more[20..].iter().all(|status| *status == 429), "{more:?}");
    assert_eq!(provider.count("/.well-known/openid-configuration"), 1);
}
