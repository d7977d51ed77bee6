//! The log's newest signed checkpoint.

use crate::answer::problem::Problem;

use crate::console::parts::number::grouped;
use crate::console::visit::visitor::Visitor;

/// The newest checkpoint of the log.
pub(crate) struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many events it is over.
    pub size: String,
    /// The root of the tree over them.
    pub root: String,
}

impl Checkpoint {
    /// Asks for it.
    ///
    /// # Errors
    /// What the call answers, or that it is none.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        let note = visitor.call(http::Method::GET, "/log/checkpoint").text().await?;
        let mut lines = note.lines();
        let mut line = || lines.next().ok_or_else(|| Problem::internal(&"a checkpoint is too short"));
        let (origin, size, root) = (line()?.to_owned(), line()?.to_owned(), line()?.to_owned());
        let size = size.parse().map_or(size, grouped);
        Ok(Self { origin, size, root })
    }
}
