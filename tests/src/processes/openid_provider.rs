//! A real OpenID provider for the service under test: `oidc-provider` from npm, in its own process.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::client::http::Client;
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
        let address: SocketAddr = self.issuer.strip_prefix("http://").unwrap().parse().unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", "secret-of-the-test"),
            ("scope", "use"),
            ("resource", audience),
        ];
        // A separate transcript: the provider's own answer contains the token, legitimately.
        let client = Client::new(address, Transcript::default());
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
