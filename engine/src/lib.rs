//! Keyledger's engine: what can happen to keys, organizations, APIs and root keys, who may not do what, and the log
//! that keeps all of it.
//!
//! * [`key`], [`organization`], [`portfolio`], [`api`], [`root_key`], [`application`], [`portal_session`],
//!   [`webhook`]: state, commands, rules. Pure: the clock, randomness and ids come in as values.
//! * [`role`]: what people may do.
//! * [`token`]: the secret string, its checksum and its digest.
//! * [`record`]: an event with its place and actor, and its bytes (docs/format.md).
//! * [`vault`]: the keys that seal what is personal of a record; [`erasure`]: destroying them.
//! * [`log`]: the contract of an event log, its implementations in memory and on redb, and the Merkle tree.
//! * [`transparency`]: tiles, signed checkpoints and proofs, by which others can check the log.
//! * [`backup`]: a log in one file that proves itself, written and read from front to back.
//! * [`ledger`]: the one writer. It takes commands, decides them one by one, appends them in groups, tells whoever must
//!   know before the caller does, and answers.
//! * [`background`]: threads whose work gives way; [`storage_panic`]: what a damaged file makes the storage engine do.

pub mod backup;
pub mod codec;
pub mod domain;
pub mod ledger;
pub mod log;
pub mod storage;
pub mod transparency;
pub mod value;
pub mod vault;
