//! The stored projections: rows that depend on the log alone, and answers that depend on the rows alone.

mod audit_trail;
mod determinism;
mod history;
mod key_list;
mod runner;
