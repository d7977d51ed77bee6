//! Where secrets come from, and where they do not appear.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::client::transcript::Transcript;
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Refusal, Server, free_address};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const VARIABLE: &str = "KEYLEDGER_BOOTSTRAP_ROOT_KEY";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A service without the variables that the test's own environment may have.
fn serve(data: &Path, address: &str) -> Command {
    let mut command = Command::new(binaries::path("keyledger"));
    command.args(["serve", "--listen", address, "--data"]).arg(data).stdin(Stdio::null());
    command.env_remove(VARIABLE).env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// A running service, killed on drop.
struct Running(Child, Client);

impl Running {
    fn start(command: &mut Command, address: &str) -> Self {
        let child = command.spawn().expect("the binary can be started");
        let client = Client::new(address.parse().unwrap(), Transcript::default());
        let mut running = Self(child, client);
        poll::until("the server to be ready", START_LIMIT, || {
            assert_eq!(running.0.try_wait().unwrap(), None, "it has ended");
            running.1.get("/readyz").try_send().ok().filter(|it| it.status == 200)
        });
        running
    }

    fn accepts(&self, token: &str) {
        self.1.with_token(token).get("/v1/root-keys").expect(200);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn refused(command: &mut Command, secret: &str, part: &str) {
    let Output { status, stderr, stdout } = command.output().unwrap();
    let message = String::from_utf8_lossy(&stderr).into_owned();
    let output = message.clone() + &String::from_utf8_lossy(&stdout);
    assert!(!output.contains(secret), "a secret is not repeated: {output}");
    Refusal { status, message }.check(part);
}

/// What a service writes, each stream to a file of its own.
fn written(command: &mut Command, directory: &Path) {
    command.stdout(File::create(directory.join("output")).unwrap());
    command.stderr(File::create(directory.join("errors")).unwrap());
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap()
}

#[test]
fn a_secret_can_be_in_a_file_or_a_systemd_credential() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bootstrap-root-key");
    let arguments: [&dyn Fn(&mut Command); 3] = [
        &|command| {
            command.arg("--bootstrap-root-key-file").arg(&file);
        },
        // An empty variable counts as not set.
        &|command| {
            command.env("KEYLEDGER_BOOTSTRAP_ROOT_KEY_FILE", &file).env(VARIABLE, "");
        },
        &|command| {
            command.env("CREDENTIALS_DIRECTORY", directory.path());
        },
    ];
    for (number, argument) in arguments.into_iter().enumerate() {
        let token = token::root();
        fs::write(&file, format!("{token} \r\n\n")).unwrap();
        let address = free_address().to_string();
        let mut command = serve(&directory.path().join(number.to_string()), &address);
        argument(command.stdout(Stdio::null()).stderr(Stdio::null()));
        Running::start(&mut command, &address).accepts(&token);
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let serve = || serve(&data, &free_address().to_string());
    let secret = token::root();
    refused(serve().arg("--bootstrap-root-key").arg(&secret), &secret, "--bootstrap-root-key-file or");
    refused(serve().arg(format!("--bootstrap-root-key={secret}")), &secret, VARIABLE);
    let issuer = ["--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--oidc-client-id", "y"];
    let mut with_provider = serve();
    with_provider.args(issuer).args(["--oidc-client-secret", &secret]);
    refused(&mut with_provider, &secret, "KEYLEDGER_OIDC_CLIENT_SECRET_FILE");
    let mut tool = Command::new(binaries::path("replay-tool"));
    tool.args(["backup", "--url", "http://127.0.0.1:1", "--token", &secret]).arg(directory.path().join("b"));
    refused(&mut tool, &secret, "KEYLEDGER_TOKEN_FILE");
    assert!(!data.exists(), "nothing was created");
}

#[test]
fn a_secret_that_cannot_be_used_is_reported_with_its_variable() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("file"));
    let serve = || serve(&data, &free_address().to_string());
    let secret = token::root();
    refused(serve().env("KEYLEDGER_BOOTSTRAP_ROOT_KEY_FILE", &file), &secret, "file: cannot be read");
    fs::write(&file, " \n").unwrap();
    refused(serve().env("KEYLEDGER_BOOTSTRAP_ROOT_KEY_FILE", &file), &secret, VARIABLE);
    fs::write(&file, &secret).unwrap();
    let mut twice = serve();
    twice.env(VARIABLE, &secret).env("KEYLEDGER_BOOTSTRAP_ROOT_KEY_FILE", &file);
    refused(&mut twice, &secret, "both set");
    let mut nearly_zero = [0; 32];
    nearly_zero[30..].copy_from_slice(&[7, 9]);
    for weak in [[0; 32], nearly_zero].map(|secret| token::with_head("klroot_", secret)) {
        refused(serve().env(VARIABLE, &weak), &weak, VARIABLE);
        fs::write(&file, &weak).unwrap();
        refused(serve().arg("--bootstrap-root-key-file").arg(&file), &weak, "file: easy to guess");
    }
    refused(serve().env("KEYLEDGER_MAX_CONNECTIONS", "none"), &secret, "KEYLEDGER_MAX_CONNECTIONS: ");
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let directory = tempfile::tempdir().unwrap();
    let (address, token) = (free_address().to_string(), token::root());
    let mut command = serve(&directory.path().join("data"), &address);
    for name in [
        "PUBLIC_URL",
        "OIDC_ISSUER",
        "OIDC_CLIENT_SECRET",
        "TLS_CERT",
        "WITNESS",
        "COMPAT",
        "MAX_CONNECTIONS",
    ] {
        command.env(format!("KEYLEDGER_{name}"), "");
    }
    command.env(VARIABLE, &token).stdout(Stdio::null()).stderr(Stdio::null());
    Running::start(&mut command, &address).accepts(&token);
}

#[test]
fn without_a_bootstrap_key_the_first_start_writes_one_to_a_private_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let file = data.join("first-root-key");
    let run = || {
        let address = free_address().to_string();
        let mut command = serve(&data, &address);
        written(&mut command, directory.path());
        let running = Running::start(command.env(VARIABLE, ""), &address);
        let output = read(directory.path(), "output") + &read(directory.path(), "errors");
        assert!(!output.contains("klroot_"), "{output}");
        assert_eq!(output.contains(file.to_str().unwrap()), file.exists(), "{output}");
        running
    };
    let running = run();
    let token = fs::read_to_string(&file).unwrap().trim().to_owned();
    token::check(&token, "klroot_");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    running.accepts(&token);
    drop(running);
    drop(run());
    fs::remove_file(&file).unwrap();
    run().accepts(&token);
    assert!(!file.exists(), "a later start creates none");
}

