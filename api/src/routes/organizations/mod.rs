//! Endpoints about organizations, portfolios and policies.

pub(crate) mod clients;
pub(crate) mod organization;
pub(crate) mod policies;

use keyledger_engine::value::id::OrganizationId;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::caller::Caller;

/// Returns the organization of a path if the caller may see it. It need not exist.
fn visible(caller: &Caller, id: &str) -> Result<OrganizationId, Problem> {
    let id: Option<OrganizationId> = id.parse().ok();
    id.filter(|id| caller.sees(id)).ok_or_else(|| Problem::of(Code::OrganizationNotFound))
}
