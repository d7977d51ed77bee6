//! The real `keyledger` binary as a process, on a free port with its own data directory.

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

/// The longest start, including a rebuild of projections.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The longest graceful stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Options for starting a server.
#[derive(Default)]
pub struct Options {
    /// The `keyledger` binary. Default: the one under test.
    pub program: Option<PathBuf>,
    /// Additional arguments of `keyledger serve`.
    pub arguments: Vec<String>,
    /// The processor core to pin the process to.
    pub core: Option<usize>,
    /// The certificate that clients trust, if the arguments enable TLS.
    pub trusted: Option<PathBuf>,
    /// Additional environment variables.
    pub environment: Vec<(&'static str, String)>,
    /// The parent of the data directory. Default: the system's directory for temporary files.
    pub place: Option<PathBuf>,
    /// Whether a server that refuses to serve an inconsistent log counts as ready.
    pub may_refuse_log: bool,
    /// Whether a server that refuses to show a projection counts as ready.
    pub may_refuse_projections: bool,
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub struct Refusal {
    /// The exit status.
    pub status: ExitStatus,
    /// Its standard error.
    pub message: String,
}

impl Refusal {
    /// Checks that the process failed properly: an exit code above zero, one line on standard error besides
    /// progress lines, which contains `what`, and no trace of a panic.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn check(&self, what: &str) {
        let Self { status, message } = self;
        assert!(status.code().is_some_and(|code| code > 0), "{status}: {message}");
        let lines = message.trim_end().lines().filter(|line| !line.contains(" INFO "));
        assert_eq!(lines.count(), 1, "more than one line: {message}");
        assert!(message.contains(what), "does not name {what}: {message}");
        assert!(!message.contains("panicked") && !message.contains("RUST_BACKTRACE"), "{message}");
    }
}

/// A running `keyledger serve`. Dropping it stops the process and searches everything that it wrote for
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

    /// Starts a server with these options.
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

    /// Starts a server whose data directory is `data` inside `directory`; it may exist already.
    ///
    /// # Errors
    /// When the process ends before it is ready.
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

    /// Restarts a stopped or killed server on its data and a new port, and waits until it is ready.
    ///
    /// # Panics
    /// When the server is running, or does not become ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", self.output()));
    }

    /// As [`start_again`](Self::start_again), but returns a failed start.
    ///
    /// # Errors
    /// When the process ends before it is ready.
    ///
    /// # Panics
    /// When the server is running, or neither becomes ready nor ends.
    pub fn try_start_again(&mut self) -> Result<(), Refusal> {
        assert!(self.child.is_none(), "the server is running");
        let mut tries = 0;
        loop {
            self.address = free_address();
            self.child = Some(self.spawn());
            let taken = format!("{}: cannot listen: Address already in use", self.address);
            match self.wait_until_ready() {
                // Another process may take the port between choosing it and listening on it. Then another
                // port is tried.
                Err(refusal) if refusal.message.contains(&taken) && tries < 5 => tries += 1,
                outcome => return outcome,
            }
        }
    }

    fn spawn(&self) -> Child {
        let program = self.options.program.clone().unwrap_or_else(|| binaries::path("keyledger"));
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
                None => client.get("/readyz").try_send().is_ok_and(|response| {
                    response.status == 200
                        || self.options.may_refuse_log && response.json()["log_inconsistent"].is_string()
                        || self.options.may_refuse_projections
                }),
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

    /// A client with the bootstrap root key, which has the permission `admin`.
    #[must_use]
    pub fn client(&self) -> Client {
        self.anonymous().with_token(&self.root_token)
    }

    /// A client without credentials.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        let client = Client::new(self.address, self.transcript.clone());
        if self.options.program.is_some() { client.of_another_version() } else { client }
    }

    /// The bootstrap root key.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// The collector of the server's output.
    #[must_use]
    pub const fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The standard output and standard error of all runs of the server.
    #[must_use]
    pub fn output(&self) -> String {
        self.read(OUTPUT) + &self.read(ERRORS)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path().join(name)).unwrap_or_default()).into_owned()
    }

    /// Changes the options for the next start.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// The process's id.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    /// The memory of the process that is in use, in bytes.
    ///
    /// # Panics
    /// When the server is not running.
    #[must_use]
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("our own child");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse().ok());
        kib.map_or(0, |kib: usize| kib * 1024)
    }

    fn path(&self) -> &Path {
        self.directory.as_ref().expect("the server owns its directory").path()
    }

    /// Sends SIGTERM and waits until the process ends.
    ///
    /// # Panics
    /// When the server is not running or does not stop in time.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server is running");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a process has an id above zero");
        kill_process(pid, Signal::TERM).expect("our own process can be signalled");
        poll::until("the server to stop", STOP_LIMIT, || child.try_wait().expect("our own child"))
    }

    /// Kills the server with SIGKILL.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server is running");
        child.kill().expect("our own child can be killed");
        let status = child.wait().expect("our own child");
        assert_eq!(status.signal(), Some(9), "the server had already ended:\n{}", self.output());
    }

    /// Returns the directory of a stopped server. Its output so far is searched for secrets.
    ///
    /// # Panics
    /// When the server is running.
    #[must_use]
    pub fn into_directory(mut self) -> TempDir {
        assert!(self.child.is_none(), "the server is running");
        self.finish();
        self.directory.take().expect("the server owns its directory")
    }

    fn finish(&mut self) {
        if self.child.is_some() {
            for path in ["/metrics", "/readyz", "/openapi.json", "/v1/root-keys", "/v1/organizations"] {
                let _ = self.client().get(path).try_send();
            }
            let _ = self.client().get("/v1/events").header("accept", "application/x-ndjson").try_send();
            let status = self.stop();
            assert_eq!(status.code(), Some(0), "a graceful stop did not exit with 0:\n{}", self.output());
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

/// A loopback address with a free port.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}
