//! The real binary as a process, on a port and a data directory of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::http::Client;
use crate::client::transcript::Transcript;
use crate::data::token;
use crate::poll;
use crate::processes::{binaries, tls};

const OUTPUT: &str = "output.log";
const ERRORS: &str = "errors.log";

/// Starting takes at most this long, also when projections are rebuilt.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Stopping gracefully takes at most this long.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a server is started.
#[derive(Default)]
pub struct Options {
    /// More arguments for `keyledger serve`.
    pub arguments: Vec<String>,
    /// The processor core to stay on.
    pub core: Option<usize>,
    /// The certificate to trust when the arguments have the server use TLS.
    pub trusted: Option<PathBuf>,
    /// More of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// Where to put the data, instead of the system's place for temporary files.
    pub place: Option<PathBuf>,
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub message: String,
}

impl Refusal {
    /// Checks that the refusal is as people and scripts need it: one line on standard error that names `what` is wrong, after
    /// at most what it told of its progress, a status above zero, and no trace of a panic.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn check(&self, what: &str) {
        let Self { status, message } = self;
        assert!(status.code().is_some_and(|code| code > 0), "{status}: {message}");
        let lines = message.trim_end().lines().filter(|line| !line.contains(" INFO "));
        assert_eq!(lines.count(), 1, "one line: {message}");
        assert!(message.contains(what), "names {what}: {message}");
        assert!(!message.contains("panicked") && !message.contains("RUST_BACKTRACE"), "{message}");
    }
}

/// A running `keyledger serve`. When it goes out of scope it is stopped, and everything that it wrote is searched for
/// secrets.
pub struct Server {
    options: Options,
    directory: Option<TempDir>,
    root_token: String,
    address: SocketAddr,
    transcript: Transcript,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with a new data directory and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a server in a given way.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start_with(options: Options) -> Self {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("keyledger-test-");
        let directory = match &options.place {
            Some(place) => builder.tempdir_in(place),
            None => builder.tempdir(),
        };
        let directory = directory.expect("a temporary directory can be made");
        Self::start_in(directory, &token::root(), options).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// Starts a server whose data is, or will be, in `data` in a directory.
    ///
    /// # Errors
    /// How it ended, when it did before it was ready.
    pub fn start_in(directory: TempDir, root_token: &str, options: Options) -> Result<Self, Refusal> {
        let transcript = Transcript::default();
        transcript.issue(root_token);
        let mut server = Self {
            options,
            directory: Some(directory),
            root_token: root_token.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            transcript,
            child: None,
        };
        server.try_start_again()?;
        Ok(server)
    }

    /// Starts the server on its data again after it was stopped or killed, on a new port, and waits until it is ready.
    ///
    /// # Panics
    /// When it runs, or does not become ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", self.output()));
    }

    /// Starts the server on its data again.
    ///
    /// # Errors
    /// How it ended, when it did before it was ready.
    ///
    /// # Panics
    /// When it runs, or neither becomes ready nor ends.
    pub fn try_start_again(&mut self) -> Result<(), Refusal> {
        assert!(self.child.is_none(), "the server is running");
        let mut tries = 0;
        loop {
            self.address = free_address();
            self.child = Some(self.spawn());
            let taken = format!("{}: cannot listen: Address already in use", self.address);
            match self.wait_until_ready() {
                // Between choosing a port and listening on it another process may take it; then another one is tried.
                Err(refusal) if refusal.message.contains(&taken) && tries < 5 => tries += 1,
                outcome => return outcome,
            }
        }
    }

