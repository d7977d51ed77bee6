//! The README's commands, run in order, unchanged.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use keyledger_tests::poll;
use keyledger_tests::processes::binaries;

/// Marks a block of the README that is run: ```` ```sh run ````.
const MARK: &str = "```sh run";

#[test]
fn the_readmes_commands_work() {
    let readme = fs::read_to_string(binaries::workspace().join("README.md")).expect("there is a README");
    let blocks = marked_blocks(&readme);
    assert!(!blocks.is_empty(), "the README has no block marked {MARK}");
    let script = blocks.join("\n");
    // The README's port is fixed. This test takes a lock, and checks that no other server listens there
    // first.
    let address = "127.0.0.1:7070";
    drop(poll::until("the README's address to be free", std::time::Duration::from_secs(60), || {
        TcpListener::bind(address).ok()
    }));
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), address);
    let token = poll::until("the root key to be written", std::time::Duration::from_secs(30), || {
        fs::read_to_string(directory.path().join("data/first-root-key")).ok()
    });
    let token = token.trim();
    // The service creates the root key after its token is in the file.
    poll::until("the root key to be accepted", std::time::Duration::from_secs(30), || {
        let transcript = keyledger_tests::client::transcript::Transcript::default();
        let client = keyledger_tests::client::http::Client::new(address.parse().unwrap(), transcript);
        client.with_token(token).get("/v1/root-keys").try_send().ok().filter(|it| it.status == 200)
    });
    // `make run` keeps running and shows the root key, which the next commands need. A reader copies it from
    // there; this test does not run in a terminal, and finds it in a file.
    let done = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(directory.path())
        .env("ROOT_KEY", token)
        .env("PATH", path_with_binaries())
        .stdin(Stdio::null())
        .output()
        .expect("bash can be started");
    drop(server);
    assert!(
        done.status.success(),
        "the README's commands fail: {}\n--- commands\n{script}\n--- output\n{}--- errors\n{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn marked_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_end() == MARK {
            blocks.push(
                lines.by_ref().take_while(|line| line.trim_end() != "```").collect::<Vec<_>>().join("\n"),
            );
        }
    }
    blocks
}

fn path_with_binaries() -> std::ffi::OsString {
    let directory = binaries::path("keyledger").parent().expect("a file has a directory").to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(directory).chain(std::env::split_paths(&path)))
        .expect("no odd directories")
}

/// The service as `make run` starts it.
struct Serving(std::process::Child);

fn serve(directory: &std::path::Path, address: &str) -> Serving {
    let child = Command::new(binaries::path("keyledger"))
        .args(["serve", "--listen", address, "--data", "./data"])
        .current_dir(directory)
        .env_remove("KEYLEDGER_BOOTSTRAP_ROOT_KEY")
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("errors.log")).unwrap())
        .process_group(0)
        .spawn()
        .expect("the binary can be started");
    Serving(child)
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
