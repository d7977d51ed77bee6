//! Embeds the engine: issues a key and verifies its token in the same process, without HTTP.
//!
//! Run it with `cargo run -p keyledger-examples --bin embed`.

use std::error::Error;
use std::sync::Arc;

use keyledger_engine::domain::key::{CreateKey, KeyCommand, Owner, RevocationReason};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::ledger::{Command, Ledger, Request};
use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::{Clock, SystemClock};
use keyledger_engine::value::token::{Token, TokenPrefix};
use keyledger_engine::vault::{self, Vault};
use keyledger_projections::verification::{Code, Question, VerificationIndex, VerificationObserver};
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};

fn main() -> Result<(), Box<dyn Error>> {
    // A data directory has the log, and the vault with the keys that seal names and other personal text in
    // it.
    let directory = tempfile::tempdir()?;
    let vault = Arc::new(Vault::open(&directory.path().join(vault::FILE_NAME))?);
    let log = RedbLog::open(&directory.path().join(FILE_NAME), RedbOptions::default(), vault, &mut SysRng)?;

    // An observer receives each event after it is durable and before its command returns. That is why the
    // index is exact: `execute` never returns before the index has the change.
    //
    // This log is empty. An index over an existing log first applies the records that the log already has.
    let index = Arc::new(VerificationIndex::new());
    let observer = VerificationObserver(Arc::clone(&index));
    let (ledger, writer) = Ledger::start(
        Box::new(log),
        vec![Box::new(observer)],
        Arc::new(SystemClock),
        StdRng::try_from_rng(&mut SysRng)?,
    )?;
    let execute =
        |command: Command| ledger.execute_blocking(Request::new(command, Actor::system())).map(drop);
    let verify = |token: &Token| -> Code {
        index.verify(token.expose(), &Question::default(), SystemClock.now(), |verdict| verdict.code)
    };

    let acme: OrganizationId = "acme".parse()?;
    let name = Some(Name::new("Acme")?);
    execute(Command::Organization(
        acme.clone(),
        OrganizationCommand::Create { name, kind: OrganizationKind::Paid },
    ))?;
    println!("created the organization {acme}");

    // The caller makes the token. The log and the index only ever see its SHA-256 digest, so a stolen data
    // directory has no token in it.
    let key_id = KeyId::generate(SystemClock.now(), &mut SysRng)?;
    let token = Token::generate(&TokenPrefix::default(), Environment::Production, &mut SysRng)?;
    let create = CreateKey {
        organization_id: acme,
        api_id: None,
        owner: Owner::in_organization(false),
        user_id: None,
        name: Some(Name::new("Billing")?),
        description: None,
        metadata: None,
        environment: Environment::Production,
        scopes: Vec::new(),
        expires_at: None,
        digest: token.digest(),
        hint: token.hint(),
    };
    execute(Command::Key(key_id, KeyCommand::Create(Box::new(create))))?;
    println!("created the key {key_id}");
    println!("verification: {}", verify(&token));

    execute(Command::Key(
        key_id,
        KeyCommand::Revoke { reason: RevocationReason::KeyCompromise, note: None },
    ))?;
    println!("revoked the key");
    println!("verification: {}", verify(&token));

    // Ends the writer thread and closes the log. Dropping the handles would do the same without reporting
    // errors.
    writer.stop()?;
    Ok(())
}
