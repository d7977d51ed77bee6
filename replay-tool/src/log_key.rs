//! The key that signs the log's checkpoints, where the tool can read it.

use std::fs;
use std::io::ErrorKind;

use keyledger_engine::storage::data_directory::DataDirectory;
use keyledger_engine::transparency::note::Signer;
use keyledger_engine::value::mac::MacKey;
use keyledger_projections::verification::MAC_PURPOSE;
use zeroize::Zeroizing;

use crate::arguments::KeyOptions;
use crate::output::report::Failure;

/// Reads the signing key: the file in `options`, or the one in the data directory. Returns none when the
/// directory has none, as after a restore.
pub(crate) fn signer(directory: &DataDirectory, options: &KeyOptions) -> Result<Option<Signer>, Failure> {
    let path = options.log_key_file.clone().unwrap_or_else(|| directory.log_key());
    let shown = path.display();
    let text = match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && options.log_key_file.is_none() => {
            return Ok(None);
        }
        Err(error) => {
            return Err(Failure::could_not_run(format!(
                "{shown}: cannot be read: {error}; check the path, its owner and permissions"
            )));
        }
    };
    Signer::parse(&text).map(Some).map_err(|error| {
        Failure::could_not_run(format!("{shown}: {error}; name the log's key with --log-key-file"))
    })
}

/// The key that vouches for the verification index's snapshot, if the signing key can be read.
pub(crate) fn snapshot_key(
    directory: &DataDirectory,
    options: &KeyOptions,
) -> Result<Option<MacKey>, Failure> {
    Ok(signer(directory, options)?.map(|signer| signer.mac_key(MAC_PURPOSE)))
}
