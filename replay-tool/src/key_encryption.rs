//! The key-encryption key, if there is one.

use std::sync::Arc;

use keyledger_engine::kek::Kek;
use keyledger_engine::kek::provider::{self, KekCommand, KekFile, KekProvider};

use crate::arguments::{KekSource, NewKekSource};
use crate::output::report::Failure;

/// Fetches the key that the data directory's secret keys are wrapped with.
pub(crate) fn fetch(source: &KekSource) -> Result<Option<Arc<Kek>>, Failure> {
    fetch_from(source.kek_file.as_deref(), source.kek_command.as_deref())
}

/// Fetches the key to wrap them with.
pub(crate) fn fetch_new(source: &NewKekSource) -> Result<Option<Arc<Kek>>, Failure> {
    fetch_from(source.new_kek_file.as_deref(), source.new_kek_command.as_deref())
}

fn fetch_from(file: Option<&std::path::Path>, command: Option<&str>) -> Result<Option<Arc<Kek>>, Failure> {
    let provider: Box<dyn KekProvider> = match (file, command) {
        (Some(path), _) => Box::new(KekFile(path.to_path_buf())),
        (None, Some(command)) => Box::new(KekCommand(command.to_owned())),
        (None, None) => return Ok(None),
    };
    let fetched = provider::fetch_blocking(&*provider);
    fetched.map(|kek| Some(Arc::new(kek))).map_err(|error| Failure::could_not_run(error.to_string()))
}