    fn spawn(&self) -> Child {
        let program = binaries::path("keyledger");
        let mut command = match self.options.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        let open =
            |path| File::options().create(true).append(true).open(path).expect("output can be written");
        command
            .arg("serve")
            .args(["--listen", &self.address.to_string()])
            .arg("--data")
            .arg(self.data())
            .args(&self.options.arguments)
            .envs(self.options.environment.iter().map(|(name, value)| (name, value)))
            .env("KEYLEDGER_BOOTSTRAP_ROOT_KEY", &self.root_token)
            .stdin(Stdio::null())
            .stdout(open(self.path().join(OUTPUT)))
            .stderr(open(self.path().join(ERRORS)))
            .spawn()
            .expect("the binary can be started")
    }

    fn wait_until_ready(&mut self) -> Result<(), Refusal> {
        let deadline = Instant::now() + START_LIMIT;
        let client = self.anonymous();
        loop {
            let is_ready = match &self.options.trusted {
                None => client.get("/readyz").try_send().is_ok_and(|response| response.status == 200),
                Some(certificate) => {
                    let url = format!("https://{}/readyz", self.address);
                    tls::curl(certificate, &["--fail", &url]).status.success()
                }
            };
            if is_ready {
                return Ok(());
            }
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = exited {
                self.child = None;
                return Err(Refusal { status, message: self.read(ERRORS) });
            }
            assert!(Instant::now() < deadline, "not ready in {START_LIMIT:?}:\n{}", self.output());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A client with the bootstrap root key, which may do everything.
    #[must_use]
    pub fn client(&self) -> Client {
        self.anonymous().with_token(&self.root_token)
    }

    /// A client without credentials.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        Client::new(self.address, self.transcript.clone())
    }

    /// The bootstrap root key.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// The collector of what the server writes.
    #[must_use]
    pub const fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// What the server wrote to its standard output and standard error since it was first started.
    #[must_use]
    pub fn output(&self) -> String {
        self.read(OUTPUT) + &self.read(ERRORS)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path().join(name)).unwrap_or_default()).into_owned()
    }

    /// The process's id.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    fn path(&self) -> &Path {
        self.directory.as_ref().expect("the directory lives as long as the server").path()
    }

    /// Asks the server to stop, and waits until it has.
    ///
    /// # Panics
    /// When it is not running or does not stop in time.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server is running");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a process has an id above zero");
        kill_process(pid, Signal::TERM).expect("our own process can be signalled");
        poll::until("the server to stop", STOP_LIMIT, || child.try_wait().expect("our own child"))
    }

    /// Kills the server as `kill -9` does.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server is running");
        child.kill().expect("our own child can be killed");
        let status = child.wait().expect("our own child");
        assert_eq!(status.signal(), Some(9), "the server had ended by itself:\n{}", self.output());
    }

    /// Gives the directory of a server that is not running, with what it wrote, into other hands. What it wrote so far is
    /// searched for secrets.
    ///
    /// # Panics
    /// When it is running.
    #[must_use]
    pub fn into_directory(mut self) -> TempDir {
        assert!(self.child.is_none(), "the server is running");
        self.finish();
        self.directory.take().expect("the directory lives as long as the server")
    }

    fn finish(&mut self) {
        if self.child.is_some() {
            for path in ["/metrics", "/readyz", "/openapi.json", "/v1/root-keys", "/v1/organizations"] {
                let _ = self.client().get(path).try_send();
            }
            let _ = self.client().get("/v1/events").header("accept", "application/x-ndjson").try_send();
            let status = self.stop();
            assert_eq!(status.code(), Some(0), "a graceful stop ends with 0:\n{}", self.output());
        }
        let output = self.output();
        for sign in ["panicked at", "unexpected panic"] {
            assert!(!output.contains(sign), "the server panicked:\n{output}");
        }
        self.transcript.assert_no_leak(&output, &self.data());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.directory.is_none() {
            return;
        }
        if !thread::panicking() {
            self.finish();
            return;
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(mut directory) = self.directory.take() {
            directory.disable_cleanup(true);
            println!("the server's output and data are kept in {}", directory.path().display());
        }
    }
}

/// An address on which nothing listens just now.
///
/// # Panics
/// When the system has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}
