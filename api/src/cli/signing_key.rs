//! `keyledger signing-key`.

use std::io::Write;

use clap::Subcommand;
use keyledger_engine::value::time::{Clock, SystemClock};

use super::Outcome;
use super::data::DataPath;
use super::kek::KekSource;
use crate::auth::signing_keys::{self, Previous};
use keyledger_engine::kek::key_file::KeyFile;
use keyledger_engine::storage::data_directory::{DataDirectory, SIGNING_KEYS};

#[derive(Subcommand)]
pub(super) enum SigningKeyCommand {
    /// Create a new key that signs from now on. The previous key stays published until the tokens that it
    /// signed have expired. A running service reloads the keys on SIGHUP.
    Rotate {
        #[command(flatten)]
        path: DataPath,
        #[command(flatten)]
        kek: KekSource,
        /// Drop all previous keys at once, because somebody else may have them. Every access token that they
        /// signed is invalid as soon as the service has reloaded the keys.
        #[arg(long)]
        compromised: bool,
    },
}

impl SigningKeyCommand {
    pub(super) fn run(self) -> Outcome {
        let Self::Rotate { path, kek, compromised } = self;
        let directory = DataDirectory::existing(&path.data)?;
        let previous = if compromised { Previous::Dropped } else { Previous::Published };
        let file = KeyFile::new(directory.signing_keys(), SIGNING_KEYS, kek.fetch(&path.data)?);
        signing_keys::rotate_now(&file, SystemClock.now(), previous)?;
        let line = if compromised {
            "a new key signs from now on, and no other key is accepted; send SIGHUP to a running service at \
             once, until then it uses the previous keys"
        } else {
            "a new key signs from now on; send SIGHUP to a running service to reload it"
        };
        let _ = writeln!(std::io::stderr(), "{line}");
        Ok(())
    }
}
