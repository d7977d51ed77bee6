//! Arguments about the key-encryption key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use keyledger_engine::kek::Kek;
use keyledger_engine::kek::provider::{self, KekCommand, KekFile, KekProvider};

/// Where the key-encryption key comes from. Without it, secret keys are in clear in the data directory.
#[derive(Args, Clone)]
pub(super) struct KekSource {
    /// File with the key-encryption key, which wraps all secret keys of the data directory: 32 random bytes
    /// in base64 or hexadecimal. Keep it apart from the data and its backups.
    #[arg(long, env = "KEYLEDGER_KEK_FILE", value_name = "FILE", conflicts_with = "kek_command")]
    kek_file: Option<PathBuf>,
    /// Command for the shell that prints the key-encryption key, such as one that lets a key management
    /// service decrypt it.
    #[arg(long, env = "KEYLEDGER_KEK_COMMAND", value_name = "COMMAND")]
    kek_command: Option<String>,
}

impl KekSource {
    /// Fetches the key, if there is one. Warns of a key that is kept in `data`, which it should protect.
    ///
    /// # Errors
    /// When the key cannot be fetched.
    pub(super) fn fetch(&self, data: &Path) -> Result<Option<Arc<Kek>>, provider::Error> {
        let provider: Box<dyn KekProvider> = match (&self.kek_file, &self.kek_command) {
            (Some(path), _) => {
                warn_if_in(path, data);
                Box::new(KekFile(path.clone()))
            }
            (None, Some(command)) => Box::new(KekCommand(command.clone())),
            (None, None) => return Ok(None),
        };
        provider::fetch_blocking(&*provider).map(|kek| Some(Arc::new(kek)))
    }
}

fn warn_if_in(path: &Path, data: &Path) {
    let is_in = path.canonicalize().ok().zip(data.canonicalize().ok());
    if is_in.is_some_and(|(path, data)| path.starts_with(data)) {
        tracing::warn!(
            file = %path.display(),
            "the key-encryption key is in the data directory that it is to protect; keep it elsewhere"
        );
    }
}
