//! The baseline of verification: a service on the same web framework and runtime that reads the request and
//! answers a constant of the same length.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::post;

/// The argument that makes this program serve as the baseline.
pub(crate) const ARGUMENT: &str = "serve-baseline";

/// Serves until killed. The argument after [`ARGUMENT`] is the length of the answer.
pub(crate) fn serve() {
    let length: usize =
        env::args().nth(2).and_then(|text| text.parse().ok()).expect("the length of the answer");
    let filler = "x".repeat(length.saturating_sub(r#"{"x":""}"#.len()));
    let answer = Bytes::from(format!(r#"{{"x":"{filler}"}}"#));
    let handler = move |body: Bytes| async move {
        std::hint::black_box(&body);
        ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], answer.clone())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        println!("{}", listener.local_addr().expect("a listener has an address"));
        axum::serve(listener, Router::new().route("/v1/keys/verify", post(handler)))
            .await
            .expect("the baseline serves");
    });
}

/// The baseline as a process, killed when dropped.
pub(crate) struct Baseline {
    child: Child,
    /// The listening address.
    pub(crate) address: SocketAddr,
}

impl Baseline {
    /// Starts the baseline on a core.
    pub(crate) fn start(core: &str, answer_len: usize) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let mut child = Command::new("taskset")
            .args(["-c", core])
            .arg(program)
            .args([ARGUMENT, &answer_len.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset is not installed: run tests/tools-install.sh bench");
        let mut line = String::new();
        let output = child.stdout.take().expect("standard output is piped");
        BufReader::new(output).read_line(&mut line).expect("the baseline prints its address");
        Self { child, address: line.trim().parse().expect("an address") }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
