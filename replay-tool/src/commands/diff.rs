//! `diff`: compares the projections with a fresh replay.

use keyledger_engine::log::LogReader;
use keyledger_engine::storage::data_directory::DataDirectory;
use serde_json::json;

use crate::arguments::{KeyOptions, Options};
use crate::comparison::compare_all;
use crate::key_encryption;
use crate::log_key::snapshot_key;
use crate::output::report::{Failure, Report, grouped};
use crate::stopped_log;

pub(crate) fn run(options: &Options, keys: &KeyOptions) -> Result<Report, Failure> {
    let directory = DataDirectory::existing(&options.data)?;
    let kek = key_encryption::fetch(&options.kek)?;
    let reader = stopped_log::open(&directory, kek.as_deref())?;
    let head = reader.head()?;
    let comparisons =
        compare_all(&directory, &reader, snapshot_key(&directory, keys, kek.as_ref())?.as_ref())?;
    let mut lines = vec![format!("{}: {} events", reader.file(), grouped(head.get()))];
    lines.extend(comparisons.iter().map(|it| format!("{}: {}", it.projection, it.words)));
    let wrong = comparisons.iter().find(|it| !it.is_same());
    let json = json!({
        "command": "diff",
        "ok": wrong.is_none(),
        "head": head.get(),
        "projections": comparisons.iter().map(|it| it.to_json(head)).collect::<Vec<_>>(),
    });
    let wrong = wrong.map(|it| {
        let projections = directory.projections();
        let (directory, data) = (projections.display(), options.data.display());
        let (projection, words) = (it.projection, &it.words);
        format!("{directory}: {projection}: {words}; run `replay-tool rebuild --data {data}`")
    });
    Report::new(lines.join("\n"), &json, wrong)
}
