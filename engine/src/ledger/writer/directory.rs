//! The directory: the aggregates that decisions about other aggregates read.

use foldhash::{HashMap, HashMapExt};

use crate::domain::aggregate::{Aggregate, Kind};
use crate::domain::stream::{StreamId, StreamKind};
use crate::log::StreamHead;

/// Past this many entries the directory is cleared between two groups. A group adds at most a few for each
/// command.
const LEN_MAX: usize = 65_536;

/// A stream as of the head of the log.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) aggregate: Option<Aggregate>,
    pub(super) head: StreamHead,
}

impl Loaded {
    /// A stream without events.
    pub(super) const ABSENT: Self = Self { aggregate: None, head: StreamHead::ABSENT };
}

/// Organizations, APIs and portfolio links as of the head of the log: most commands read one.
pub(super) struct Directory(HashMap<StreamId, Loaded>);

impl Directory {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Whether the directory holds aggregates of this kind. Appends have to update it for every kind that
    /// [`Reads`](crate::domain::decision::Reads) can name.
    pub(super) const fn is_cached(kind: StreamKind) -> bool {
        matches!(kind, StreamKind::Organization | StreamKind::Api | StreamKind::ClientLink)
    }

    /// Makes room before a group is decided. Nothing is evicted later, because decisions borrow what they
    /// read.
    pub(super) fn make_room(&mut self) {
        if self.0.len() >= LEN_MAX {
            self.0.clear();
        }
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<&Loaded> {
        self.0.get(stream)
    }

    /// The state in a stream; none if the stream is not in the directory.
    pub(super) fn state<A: Kind>(&self, stream: Option<&StreamId>) -> Option<&A> {
        A::of(self.get(stream?)?.aggregate.as_ref()?)
    }

    /// Inserts or replaces a stream that has events.
    pub(super) fn insert(&mut self, stream: StreamId, loaded: Loaded) {
        debug_assert!(Self::is_cached(stream.kind()), "appends to {stream} do not reach the directory");
        if loaded.aggregate.is_some() {
            self.0.insert(stream, loaded);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
