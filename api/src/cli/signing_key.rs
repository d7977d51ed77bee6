//! `keyledger signing-key`.

use std::io::Write;

use clap::Subcommand;
use keyledger_engine::value::time::{Clock, SystemClock};

use super::Outcome;
use super::data::DataPath;
use crate::auth::signing_keys;
use keyledger_engine::storage::data_directory::DataDirectory;

#[derive(Subcommand)]
pub(super) enum SigningKeyCommand {
    /// Create a new key that signs from now on. The previous key stays published until the tokens that it
    /// signed have expired. A running service reloads the keys on SIGHUP.
    Rotate(DataPath),
}

impl SigningKeyCommand {
    pub(super) fn run(self) -> Outcome {
        let Self::Rotate(path) = self;
        let directory = DataDirectory::existing(&path.data)?;
        signing_keys::rotate_now(&directory.signing_keys(), SystemClock.now())?;
        let line = "a new key signs from now on; send SIGHUP to a running service to reload it";
        let _ = writeln!(std::io::stderr(), "{line}");
        Ok(())
    }
}
