//! A real OpenID provider for the service under test: `oidc-provider` from npm, in its own process.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::client::http::{Client, Response};
use crate::client::transcript::Transcript;
use crate::data::fixture::text;
use crate::processes::binaries;
use crate::processes::server::Server;

/// The audience of tokens for the service under test.
pub const AUDIENCE: &str = "https://keys.example/api";

/// A provider process, killed when dropped.
pub struct Provider {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Its issuer.
    pub issuer: String,
}

impl Provider {
    /// Starts a provider with these users.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(people: &Value) -> Self {
        let mut child = Command::new("node")
            .arg(binaries::workspace().join("tests/node/openid_provider.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node can be started");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut provider = Self { child, stdin, stdout, issuer: String::new() };
        let started = provider.ask(&json!({ "audience": AUDIENCE, "people": people }).to_string());
        provider.issuer = text(&started["issuer"]);
        provider
    }

    /// Replaces the provider's signing key.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn rotate(&mut self) {
        self.ask("rotate");
    }

    /// Returns a token with any header and claims beside the algorithm, the key's id, the issuer and an end
    /// in an hour. The provider's current key signs it.
    ///
    /// # Panics
    /// When the provider does not answer.
    pub fn sign(&mut self, server: &Server, header: &Value, claims: &Value) -> String {
        let mut all = json!({ "iss": self.issuer, "exp": chrono::Utc::now().timestamp() + 3_600 });
        if let (Value::Object(all), Value::Object(claims)) = (&mut all, claims) {
            all.extend(claims.clone());
        }
        let token = text(&self.ask(&json!({ "header": header, "claims": all }).to_string())["token"]);
        server.transcript().issue(&token);
        token
    }

    /// Signs a user in to the console of a server, as a browser does, and returns the session's cookie. The
    /// provider has to [know the console](Self::know_console).
    ///
    /// # Panics
    /// When it does not lead to a session.
    #[track_caller]
    #[must_use]
    pub fn sign_in(&self, server: &Server, person: &str) -> String {
        // A separate transcript: the console's answer contains the session's secret, legitimately.
        let console = Client::new(server.client().address(), Transcript::default());
        let provider = Client::new(self.address(), Transcript::default());
        let mut answer = console.get("/console/openid").expect(303);
        let own = cookies(&answer, "");
        let (mut jar, mut steps) = (String::new(), 0);
        loop {
            steps += 1;
            assert!(steps < 12, "the provider goes round in circles: {}", answer.text());
            let location = answer.header("location").map(str::to_owned);
            let request = match &location {
                Some(url) if url.contains("/console/openid/callback") => {
                    let (_, path) = url.split_at(url.find("/console/").expect("a path"));
                    let entered = console.get(path).header("cookie", &own).expect(200);
                    let session = entered.headers.iter().find(|(name, value)| {
                        name == "set-cookie" && value.starts_with("keyledger_session=")
                    });
                    let session = &session.expect("a session comes with a cookie").1;
                    let cookie = session.split(';').next().unwrap_or_default().to_owned();
                    server.transcript().issue(cookie.trim_start_matches("keyledger_session="));
                    return cookie;
                }
                Some(url) => provider.get(url.strip_prefix(&self.issuer).unwrap_or(url)),
                None => {
                    let page = answer.text();
                    let Some((_, rest)) = page.split_once("action=\"") else {
                        panic!("no form: {} {page}", answer.status)
                    };
                    let action = rest.split('"').next().unwrap_or_default();
                    let action = action.strip_prefix(&self.issuer).unwrap_or(action);
                    let prompt = if page.contains("value=\"login\"") { "login" } else { "consent" };
                    let fields = [("prompt", prompt), ("login", person), ("password", "any")];
                    provider.request("POST", action).form(&fields)
                }
            };
            answer = request.header("cookie", &jar).try_send().expect("the provider answers");
            jar = cookies(&answer, &jar);
        }
    }

    fn address(&self) -> SocketAddr {
        self.issuer.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Registers the console of a server as a client of the provider.
    ///
    /// # Panics
    /// When the provider does not answer.
    pub fn know_console(&mut self, server: &Server) {
        let address = server.client().address();
        let uri = format!("http://{address}/console/openid/callback");
        self.ask(&json!({ "redirect_uri": uri }).to_string());
    }

    fn ask(&mut self, line: &str) -> Value {
        writeln!(self.stdin, "{line}").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("the provider: {error}: {answer}"))
    }

    /// Requests a token for one of the users.
    ///
    /// # Panics
    /// When the provider refuses.
    #[track_caller]
    #[must_use]
    pub fn token(&self, server: &Server, id: &str, audience: &str) -> String {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", "secret-of-the-test"),
            ("scope", "use"),
            ("resource", audience),
        ];
        // A separate transcript: the provider's own answer contains the token, legitimately.
        let client = Client::new(self.address(), Transcript::default());
        let answer = client.request("POST", "/token").form(&form).expect(200).json();
        let token = text(&answer["access_token"]);
        server.transcript().issue(&token);
        token
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cookies that a browser has after an answer. A cookie that is deleted at one path may be set at
/// another.
fn cookies(answer: &Response, before: &str) -> String {
    let set = answer.headers.iter().filter(|(name, _)| name == "set-cookie");
    let set = set.filter(|(_, value)| !value.contains("01 Jan 1970"));
    let set = set.filter_map(|(_, value)| value.split(';').next());
    let names: Vec<&str> = set.clone().filter_map(|pair| pair.split('=').next()).collect();
    let kept = before
        .split("; ")
        .filter(|pair| !pair.is_empty() && !names.iter().any(|name| pair.starts_with(&format!("{name}="))));
    set.clone().chain(kept).collect::<Vec<_>>().join("; ")
}

/// The additional arguments of a server whose console users sign in to through the provider. The client's
/// secret is in [`console_environment`].
#[must_use]
pub fn console_arguments() -> Vec<String> {
    ["--oidc-client-id", "console"].map(str::to_owned).to_vec()
}

/// The environment of such a server.
#[must_use]
pub fn console_environment() -> Vec<(&'static str, String)> {
    vec![("KEYLEDGER_OIDC_CLIENT_SECRET", "secret-of-the-console".to_owned())]
}

/// A user with claims.
#[must_use]
pub fn person(id: &str, claims: Value) -> Value {
    json!({ "id": id, "claims": claims })
}

/// The arguments of a server that accepts the provider's tokens.
#[must_use]
pub fn arguments(issuer: &str) -> Vec<String> {
    ["--oidc-issuer", issuer, "--oidc-audience", AUDIENCE].map(str::to_owned).to_vec()
}
