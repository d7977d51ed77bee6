//! What is to be delivered, and what became of attempts. A message says where its content is to be found, not what it is:
//! that is read when it is sent, so that nothing personal stands here.

use std::fmt;

use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::domain::webhook::MessageType;
use keyledger_engine::value::id::{EventId, KeyId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One message to one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// An event of the log.
    Event {
        /// Where it is.
        position: Position,
        /// Its id.
        id: EventId,
        /// Its kind.
        event_type: Box<str>,
    },
    /// A key will expire soon.
    KeyExpiringSoon {
        /// Which.
        key_id: KeyId,
        /// When, as far as was known.
        expires_at: Timestamp,
        /// How many milliseconds before that this is told.
        notice_millis: i64,
    },
}

impl Message {
    /// The kind of message, as webhooks ask for it.
    #[must_use]
    pub fn message_type(&self) -> &str {
        match self {
            Self::Event { event_type, .. } => event_type,
            Self::KeyExpiringSoon { .. } => MessageType::KEY_EXPIRING_SOON,
        }
    }

    /// The message's id: the same whenever it is sent, and that of no other message to the same webhook. It has no full
    /// stop, which separates what is signed.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Event { id, .. } => id.to_string(),
            Self::KeyExpiringSoon { key_id, expires_at, notice_millis } => {
                format!("expiring_{key_id}_{}_{}", expires_at.millis(), notice_millis)
            }
        }
    }

    /// Where it is in the log, if it is an event.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self {
            Self::Event { position, .. } => Some(*position),
            Self::KeyExpiringSoon { .. } => None,
        }
    }
}

/// Messages of one lane are delivered one after the other: those of one key, or of another aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lane(Box<[u8]>);

impl Lane {
    /// The lane of an aggregate.
    #[must_use]
    pub fn of(stream: &StreamId) -> Self {
        Self(stream.to_index_key().into())
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The receiver answered with this HTTP status.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// No connection, or it broke off.
    Connection,
    /// The receiver's name leads nowhere.
    Name,
    /// The receiver's address is not one that may be called.
    AddressNotAllowed,
    /// TLS could not be agreed on, or the certificate is not the receiver's.
    Tls,
    /// What was to be sent could not be read.
    Unreadable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the receiver answered with status {status}"),
            Self::Timeout => f.write_str("the receiver did not answer in time"),
            Self::Connection => f.write_str("no connection to the receiver, or it broke off"),
            Self::Name => f.write_str("the receiver's host name cannot be resolved"),
            Self::AddressNotAllowed => {
                f.write_str("the receiver's address is in a network that webhooks may not call")
            }
            Self::Tls => f.write_str("the receiver's certificate is not good for its name, or TLS failed"),
            Self::Unreadable => f.write_str("the message could not be read from the log"),
        }
    }
}

/// A message that waits, or is being sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What it is.
    pub message: Message,
    pub(super) lane: Lane,
    /// How often it was tried.
    pub attempts: u16,
    /// When it is tried next, once those before it in its lane are done.
    pub due: Timestamp,
    /// Why it failed last, if it did.
    pub failure: Option<Failure>,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// What it is.
    pub message: Message,
    pub(super) lane: Lane,
    /// How often it was tried.
    pub attempts: u16,
    /// When it was given up.
    pub given_up_at: Timestamp,
    /// Why it failed last.
    pub failure: Failure,
}
