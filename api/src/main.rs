//! The service binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    keyledger_api::cli::run()
}
