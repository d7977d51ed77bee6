//! The commands to a link between a partner and a client.

/// A command to the link between a partner and a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientLinkCommand {
    /// Adds the client to the partner's portfolio.
    Link,
    /// Removes the client from the portfolio. All keys that the partner made for it stop working at that
    /// moment.
    Unlink,
}
