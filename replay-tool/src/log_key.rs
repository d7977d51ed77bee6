//! The key that signs the log's checkpoints, where the tool can read it.

use std::sync::Arc;

use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::kek::Kek;
use keyledger_engine::kek::key_file::{self, KeyFile};
use keyledger_engine::storage::data_directory::{DataDirectory, LOG_KEY};
use keyledger_engine::transparency::note::Signer;
use keyledger_projections::verification::MAC_PURPOSE;

use crate::arguments::KeyOptions;
use crate::output::report::Failure;

/// Reads the signing key: the file in `options`, or the one in the data directory. Returns none when the
/// directory has none, as after a restore.
pub(crate) fn signer(
    directory: &DataDirectory,
    options: &KeyOptions,
    kek: Option<&Arc<Kek>>,
) -> Result<Option<Signer>, Failure> {
    let kek = kek.cloned();
    let file = match &options.log_key_file {
        Some(path) => KeyFile::new(path.clone(), LOG_KEY, kek).or_in_clear(),
        None => KeyFile::new(directory.log_key(), LOG_KEY, kek),
    };
    let shown = file.path().display();
    let text = match file.read() {
        Ok(text) => text,
        Err(key_file::Error::Missing) if options.log_key_file.is_none() => return Ok(None),
        Err(error) => return Err(Failure::could_not_run(format!("{shown}: {error}"))),
    };
    Signer::parse(std::str::from_utf8(&text).unwrap_or_default()).map(Some).map_err(|error| {
        Failure::could_not_run(format!("{shown}: {error}; name the log's key with --log-key-file"))
    })
}

/// The key that vouches for the verification index's snapshot, if the signing key can be read.
pub(crate) fn snapshot_key(
    directory: &DataDirectory,
    options: &KeyOptions,
    kek: Option<&Arc<Kek>>,
) -> Result<Option<MacKey>, Failure> {
    Ok(signer(directory, options, kek)?.map(|signer| signer.mac_key(MAC_PURPOSE)))
}
