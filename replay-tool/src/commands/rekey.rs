//! `rekey`: wraps the secret keys of a stopped service's directory with another key-encryption key.

use std::sync::Arc;

use keyledger_engine::kek::Kek;
use keyledger_engine::kek::key_file::KeyFile;
use keyledger_engine::log;
use keyledger_engine::storage::data_directory::{DataDirectory, LOG_KEY, SIGNING_KEYS, WEBHOOK_KEY};
use keyledger_engine::vault::Vault;
use serde_json::json;

use crate::arguments::{NewKekSource, Options};
use crate::key_encryption;
use crate::output::report::{Failure, Report};
use crate::stopped_log;

pub(crate) fn run(options: &Options, new: &NewKekSource) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    // Held until the end, so that the service cannot start in the meantime.
    let _log = stopped_log::open_without_vault(&directory)?;
    let (from, to) = (key_encryption::fetch(&options.kek)?, key_encryption::fetch_new(new)?);
    let mut changed = Vec::new();
    if Vault::rekey(&directory.vault(), from.clone(), to.clone()).map_err(log::Error::from)? {
        changed.push(keyledger_engine::vault::FILE_NAME);
    }
    let files = [
        (directory.log_key(), LOG_KEY),
        (directory.webhook_key(), WEBHOOK_KEY),
        (directory.signing_keys(), SIGNING_KEYS),
    ];
    for (path, name) in files {
        let file = KeyFile::new(path, name, from.clone());
        if file.rekey(to.clone()).map_err(Failure::could_not_run)? {
            changed.push(name);
        }
    }
    report(options, &changed, to)
}

fn report(options: &Options, changed: &[&str], to: Option<Arc<Kek>>) -> Result<Report, Failure> {
    let data = options.data.display();
    let id = to.map(|kek| kek.id().to_string());
    let json = json!({ "command": "rekey", "ok": true, "files": changed, "kek": id });
    let how = match &id {
        Some(id) => format!("wrapped with the key-encryption key {id}"),
        None => "in clear".to_owned(),
    };
    let text = if changed.is_empty() {
        format!("{data}: nothing to do; the secret keys are {how}")
    } else {
        format!("{data}: {how}: {}", changed.join(", "))
    };
    Report::new(text, &json, None)
}
