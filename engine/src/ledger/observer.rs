//! The observer: sees every record before its command is answered.

use crate::domain::key::UserOf;
use crate::domain::record::Record;
use crate::value::subject::Subject;
use crate::value::time::Timestamp;

/// Receives every record, in order, after it is durable and before its command is answered.
pub trait Observer: Send {
    /// Applies records. It cannot fail: an observer that cannot apply a record has to show that by its own
    /// means.
    fn committed(&mut self, records: &[Record]);

    /// Forgets the personal text of a subject whose keys were destroyed (at least one), so that the observer
    /// is as if it had just replayed the log. Called before the records of the erasure are passed to
    /// [`committed`](Self::committed).
    fn erased(&mut self, _subject: &Subject) {}

    /// The number of a user's active keys at `now`, as of the last record applied; none from an observer that
    /// does not count them. Only called for organizations whose policy bounds that number.
    fn keys_of_user(&self, _user: &UserOf, _now: Timestamp) -> Option<u32> {
        None
    }
}
