//! Keyledger's engine: an event log, the rules that decide what may be appended to it, and the ledger that
//! executes commands against both. It knows nothing of HTTP.
//!
//! Modules, from the bottom up:
//!
//! * [`value`]: ids, positions, times, texts, tokens and closed sets of words. Plain data.
//! * [`storage`]: what the owners of files share. Background threads, direct writes, panics of the storage
//!   engine.
//! * [`domain`]: keys, organizations, policies, portfolios, APIs, root keys, applications, portal sessions,
//!   webhooks and erasures. Each has commands, events, a state and rules. Pure: the time, randomness and ids
//!   come in as values.
//! * [`kek`]: the key-encryption key that wraps all other secret keys.
//! * [`vault`]: the keys that seal the personal parts of records. Destroying one erases what it sealed.
//! * [`codec`]: the encoding of records (docs/format.md), and upcasting of older schemas.
//! * [`log`]: the contract of an event log, its implementations in memory and on redb, and the Merkle tree.
//! * [`transparency`]: tiles, signed checkpoints and proofs, with which anyone can check the log.
//! * [`backup`]: a log in one file that proves itself, written and read sequentially.
//! * [`ledger`]: the single writer. It takes commands from a queue, decides them in order, appends their
//!   events in groups, notifies the observers, and then answers.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use keyledger_engine::domain::key::{CreateKey, KeyCommand, Owner};
//! use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
//! use keyledger_engine::value::environment::Environment;
//! use keyledger_engine::value::id::{KeyId, OrganizationId};
//! use keyledger_engine::value::token::{Token, TokenPrefix};
//! use keyledger_engine::{Actor, Command, Event, Ledger, LogId, MemoryLog, Position};
//! use keyledger_engine::{Request, SystemClock, Vault};
//! use rand::SeedableRng;
//! use rand::rngs::{StdRng, SysRng};
//!
//! let log = MemoryLog::new(LogId(rand::random()), Arc::new(Vault::in_memory()?));
//! let ids = StdRng::try_from_rng(&mut SysRng)?;
//! let (ledger, writer) = Ledger::start(Box::new(log), Vec::new(), Arc::new(SystemClock), ids)?;
//! let execute = |command| ledger.execute_blocking(Request::new(command, Actor::system()));
//!
//! let acme: OrganizationId = "acme".parse()?;
//! let create = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
//! execute(Command::Organization(acme.clone(), create))?;
//!
//! let token = Token::generate(&TokenPrefix::default(), Environment::Production, &mut SysRng)?;
//! let create = KeyCommand::Create(Box::new(CreateKey {
//!     organization_id: acme, owner: Owner::in_organization(false), environment: Environment::Production,
//!     digest: token.digest(), hint: token.hint(), scopes: Vec::new(), expires_at: None,
//!     api_id: None, user_id: None, name: None, description: None, metadata: None,
//! }));
//! let created = execute(Command::Key(KeyId::generate(ledger.now(), &mut SysRng)?, create))?;
//! assert_eq!(created.position, Position::new(2));
//!
//! let records = ledger.reader().read(Position::new(1), 1)?;
//! assert!(matches!(&records[0].event, Event::KeyCreated(facts, _) if facts.digest == token.digest()));
//! writer.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backup;
pub mod codec;
pub mod crypto;
pub mod domain;
pub mod kek;
pub mod ledger;
pub mod log;
pub mod storage;
pub mod transparency;
pub mod value;
pub mod vault;

pub use domain::event::Event;
pub use domain::record::Record;
pub use ledger::{Command, Committed, Ledger, Observer, Request, Writer};
pub use log::memory::MemoryLog;
pub use log::redb::{RedbLog, RedbOptions, RedbReader};
pub use log::{EventLog, LogId, LogReader};
pub use value::actor::Actor;
pub use value::position::Position;
pub use value::time::{Clock, SystemClock, Timestamp};
pub use vault::Vault;
