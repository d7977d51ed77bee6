//! `keyledger log-key`.

use super::data::DataPath;
use super::{Outcome, print_text};
use keyledger_engine::storage::data_directory::DataDirectory;

/// Prints the public key that verifies checkpoints. Works while the service runs.
pub(super) fn print(path: &DataPath) -> Outcome {
    let path = DataDirectory::existing(&path.data)?.log_verifier();
    let verifier = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; start the service once to create the file", path.display()))?;
    print_text(&verifier)
}
