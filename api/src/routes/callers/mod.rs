//! Endpoints about the credentials of callers: root keys, applications and console sessions.

pub(crate) mod applications;
pub(crate) mod console_sessions;
pub(crate) mod root_keys;

use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use serde_json::Value;

use crate::request::body::{Checks, Field, Reading, parsed, set};
use crate::request::context::RequestContext;

/// Reads the permissions of a credential: at least one.
fn permissions(value: &Value) -> Reading<Vec<Permission>> {
    let read = set(Permission::names().count(), str::parse::<Permission>)(value)?;
    if read.is_empty() {
        return Err(vec![(String::new(), "must name at least one permission".into())]);
    }
    Ok(read)
}

/// Reads the organization that a new credential is to be bound to. For a caller that sees every organization,
/// it must exist.
fn organization(request: &RequestContext, checks: &mut Checks, field: &Field) -> Option<OrganizationId> {
    let organization_id = checks.optional("organization_id", field, parsed::<OrganizationId>);
    if let Some(id) = &organization_id
        && request.caller.bound_to().is_none()
        && request.service.index.organization(id).is_none_or(|it| it.deleted_at.is_some())
    {
        checks.fail("/organization_id", "no organization has this id, or it was deleted");
    }
    organization_id
}
