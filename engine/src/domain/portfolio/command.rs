//! The commands to a link between a partner and a client.

/// What can be asked of a partner and a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientLinkCommand {
    /// Put the client into the partner's portfolio.
    Link,
    /// Take it out, and with it every key that the partner made for it, at that moment.
    Unlink,
}
