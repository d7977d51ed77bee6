//! The log's newest signed checkpoint.

use crate::answer::problem::Problem;

use crate::console::parts::number::grouped;
use crate::console::visit::visitor::Visitor;

pub(crate) struct Checkpoint {
    /// The log's origin line.
    pub origin: String,
    /// The number of events that it covers.
    pub size: String,
    /// The root hash of the Merkle tree over them.
    pub root: String,
}

impl Checkpoint {
    /// Reads the newest checkpoint.
    ///
    /// # Errors
    /// The problem that the API returns, or `internal` if the checkpoint is malformed.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        let note = visitor.call(http::Method::GET, "/log/checkpoint").text().await?;
        let mut lines = note.lines();
        let mut line = || lines.next().ok_or_else(|| Problem::internal(&"a checkpoint is too short"));
        let (origin, size, root) = (line()?.to_owned(), line()?.to_owned(), line()?.to_owned());
        let size = size.parse().map_or(size, grouped);
        Ok(Self { origin, size, root })
    }
}
