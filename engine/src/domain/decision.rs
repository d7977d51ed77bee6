//! The decision: the call of an aggregate's rules, and the things that they read besides the aggregate
//! itself.

use crate::domain::aggregate::Kind;
use crate::domain::event::Event;
use crate::domain::key::UserOf;
use crate::domain::organization::Organization;
use crate::domain::portfolio::ClientLink;
use crate::domain::rejection::Rejection;
use crate::domain::resource_api::Api;
use crate::domain::stream::StreamId;
use crate::value::environment::Environment;
use crate::value::id::OrganizationId;
use crate::value::subject::{Subject, SubjectKeyId};
use crate::value::text::UserId;
use crate::value::time::Timestamp;

/// The rules of one kind of aggregate. `state` is the aggregate's; none before its first event.
pub(crate) trait Decide: Kind {
    /// The organization that the events concern; none for the installation's.
    fn organization_id<'a>(
        id: &'a Self::Id,
        state: Option<&'a Self>,
        command: &'a Self::Command,
    ) -> Option<&'a OrganizationId>;

    /// The subject of the personal text in the events.
    fn subject(id: &Self::Id, state: Option<&Self>, command: &Self::Command) -> Subject {
        Subject::of(Self::organization_id(id, state, command), None)
    }

    /// Names the things that [`decide`](Self::decide) reads besides `state`.
    fn reads<'a>(_id: &'a Self::Id, _state: Option<&'a Self>, _command: &'a Self::Command) -> Reads<'a> {
        Reads::default()
    }

    /// Returns the events that the command leads to, none when nothing changes.
    ///
    /// # Errors
    /// The rule that rejects the command.
    fn decide(
        id: &Self::Id,
        state: Option<&Self>,
        command: &Self::Command,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection>;
}

/// Names the things that a decision reads besides its own aggregate.
#[derive(Debug, Default)]
pub(crate) struct Reads<'a> {
    /// The organization that the aggregate belongs to.
    pub(crate) organization: Option<StreamId>,
    /// The API that a key is for.
    pub(crate) api: Option<StreamId>,
    /// The client organization of a key or of a link.
    pub(crate) client: Option<StreamId>,
    /// The link between the organization and the client.
    pub(crate) link: Option<StreamId>,
    /// The user of the organization who gets an active key, and its environment.
    pub(crate) user: Option<(Environment, &'a UserId)>,
    /// The subject whose keys in the vault are destroyed.
    pub(crate) subject: Option<Subject>,
}

impl Reads<'_> {
    /// Names an organization and nothing else.
    pub(crate) fn organization(id: Option<&OrganizationId>) -> Self {
        Self { organization: id.cloned().map(StreamId::from), ..Self::default() }
    }

    /// The streams of the aggregates.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamId> {
        [&self.organization, &self.api, &self.client, &self.link].into_iter().flatten()
    }

    /// The user whose active keys have to be counted: none where no policy of the organization bounds them.
    pub(crate) fn counted_user(&self, organization: Option<&Organization>) -> Option<UserOf> {
        let (organization, (environment, user_id)) = organization.zip(self.user)?;
        organization.policies.get(environment)?.max_keys_per_user?;
        Some(UserOf { organization_id: organization.id.clone(), environment, user_id: user_id.clone() })
    }
}

/// The aggregates and counts that [`Reads`] names, as of the head of the log. An aggregate without events is
/// none.
#[derive(Debug, Default)]
pub(crate) struct Context<'a> {
    pub(crate) organization: Option<&'a Organization>,
    pub(crate) api: Option<&'a Api>,
    pub(crate) client: Option<&'a Organization>,
    pub(crate) link: Option<&'a ClientLink>,
    /// The number of the user's active keys; 0 where no policy bounds it.
    pub(crate) keys_of_user: u32,
    /// The names of the subject's keys.
    pub(crate) subject_keys: Vec<SubjectKeyId>,
}
