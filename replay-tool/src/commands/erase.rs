//! `erase`: erases the personal text of a user or an organization while the service is stopped.

use std::sync::Arc;

use keyledger_engine::domain::erasure::{Erasure, ErasureCommand};
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::kek::Kek;
use keyledger_engine::ledger::{self, Aggregate, Command, Ledger, Request};
use keyledger_engine::log;
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::{ErasureId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::{Clock, SystemClock};
use keyledger_engine::vault::Vault;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use serde_json::json;

use crate::arguments::Options;
use crate::commands::rebuild;
use crate::key_encryption;
use crate::output::report::{Failure, Report, grouped};
use crate::stopped_log;
use keyledger_engine::storage::data_directory::DataDirectory;

pub(crate) fn run(options: &Options, organization: &str, user: Option<&str>) -> Result<Report, Failure> {
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        Failure::could_not_run(format!("--{what}: {error}; nothing was erased"))
    };
    let organization_id: OrganizationId =
        organization.parse().map_err(|error| refused("organization", &error))?;
    let user_id = user.map(UserId::new).transpose().map_err(|error| refused("user", &error))?;
    let directory = DataDirectory::existing(&options.data)?;
    // Fails with a clear message if the log is missing or in use; opening it for writing below would not.
    let kek = key_encryption::fetch(&options.kek)?;
    drop(stopped_log::open(&directory, kek.as_deref())?);
    let (erasure, position) = erase(&directory, kek, organization_id, user_id)?;
    // The projections contain the text in clear until their files are replaced.
    let rebuilt = rebuild::run(options, None)?;
    let whose = erasure.subject;
    let keys = grouped(erasure.subject_keys);
    let text = format!(
        "{}: {whose} of {} erased at position {position}, {keys} sealing keys destroyed\n{}",
        erasure.id, erasure.organization_id, rebuilt.text
    );
    let json = json!({
        "command": "erase",
        "ok": true,
        "id": erasure.id.to_string(),
        "position": position.get(),
        "organization_id": erasure.organization_id.as_str(),
        "subject": whose,
        "subject_keys": erasure.subject_keys,
    });
    Report::new(text, &json, None)
}

fn erase(
    directory: &DataDirectory,
    kek: Option<Arc<Kek>>,
    organization_id: OrganizationId,
    user_id: Option<UserId>,
) -> Result<(Erasure, Position), Failure> {
    let no_randomness = |error: &dyn std::fmt::Display| {
        Failure::could_not_run(format!("the operating system has no randomness: {error}"))
    };
    let vault = Arc::new(Vault::open_wrapped(&directory.vault(), kek).map_err(log::Error::from)?);
    let log = RedbLog::open(&directory.log(), RedbOptions::default(), vault, &mut SysRng)?;
    let ids = StdRng::try_from_rng(&mut SysRng).map_err(|error| no_randomness(&error))?;
    let (ledger, writer) = Ledger::start(Box::new(log), Vec::new(), Arc::new(SystemClock), ids)?;
    let id = ErasureId::generate(SystemClock.now(), &mut SysRng).map_err(|error| no_randomness(&error))?;
    let command = Command::Erasure(id, ErasureCommand::Erase { organization_id, user_id });
    let committed = ledger.execute_blocking(Request::new(command, Actor::system()));
    writer.stop()?;
    let committed = committed.map_err(|error| match error {
        ledger::Error::Rejected(Rejection::OrganizationUnknown) => Failure::could_not_run(
            "--organization: no organization has this id; nothing was erased, check the id and --data",
        ),
        ledger::Error::Log(error) => error.into(),
        error => Failure::could_not_run(format!("{error}; run the command again")),
    })?;
    match committed.aggregate {
        Aggregate::Erasure(erasure) => Ok((erasure, committed.position)),
        _ => Err(Failure::could_not_run("the log returned no erasure; run the command again")),
    }
}