#[test]
fn a_first_start_in_a_terminal_shows_the_root_key_and_writes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let open = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let address = free_address().to_string();
    let mut command = serve(&data, &address);
    command.stdout(open()).stderr(Stdio::null());
    let running = Running::start(&mut command, &address);
    // What was written before the server was ready can be read at once.
    let mut bytes = [0; 4_096];
    let len = File::from(terminal).read(&mut bytes).unwrap();
    let output = String::from_utf8_lossy(&bytes[..len]).into_owned();
    let shown = output.split_whitespace().find(|word| word.starts_with("klroot_")).expect("it is shown");
    token::check(shown, "klroot_");
    running.accepts(shown);
    assert!(!data.join("first-root-key").exists());
}

#[test]
fn a_generated_root_key_is_accepted_at_a_first_start() {
    let directory = tempfile::tempdir().unwrap();
    let generate = || Command::new(binaries::path("keyledger")).args(["root-key", "generate"]).output();
    let tokens = [generate(), generate()].map(|output| String::from_utf8(output.unwrap().stdout).unwrap());
    assert_ne!(tokens[0], tokens[1]);
    let token = tokens[0].trim();
    token::check(token, "klroot_");
    let address = free_address().to_string();
    let mut command = serve(&directory.path().join("data"), &address);
    command.env(VARIABLE, token).stdout(Stdio::null()).stderr(Stdio::null());
    Running::start(&mut command, &address).accepts(token);
}

#[test]
fn other_programs_cannot_read_the_process() {
    let server = Server::start();
    let process = format!("/proc/{}", server.pid());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // The system gives these files to its administrator for a process that is not dumpable. For an
    // administrator's process that shows nothing, so another user runs it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = directory.path().join("keyledger");
    fs::copy(binaries::path("keyledger"), &program).unwrap();
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    let address = free_address().to_string();
    command.args(["serve", "--listen", &address, "--data"]).arg(directory.path().join("data"));
    command.env(VARIABLE, token::root()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running::start(&mut command, &address);
    let environment = format!("/proc/{}/environ", running.0.id());
    assert_eq!(fs::metadata(environment).unwrap().uid(), 0);
    assert_ne!(fs::metadata(directory.path().join("data")).unwrap().uid(), 0);
}
