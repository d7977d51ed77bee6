//! How objects are shown.

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::erasure::Erasure;
use keyledger_engine::domain::key::Key;
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Description, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::Queue;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A key as it is shown; absent values are `null`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(crate) struct KeyView<'a> {
    /// `key_<ULID>`; rotation keeps it.
    #[schema(value_type = String, example = "key_01KAJX7Q5M3J6S2Y9W8V4T1R0P")]
    id: KeyId,
    /// The organization it belongs to.
    organization_id: &'a str,
    /// Whom it is for: `organization`; `user`, one user of it; `partner`, every client in its portfolio; `client`, one of
    /// those.
    #[schema(example = "organization")]
    owner: &'static str,
    /// The client organization that it is for, for a client's key.
    client_organization_id: Option<&'a str>,
    /// The user it belongs to, for a user's key.
    user_id: Option<&'a str>,
    /// What people call it.
    name: Option<&'a str>,
    /// What it is for.
    description: Option<&'a str>,
    /// Where it is valid: `preview` or `production`.
    #[schema(example = "production")]
    environment: &'static str,
    /// The API it is for, if one.
    #[schema(value_type = Option<String>)]
    api_id: Option<ApiId>,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    scopes: &'a [Scope],
    /// What the caller attached.
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// `active`, `revoked`, `expired` or `deleted`.
    #[schema(example = "active")]
    status: &'static str,
    /// What its token begins with.
    #[schema(example = "kl_live_ab12")]
    start: &'a str,
    /// What its token ends with.
    #[schema(example = "wxyz")]
    last_four: &'a str,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was revoked, unless it was reactivated since.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When it was last verified, with whatever outcome; `null` in the state as of another time.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_verified_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
    /// The id of who issued it.
    created_by: &'a str,
}

impl<'a> KeyView<'a> {
    /// The key as it stands at `now`.
    #[must_use]
    pub(crate) fn of(key: &'a Key, now: Timestamp) -> Self {
        Self {
            id: key.id,
            organization_id: key.organization_id.as_str(),
            owner: key.owner.kind.as_str(),
            client_organization_id: key.owner.client_id.as_ref().map(OrganizationId::as_str),
            user_id: key.user_id.as_ref().map(UserId::as_str),
            name: key.name.as_ref().map(Name::as_str),
            description: key.description.as_ref().map(Description::as_str),
            environment: key.environment.as_str(),
            api_id: key.api_id,
            scopes: &key.scopes,
            metadata: key.metadata.as_ref().and_then(|it| serde_json::from_str(it.as_json()).ok()),
            status: key.status(now).as_str(),
            start: &key.hint.start,
            last_four: &key.hint.last_four,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_verified_at: None,
            version: key.version.get(),
            created_by: &key.created_by,
        }
    }

    /// The same with the key's last verification.
    #[must_use]
    pub(crate) const fn last_verified(mut self, at: Option<Timestamp>) -> Self {
        self.last_verified_at = at;
        self
    }
}

/// A new key, or a new token of one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyWithToken<'a> {
    /// The key.
    #[schema(value_type = KeyView)]
    pub key: KeyView<'a>,
    /// The token, this once; left out when the call repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "kl_live_...")]
    pub token: Option<&'a str>,
}

/// An organization as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub(crate) struct OrganizationView {
    /// `org_<ULID>`, or what its owner chose.
    id: String,
    /// What people call it.
    name: Option<String>,
    /// `test`, `paid`, `partner` or `free`.
    #[schema(example = "paid")]
    kind: &'static str,
    /// `active` or `deleted`.
    #[schema(example = "active")]
    status: &'static str,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl OrganizationView {
    /// The organization.
    #[must_use]
    pub(crate) fn of(organization: &Organization) -> Self {
        Self {
            id: organization.id.to_string(),
            name: organization.name.as_ref().map(|name| name.as_str().into()),
            kind: organization.kind.as_str(),
            status: organization.status().as_str(),
            created_at: organization.created_at,
            deleted_at: organization.deleted_at,
            version: organization.version.get(),
        }
    }
}

/// A client in a partner's portfolio.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Client)]
pub(crate) struct ClientView {
    /// The client organization.
    organization_id: String,
    /// The partner.
    partner_organization_id: String,
    /// What people call the client.
    name: Option<String>,
    /// When it was linked last.
    #[schema(value_type = String, format = DateTime)]
    linked_at: Timestamp,
    /// The id of who linked it.
    linked_by: String,
    /// How many events the link has; the `ETag`.
    version: u32,
}

