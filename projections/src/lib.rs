//! The read side of Keyledger. Each projection is built from the event log alone, so it can be deleted: a
//! replay of the log restores it with the same answers.
//!
//! * [`verification`]: the in-memory index that decides verification and authentication.
//! * [`holdings`]: what each organization holds, for bounds.
//! * [`key_list`]: searchable rows of keys, with filters, sorting and pages.
//! * [`audit_trail`]: the events of an organization, an actor, a type or a request, and past states of a key.
//! * [`stored`]: the machinery of projections with a file: the [`Projection`] trait, replay, rebuild and
//!   runner.
//! * [`export`]: events as NDJSON, CSV, CloudEvents and OCSF.
//! * [`beside_the_log`]: state that the log does not hold, so no projections: usage and webhook deliveries.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use keyledger_engine::domain::key::{CreateKey, KeyCommand, Owner};
//! use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
//! use keyledger_engine::ledger::{Command, Ledger, Request};
//! use keyledger_engine::log::{LogId, memory::MemoryLog};
//! use keyledger_engine::value::actor::Actor;
//! use keyledger_engine::value::environment::Environment;
//! use keyledger_engine::value::id::KeyId;
//! use keyledger_engine::value::time::{Clock, SystemClock};
//! use keyledger_engine::value::token::{Token, TokenPrefix};
//! use keyledger_engine::vault::Vault;
//! use keyledger_projections::{Code, Question, VerificationIndex, VerificationObserver};
//! use rand::{SeedableRng, rngs::StdRng};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let log = Box::new(MemoryLog::new(LogId([0; 16]), Arc::new(Vault::in_memory()?)));
//! let index = Arc::new(VerificationIndex::new());
//! let observer = Box::new(VerificationObserver(Arc::clone(&index)));
//! let ids = StdRng::seed_from_u64(1);
//! let (ledger, _writer) = Ledger::start(log, vec![observer], Arc::new(SystemClock), ids)?;
//! let execute = |command| ledger.execute_blocking(Request::new(command, Actor::system()));
//!
//! let create = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
//! execute(Command::Organization("acme".parse()?, create))?;
//! let environment = Environment::Production;
//! let token = Token::generate(&TokenPrefix::default(), environment, &mut StdRng::seed_from_u64(2))?;
//! let (digest, hint, owner) = (token.digest(), token.hint(), Owner::in_organization(false));
//! let (user_id, name, description, metadata) = (None, None, None, None);
//! let (organization_id, api_id, scopes, expires_at) = ("acme".parse()?, None, Vec::new(), None);
//! let create = KeyCommand::Create(Box::new(CreateKey {
//!     organization_id, api_id, owner, user_id, name, description, metadata, environment, scopes,
//!     expires_at, digest, hint,
//! }));
//! execute(Command::Key(KeyId::from_u128(1), create))?;
//!
//! // The observer applied the event before the command was answered.
//! let question = Question::default();
//! let code = index.verify(token.expose(), &question, SystemClock.now(), |verdict| verdict.code);
//! assert_eq!(code, Code::Valid);
//! # Ok(())
//! # }
//! ```

pub mod audit_trail;
pub mod beside_the_log;
pub mod export;
pub mod holdings;
pub mod key_list;
pub mod stored;
pub mod verification;

pub use audit_trail::{AuditQuery, AuditTrail};
pub use beside_the_log::deliveries::Deliveries;
pub use beside_the_log::usage::Usage;
pub use key_list::{KeyList, KeyQuery};
pub use stored::projection::Projection;
pub use stored::runner::ProjectionHandle;
pub use verification::{Code, Question, Verdict, VerificationIndex, VerificationObserver};
