//! Programs of tests/node, which use published libraries as independent clients.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::processes::binaries;

/// Runs a program of tests/node with JSON on its standard input, and reads JSON from its standard output.
///
/// # Panics
/// When the program cannot be started, fails, or writes something other than JSON.
#[track_caller]
#[must_use]
pub fn run(program: &str, input: &Value) -> Value {
    run_trusting(None, program, input)
}

/// As [`run`], with a certificate that the program trusts in addition to the built-in ones.
///
/// # Panics
/// When the program cannot be started, fails, or writes something other than JSON.
#[track_caller]
#[must_use]
pub fn run_trusting(certificate: Option<&Path>, program: &str, input: &Value) -> Value {
    let directory = binaries::workspace().join("tests/node");
    assert!(
        directory.join("node_modules").is_dir(),
        "tests/node is not installed: run tests/tools-install.sh test"
    );
    let mut child = Command::new("node")
        .arg(directory.join(program))
        .envs(certificate.map(|certificate| ("NODE_EXTRA_CA_CERTS", certificate)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node can be started");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin.write_all(input.to_string().as_bytes()).expect("the program reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{program}: {error}: {}{errors}", String::from_utf8_lossy(&output.stdout))
    })
}
