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

/// An allocator option in the environment that the process started with.
fn allocator_option(server: &Server) -> Option<String> {
    let environment = fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|it| it.strip_prefix("MIMALLOC_PURGE_DELAY=").map(str::to_owned))
}

#[test]
fn memory_is_kept_for_ten_seconds_unless_the_environment_sets_it() {
    assert_eq!(allocator_option(&Server::start()).as_deref(), Some("10000"));
    let environment = vec![("MIMALLOC_PURGE_DELAY", "0".to_owned())];
    let server = Server::start_with(Options { environment, ..Options::default() });
    assert_eq!(allocator_option(&server).as_deref(), Some("0"));
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
    let mut child = command(fitting).spawn().unwrap();
    let client = Client::new(address, Transcript::default()).with_token(&root_token);
    poll::until("the server to be ready", Duration::from_secs(30), || {
        client.get("/readyz").try_send().ok().filter(|it| it.status == 200)
    });
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let environment = fs::read_to_string(format!("/proc/{}/environ", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!environment.contains("MIMALLOC_PURGE_DELAY"), "it re-executed itself after all");
    let signals = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let broken_pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    assert_ne!((signals("SigIgn:") | signals("SigCgt:")) & broken_pipe, 0, "{status}");
}
