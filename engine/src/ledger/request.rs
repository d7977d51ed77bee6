//! The request: a command with its origin, and its result.

use crate::domain::aggregate::{Aggregate, Command};
use crate::log::CommandKey;
use crate::value::actor::Actor;
use crate::value::id::EventId;
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// A command with everything that its events record about its origin.
#[derive(Debug, Clone)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// The caller that issues it.
    pub actor: Actor,
    /// The id of the HTTP request that carries it.
    pub request_id: Option<Box<str>>,
    /// The event that led to it, when Keyledger itself issues it.
    pub causation: Option<EventId>,
    /// The name under which a repetition of the command is recognized and does nothing.
    pub command_key: Option<CommandKey>,
    /// The version that the aggregate must have; any version by default.
    pub expected_version: Option<Version>,
}

impl Request {
    /// A request with a command and an actor, and nothing else.
    #[must_use]
    pub const fn new(command: Command, actor: Actor) -> Self {
        Self { command, actor, request_id: None, causation: None, command_key: None, expected_version: None }
    }
}

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The aggregate after the command. For a repeated command: the aggregate as it was after the first time.
    pub aggregate: Aggregate,
    /// The position of its last event; the head of the log if nothing changed.
    pub position: Position,
    /// The time of its last event; the time of the decision if nothing changed.
    pub time: Timestamp,
    /// Whether the command had already taken place and was not repeated.
    pub replayed: bool,
}