impl ClientView {
    /// The client.
    #[must_use]
    pub(crate) fn of(link: &ClientLink, client: Option<&Organization>) -> Self {
        Self {
            organization_id: link.id.client_id.to_string(),
            partner_organization_id: link.id.partner_id.to_string(),
            name: client.and_then(|client| client.name.as_ref()).map(|name| name.as_str().into()),
            linked_at: link.linked_at,
            linked_by: link.linked_by.to_string(),
            version: link.version.get(),
        }
    }
}

/// An API as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Api)]
pub(crate) struct ApiView {
    /// `api_<ULID>`.
    id: String,
    /// What people call it.
    name: String,
    /// Whom its tokens are for.
    #[schema(example = "https://api.example.com")]
    audience: String,
    /// What its keys' tokens begin with.
    #[schema(example = "kl")]
    token_prefix: String,
    /// The scopes that its keys may carry.
    scopes: Vec<String>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl ApiView {
    /// The API.
    #[must_use]
    pub(crate) fn of(api: &Api) -> Self {
        Self {
            id: api.id.to_string(),
            name: api.name.as_str().into(),
            audience: api.audience.as_str().into(),
            token_prefix: api.token_prefix.as_str().into(),
            scopes: scope_texts(&api.scopes),
            created_at: api.created_at,
            deleted_at: api.deleted_at,
            version: api.version.get(),
        }
    }
}

/// A root key as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RootKey)]
pub(crate) struct RootKeyView {
    /// `rk_<ULID>`.
    id: String,
    /// The organization it is bound to, if one.
    organization_id: Option<String>,
    /// What people call it.
    name: Option<String>,
    /// What it allows.
    permissions: Vec<&'static str>,
    /// `active` or `revoked`.
    #[schema(example = "active")]
    status: &'static str,
    /// What its token begins with.
    #[schema(example = "klroot_ab12")]
    start: String,
    /// What its token ends with.
    last_four: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of who created it.
    created_by: String,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl RootKeyView {
    /// The root key.
    #[must_use]
    pub(crate) fn of(root_key: &RootKey) -> Self {
        Self {
            id: root_key.id.to_string(),
            organization_id: root_key.organization_id.as_ref().map(ToString::to_string),
            name: root_key.name.as_ref().map(|name| name.as_str().into()),
            permissions: root_key.permissions.iter().map(|permission| permission.as_str()).collect(),
            status: if root_key.revoked_at.is_some() { "revoked" } else { "active" },
            start: root_key.hint.start.to_string(),
            last_four: root_key.hint.last_four.to_string(),
            created_at: root_key.created_at,
            created_by: root_key.created_by.to_string(),
            revoked_at: root_key.revoked_at,
            version: root_key.version.get(),
        }
    }
}

/// An application as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Application)]
pub(crate) struct ApplicationView {
    /// `app_<ULID>`; its OAuth 2.0 client identifier too.
    id: String,
    /// The organization it is bound to, if one.
    organization_id: Option<String>,
    /// What people call it.
    name: Option<String>,
    /// What it may do.
    permissions: Vec<&'static str>,
    /// `active` or `deleted`.
    #[schema(example = "active")]
    status: &'static str,
    /// What its secret begins with.
    #[schema(example = "klsecret_ab12")]
    start: String,
    /// What its secret ends with.
    last_four: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of who created it.
    created_by: String,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl ApplicationView {
    /// The application.
    #[must_use]
    pub(crate) fn of(application: &Application) -> Self {
        Self {
            id: application.id.to_string(),
            organization_id: application.organization_id.as_ref().map(ToString::to_string),
            name: application.name.as_ref().map(|name| name.as_str().into()),
            permissions: application.permissions.iter().map(|permission| permission.as_str()).collect(),
            status: if application.deleted_at.is_some() { "deleted" } else { "active" },
            start: application.hint.start.to_string(),
            last_four: application.hint.last_four.to_string(),
            created_at: application.created_at,
            created_by: application.created_by.to_string(),
            deleted_at: application.deleted_at,
            version: application.version.get(),
        }
    }
}

/// A webhook as it is shown; never with its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct WebhookView {
    /// `wh_<ULID>`.
    id: String,
    /// The organization whose events it is told of; all events if `null`.
    organization_id: Option<String>,
    /// Where messages go.
    #[schema(example = "https://example.com/keyledger")]
    url: String,
    /// What it is told of; everything if empty.
    #[schema(example = json!(["KeyRevoked", "KeyExpiringSoon"]))]
    event_types: Vec<String>,
    /// `enabled`, `disabled` or `deleted`.
    #[schema(example = "enabled")]
    status: &'static str,
    /// Why it is disabled: `requested`; `gone`, the receiver answered 410; `failing`, nothing could be delivered for days.
    disabled_reason: Option<&'static str>,
    /// Up to which position events have been taken from the log for it.
    position: Option<u64>,
    /// How many messages wait or are being sent.
    pending: usize,
    /// How many messages were given up.
    dead_letters: usize,
    /// Since when no message has arrived, if the last attempt failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// Until when an earlier secret signs beside the present one.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_valid_until: Option<Timestamp>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of who registered it.
    created_by: String,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl WebhookView {
    /// The webhook, and how far its deliveries are, if there are any yet.
    #[must_use]
    pub(crate) fn of(webhook: &Webhook, queue: Option<&Queue>, now: Timestamp) -> Self {
        let status = match (webhook.deleted_at, webhook.disabled) {
            (Some(_), _) => "deleted",
            (None, Some(_)) => "disabled",
            (None, None) => "enabled",
        };
        Self {
            id: webhook.id.to_string(),
            organization_id: webhook.organization_id.as_ref().map(ToString::to_string),
            url: webhook.url.as_str().into(),
            event_types: webhook.event_types.iter().map(|it| it.as_str().into()).collect(),
            status,
            disabled_reason: webhook.disabled.map(|reason| reason.as_str()),
            position: queue.map(|queue| queue.cursor().get()),
            pending: queue.map_or(0, Queue::len),
            dead_letters: queue.map_or(0, Queue::letter_count),
            failing_since: queue.and_then(Queue::failing_since),
            previous_secret_valid_until: webhook
                .previous_secrets
                .iter()
                .map(|previous| previous.valid_until)
                .max()
                .filter(|end| now < *end),
            created_at: webhook.created_at,
            created_by: webhook.created_by.to_string(),
            deleted_at: webhook.deleted_at,
            version: webhook.version.get(),
        }
    }
}

/// A portal session as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PortalSession)]
pub(crate) struct PortalSessionView {
    /// `ps_<ULID>`.
    id: String,
    /// The organization.
    organization_id: String,
    /// Who the person is.
    user_id: Option<String>,
    /// `owner`, `admin`, `member` or `auditor`.
    #[schema(example = "member")]
    role: &'static str,
    /// `pending` until the link is followed, then `active`; `ended`, or `expired`.
    #[schema(example = "pending")]
    status: &'static str,
    /// When the link was minted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of who minted it.
    created_by: String,
    /// When the link was followed.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When the link, or the session since it was started, ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was ended before that.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl PortalSessionView {
    /// The session as it stands at `now`.
    #[must_use]
    pub(crate) fn of(session: &PortalSession, now: Timestamp) -> Self {
        Self {
            id: session.id.to_string(),
            organization_id: session.organization_id.to_string(),
            user_id: session.user_id.as_ref().map(|user_id| user_id.as_str().into()),
            role: session.role.as_str(),
            status: session.status(now).as_str(),
            created_at: session.created_at,
            created_by: session.created_by.to_string(),
            started_at: session.started_at,
            expires_at: session.expires_at,
            ended_at: session.ended_at,
            version: session.version.get(),
        }
    }
}

/// An erasure as it is shown. It tells which organization it concerned, and never which user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub(crate) struct ErasureView {
    /// `era_<ULID>`.
    id: String,
    /// The organization.
    organization_id: String,
    /// Whose text was erased: `user`, or `organization` with all its users.
    #[schema(example = "user")]
    subject: &'static str,
    /// How many keys were destroyed; 0 when there was nothing to erase.
    subject_keys: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    erased_at: Timestamp,
    /// The id of who asked for it.
    created_by: String,
    /// How many events it has; the `ETag`.
    version: u32,
}

impl ErasureView {
    /// The erasure.
    #[must_use]
    pub(crate) fn of(erasure: &Erasure) -> Self {
        Self {
            id: erasure.id.to_string(),
            organization_id: erasure.organization_id.to_string(),
            subject: erasure.subject.as_str(),
            subject_keys: erasure.subject_keys,
            erased_at: erasure.erased_at,
            created_by: erasure.created_by.to_string(),
            version: erasure.version.get(),
        }
    }
}

fn scope_texts(scopes: &[Scope]) -> Vec<String> {
    scopes.iter().map(|scope| scope.as_str().into()).collect()
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T: Serialize> {
    /// The items.
    pub data: Vec<T>,
    /// What to send as `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
    /// How many items match, exact to 10,000.
    pub total: u64,
    /// Whether more than `total` match.
    pub total_capped: bool,
}
