//! The token of the first root key, which somebody has to learn and nobody else.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use keyledger_engine::storage::atomic_file;
use keyledger_engine::value::token::Token;

use crate::service::start::NotShown;

/// Prints the token if somebody is looking. Otherwise standard output is a log that many can read, so the
/// token goes to a file that only its owner can read.
pub(super) fn show(token: &Token, file: &Path) -> Result<(), NotShown> {
    let mut output = io::stdout();
    if output.is_terminal() {
        return writeln!(output, "\n  Root key, shown only once: {}\n", token.expose())
            .map_err(|error| NotShown { place: "standard output".into(), error });
    }
    atomic_file::replace(file, |file| writeln!(file, "{}", token.expose()))
        .map_err(|error| NotShown { place: file.display().to_string(), error })?;
    tracing::warn!(
        file = %file.display(),
        "the first root key is in a file; put it where you keep secrets, and delete the file"
    );
    Ok(())
}

/// Reminds the operator of a token that is still in its file.
pub(super) fn remind(file: &Path) {
    if file.exists() {
        tracing::warn!(
            file = %file.display(),
            "the first root key is still in a file; put it where you keep secrets, and delete the file"
        );
    }
}
