//! The objects that commands change, as types of their own.

use std::str::FromStr;

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::erasure::Erasure;
use keyledger_engine::domain::key::Key;
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::value::id::{ApplicationId, OrganizationId, PortalSessionId, RootKeyId, WebhookId};
use keyledger_engine::value::position::Version;

/// An object that commands change.
pub(crate) trait Object: Sized {
    /// Returns the object, or `None` if the aggregate is of another type.
    fn of(aggregate: Aggregate) -> Option<Self>;

    fn version(&self) -> Version;
}

macro_rules! objects {
    ($($Type:ident),*) => {$(
        impl Object for $Type {
            fn of(aggregate: Aggregate) -> Option<Self> {
                match aggregate {
                    Aggregate::$Type(object) => Some(object),
                    _ => None,
                }
            }

            fn version(&self) -> Version {
                self.version
            }
        }
    )*};
}

objects! { Api, Application, ClientLink, Erasure, Key, Organization, PortalSession, RootKey, Webhook }

/// An object that can be bound to an organization, and is visible only to callers that see the organization.
pub(crate) trait BoundObject: Object {
    type Id: FromStr + PartialOrd + ToString;

    fn id(&self) -> Self::Id;

    /// Returns the organization, or `None` for an object of the service itself.
    fn organization_id(&self) -> Option<&OrganizationId>;
}

macro_rules! bound_objects {
    ($($Type:ident $Id:ident |$object:ident| $organization:expr;)*) => {$(
        impl BoundObject for $Type {
            type Id = $Id;

            fn id(&self) -> $Id {
                self.id
            }

            fn organization_id(&self) -> Option<&OrganizationId> {
                let $object = self;
                $organization
            }
        }
    )*};
}

bound_objects! {
    Application ApplicationId |it| it.organization_id.as_ref();
    PortalSession PortalSessionId |it| Some(&it.organization_id);
    RootKey RootKeyId |it| it.organization_id.as_ref();
    Webhook WebhookId |it| it.organization_id.as_ref();
}
