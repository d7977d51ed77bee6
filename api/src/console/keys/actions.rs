//! What a visitor may do to a key.

use http::Method;

use crate::console::parts::key::{Key, Status};
use crate::console::visit::visitor::Visitor;

/// The actions that a page offers for a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actions {
    pub edit: bool,
    pub rotate: bool,
    pub revoke: bool,
    pub reactivate: bool,
    pub delete: bool,
}

impl Actions {
    /// The actions that the visitor's permissions allow, whatever the key's status.
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

    /// The subset that the key's status allows. The engine enforces the rules; this only keeps pages from
    /// offering what it would refuse.
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

    pub(crate) const fn any(&self) -> bool {
        self.edit || self.rotate || self.revoke || self.reactivate || self.delete
    }
}
