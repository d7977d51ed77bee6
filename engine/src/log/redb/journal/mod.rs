//! The journal beside the database: `events.journal`, with the records that are durable but need not be in
//! the database yet.
//!
//! A commit of the database takes two syncs and rewrites hundreds of pages. A group is made durable more
//! cheaply: as one *frame*, with one write and one sync of a file whose length and space were reserved when
//! it was created. From then on its records are *pending*: they are held in memory, where readers look before
//! they look in the database. docs/format.md has the bytes, docs/decisions/journal.md the reasons.
//!
//! # Regions and salts
//!
//! The file is divided into two *regions*, which are used in turn. When one is full, frames continue in the
//! other, and a *checkpoint* of the full one runs beside the writer: a single commit that moves its records
//! into the database. The writer waits only when the second region is full as well before that checkpoint has
//! ended. A group that has no room, because it is too long or the journal is not in use yet, is committed to
//! the database directly, together with everything pending.
//!
//! The database notes a random *salt* for each region, and frames carry their region's. Only frames with the
//! noted salt count. The commit that makes a region's frames obsolete notes a new salt for it, so this same
//! commit also ends them, and a client who chooses what is stored cannot forge a frame in advance.
//!
//! # Frames
//!
//! A frame has a CRC-32, and the right edge of the Merkle tree after its entries, which proves that the
//! entries are those that were written. A frame is only written after the previous one was synced. An
//! incomplete last frame was therefore never acknowledged, and is ignored. If a complete frame follows it, in
//! its region or the next one, the file is damaged, and the log is not opened. Nor is it opened when the
//! journal is missing or too short while the database notes salts.
//!
//! # Checkpoints and recovery
//!
//! The database alone is the whole log, and notes no salts, after an idle checkpoint
//! ([`EventLog::checkpoint_journal`](crate::log::EventLog::checkpoint_journal)), after a clean stop, and in
//! backups. After a crash, opening the log first commits the frames that the database lacks. If the disk is
//! full, they stay in the journal and are applied to the database in memory only, so the log can still be
//! read.
//!
//! These checkpoints are not the signed ones of the transparency log (`crate::transparency::checkpoint`).
//!
//! # Modules
//!
//! * `file`: the file, its regions, and which frames count. `frame`: the bytes of a frame.
//! * `segment`: a range of the log with everything derived from it. `pending`: the segments that the database
//!   may lack.
//! * `checkpointing`: moves segments into the database. `recovery`: does the same when a log is opened.

pub(super) mod checkpointing;
pub(super) mod file;
pub(super) mod frame;
pub(super) mod pending;
pub(super) mod recovery;
pub(super) mod segment;
