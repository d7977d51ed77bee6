//! The service's process, as the operating system sees it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::client::transcript::Transcript;
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server, free_address};

/// An allocator option in the environment that the process started with. Nobody else may read that
/// environment, so the process logs it.
fn allocator_option(mut environment: Vec<(&'static str, String)>) -> String {
    environment.push(("RUST_LOG", "debug".to_owned()));
    let output = Server::start_with(Options { environment, ..Options::default() }).output();
    let line = output.lines().find(|line| line.contains("the allocator keeps unused memory"));
    line.unwrap_or_else(|| panic!("no such line in {output}")).to_owned()
}

#[test]
fn memory_is_kept_for_ten_seconds_unless_the_environment_sets_it() {
    let millis = |line: String| line.split_once("millis=").map(|(_, text)| text.to_owned());
    assert_eq!(millis(allocator_option(Vec::new())).as_deref(), Some("Some(\"10000\")"));
    let set = vec![("MIMALLOC_PURGE_DELAY", "0".to_owned())];
    assert_eq!(millis(allocator_option(set)).as_deref(), Some("Some(\"0\")"));
}

/// The system limits the size of arguments and environment. With that limit reached, the program cannot
/// re-execute itself with one more option.
#[test]
fn a_program_that_cannot_reexecute_itself_continues() {
    let directory = tempfile::tempdir().unwrap();
    let program = fs::canonicalize(binaries::path("keyledger")).unwrap();
    let (address, root_token) = (free_address(), token::root());
    let command = |filler: usize| {
        let mut command = Command::new(&program);
        command
            .args(["serve", "--listen", &address.to_string(), "--data"])
            .arg(directory.path().join("data"));
        command.env_clear().env("KEYLEDGER_BOOTSTRAP_ROOT_KEY", &root_token);
        // One variable can have 128 KiB.
        for (number, len) in (0..).zip(std::iter::repeat_n(100_000, filler / 100_000)) {
            command.env(format!("FILLER_{number:03}"), "x".repeat(len));
        }
        command.env("RUST_LOG", "debug");
        command.env("FILLER", "x".repeat(filler % 100_000)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // With one more short argument, shorter than the option.
    let fits = |filler| command(filler).arg("--help").status().is_ok();
    let (mut fitting, mut over) = (0, 16 << 20);
    assert!(fits(fitting) && !fits(over), "the system limits arguments and environment");
    while over - fitting > 1 {
        let middle = fitting.midpoint(over);
        if fits(middle) { fitting = middle } else { over = middle }
    }
    let errors = directory.path().join("errors");
    let mut child = command(fitting).stderr(fs::File::create(&errors).unwrap()).spawn().unwrap();
    let client = Client::new(address, Transcript::default()).with_token(&root_token);
    poll::until("the server to be ready", Duration::from_secs(30), || {
        client.get("/readyz").try_send().ok().filter(|it| it.status == 200)
    });
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let errors = fs::read_to_string(errors).unwrap();
    assert!(errors.contains("could not set the allocator's purge delay"), "it re-executed itself after all");
    let signals = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let broken_pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    assert_ne!((signals("SigIgn:") | signals("SigCgt:")) & broken_pipe, 0, "{status}");
}
