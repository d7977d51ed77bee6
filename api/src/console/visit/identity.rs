//! What a page may know besides what the API answers to its visitor: who the visitor is, where the service is
//! reached, and who used a portal session.

use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::value::actor::ActorKind;

use super::visitor::Visitor;

/// The visitor as the pages name them.
pub(crate) struct Identity {
    /// The name of the root key or the user's id. `Portal visitor` for a session without a user.
    pub name: String,
    /// The role in the organization, or the kind of credential.
    pub role: &'static str,
    /// The name of the organization that the visitor is bound to.
    pub organization: Option<String>,
}

impl Visitor {
    /// Returns the visitor's own name, role and organization, which the API does not tell every credential.
    pub(crate) fn identity(&self) -> Identity {
        let (name, role) = self.name_and_role();
        let organization = self.principal.organization_id.as_ref().map(|id| {
            let found = self.service.index.organization(id);
            let name = found.as_ref().and_then(|found| found.name.as_ref());
            name.map_or_else(|| id.to_string(), |name| name.as_str().into())
        });
        Identity { name, role, organization }
    }

    /// Returns whether the visitor is in the console session with this id.
    pub(crate) fn is_in_console_session(&self, id: &str) -> bool {
        self.service.console_sessions.id_of(self.secret()).is_some_and(|own| own.to_string() == id)
    }

    fn name_and_role(&self) -> (String, &'static str) {
        let index = &self.service.index;
        let id = &self.principal.id;
        match self.principal.kind {
            ActorKind::PortalSession => {
                let session = index.authenticate_portal_session(self.secret(), self.now);
                let name = session.as_ref().and_then(|session| session.user_id.as_ref());
                let role = session.as_ref().map_or("", |session| session.role.as_str());
                (name.map_or_else(|| "Portal visitor".into(), |user_id| user_id.as_str().into()), role)
            }
            ActorKind::RootKey => {
                let root_key = id.parse().ok().and_then(|id| index.root_key(id));
                let name = root_key.as_ref().and_then(|root_key| root_key.name.as_ref());
                (name.map_or_else(|| id.to_string(), |name| name.as_str().into()), "root key")
            }
            _ => (id.to_string(), "user"),
        }
    }

    /// Returns the address of the service as clients see it, without a trailing slash.
    pub(crate) fn public_url(&self) -> &str {
        self.service.access_tokens.issuer()
    }

    /// Returns the user and role of a portal session, for the names of actors. A visitor who reads an event
    /// may read that of the session's creation, which has both; a session of another organization than the
    /// visitor's is not found.
    pub(crate) async fn session_user(&self, id: &str) -> Option<String> {
        let stream = StreamId::PortalSession(id.parse().ok()?);
        let read = self.service.read_log(move |log| log.read_stream(&stream)).await.ok()?;
        let Ok(Some(Aggregate::PortalSession(session))) = Aggregate::fold(&read.records) else { return None };
        let bound = self.principal.organization_id.as_ref();
        if bound.is_some_and(|bound| *bound != session.organization_id) {
            return None;
        }
        let user = session.user_id.as_ref().map_or("Portal visitor", |user_id| user_id.as_str());
        Some(format!("{user} ({})", session.role))
    }
}
