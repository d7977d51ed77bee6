//! What a visitor may do to a key.

use http::Method;

use crate::console::parts::key::{Key, Status};
use crate::console::visit::visitor::Visitor;

/// What somebody may do to a key as it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actions {
    /// Change its texts, scopes and end.
    pub edit: bool,
    /// Give it a new token.
    pub rotate: bool,
    /// Stop it.
    pub revoke: bool,
    /// Let it work again.
    pub reactivate: bool,
    /// Delete it.
    pub delete: bool,
}

impl Actions {
    /// What somebody may do, whatever the key's state.
    pub(crate) fn of(visitor: &Visitor) -> Self {
        let may = |method: Method, tail: &str| visitor.may(&method, &format!("/v1/keys/{{id}}{tail}"));
        Self {
            edit: may(Method::PATCH, ""),
            rotate: may(Method::POST, "/rotate"),
            revoke: may(Method::POST, "/revoke"),
            reactivate: may(Method::POST, "/reactivate"),
            delete: may(Method::DELETE, ""),
        }
    }

    /// What of it makes sense for a key. The rules themselves are the engine's; this keeps pages from offering what they
    /// refuse.
    pub(crate) fn on(&self, key: &Key) -> Self {
        let (is_active, is_there) = (key.status == Status::Active, key.status != Status::Deleted);
        Self {
            edit: self.edit && is_there,
            rotate: self.rotate && is_active,
            revoke: self.revoke && is_active,
            reactivate: self.reactivate && key.status == Status::Revoked,
            delete: self.delete && is_there,
        }
    }

    /// Whether there is anything.
    pub(crate) const fn any(&self) -> bool {
        self.edit || self.rotate || self.revoke || self.reactivate || self.delete
    }
}
