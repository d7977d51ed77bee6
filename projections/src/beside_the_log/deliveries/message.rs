//! Messages to webhooks and the outcome of delivery attempts. A message only refers to its content, which is
//! read when it is sent, so that no personal data is stored here.

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
        /// Position in the log.
        position: Position,
        /// Id of the event.
        id: EventId,
        /// Name of the event type.
        event_type: Box<str>,
    },
    /// A key will expire soon.
    KeyExpiringSoon {
        /// Id of the key.
        key_id: KeyId,
        /// Expiry of the key as known when the notice was created.
        expires_at: Timestamp,
        /// How many milliseconds before the expiry the notice is sent.
        notice_millis: i64,
    },
}

impl Message {
    /// Returns the message type, as webhooks subscribe to it.
    #[must_use]
    pub fn message_type(&self) -> &str {
        match self {
            Self::Event { event_type, .. } => event_type,
            Self::KeyExpiringSoon { .. } => MessageType::KEY_EXPIRING_SOON,
        }
    }

    /// Returns the message's id. It is the same for every attempt and unique among the messages of a webhook.
    /// It contains no full stop, which separates the parts of what is signed.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Event { id, .. } => id.to_string(),
            Self::KeyExpiringSoon { key_id, expires_at, notice_millis } => {
                format!("expiring_{key_id}_{}_{}", expires_at.millis(), notice_millis)
            }
        }
    }

    /// Returns the position in the log, if the message is an event.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self {
            Self::Event { position, .. } => Some(*position),
            Self::KeyExpiringSoon { .. } => None,
        }
    }
}

/// Orders messages: those of one lane are delivered one after the other. Each key is a lane, and so is every
/// other aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lane(Box<[u8]>);

impl Lane {
    /// Returns the lane of an aggregate.
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
    /// The receiver did not answer in time.
    Timeout,
    /// The connection failed or was closed early.
    Connection,
    /// The receiver's host name cannot be resolved.
    Name,
    /// The receiver's address is in a network that webhooks may not call.
    AddressNotAllowed,
    /// The TLS handshake failed, or the certificate is not valid for the receiver's name.
    Tls,
    /// The message could not be read from the log.
    Unreadable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the receiver answered with status {status}"),
            Self::Timeout => f.write_str("the receiver did not answer in time"),
            Self::Connection => f.write_str("could not connect to the receiver, or the connection broke"),
            // The same text for both: whoever may test webhooks could otherwise ask an internal name service
            // which names there are.
            Self::Name | Self::AddressNotAllowed => f.write_str(
                "the receiver's host has no address that webhooks may call; check its name, and that the \
                 address is on the public internet",
            ),
            Self::Tls => f.write_str(
                "the TLS handshake failed, or the receiver's certificate is not valid for its name",
            ),
            Self::Unreadable => f.write_str("the message could not be read from the log"),
        }
    }
}

/// A message that waits or is being sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The message.
    pub message: Message,
    pub(super) lane: Lane,
    /// Number of attempts so far.
    pub attempts: u16,
    /// Time of the next attempt, once all earlier messages of the lane are done.
    pub due: Timestamp,
    /// Failure of the last attempt.
    pub failure: Option<Failure>,
}

/// A message that is no longer retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    pub(super) lane: Lane,
    /// Number of attempts.
    pub attempts: u16,
    /// When the last attempt failed, or the message was refused.
    pub given_up_at: Timestamp,
    /// Failure of the last attempt.
    pub failure: Failure,
}
