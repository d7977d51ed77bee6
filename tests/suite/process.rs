//! The service's process, as the system sees it.

use std::fs;

use keyledger_tests::server::{Options, Server};

/// An option of the allocator's in the environment that the process began with.
fn allocator_option(server: &Server) -> Option<String> {
    let environment = fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|it| it.strip_prefix("MIMALLOC_PURGE_DELAY=").map(str::to_owned))
}

#[test]
fn memory_is_kept_for_ten_seconds_unless_the_environment_says_how_long() {
    assert_eq!(allocator_option(&Server::start()).as_deref(), Some("10000"));
    let environment = vec![("MIMALLOC_PURGE_DELAY", "0".to_owned())];
    let server = Server::start_with(Options { environment, ..Options::default() });
    assert_eq!(allocator_option(&server).as_deref(), Some("0"));
}
