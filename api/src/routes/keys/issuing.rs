//! Issuing a key and rotating it: what every call that makes a token does once its body is read.

use std::sync::Arc;

use http::HeaderMap;
use keyledger_engine::domain::key::{CreateKey, Key, KeyCommand, Owner};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Description, Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Token, TokenPrefix};

use crate::answer::problem::{Code, Problem};
use crate::auth::caller::Caller;
use crate::request::execution::{Outcome, execute, outcome};
use crate::service::Service;

/// A key that is asked for: all of it but what is drawn at random.
pub(crate) struct NewKey {
    /// The organization it is to belong to.
    pub organization_id: OrganizationId,
    /// The API it is for.
    pub api_id: Option<ApiId>,
    /// Whom it is for.
    pub owner: Owner,
    /// The user it is to belong to.
    pub user_id: Option<UserId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it is for.
    pub description: Option<Description>,
    /// What the caller attaches.
    pub metadata: Option<Metadata>,
    /// Where it is valid.
    pub environment: Environment,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Issues a key for a caller who may. `name` is what an `Idempotency-Key` is bound to. The token is a new one also when
/// the call repeats an earlier one: then it is nobody's, and not to be shown.
///
/// # Errors
/// `organization_not_found` for an organization that the caller may not see, and whatever refuses the command.
pub(crate) async fn issue(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    name: (&str, &[u8]),
    new: NewKey,
) -> Result<(Outcome<Key>, Token), Problem> {
    if !caller.sees(&new.organization_id) {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let (command, token) = creation(service, new)?;
    let committed = execute(service, caller, headers, Some(name), command).await?;
    Ok((key_outcome(committed)?, token))
}

/// The command that issues a key, and the token that is drawn for it.
///
/// # Errors
/// `internal` when the operating system has no randomness.
pub(crate) fn creation(service: &Service, new: NewKey) -> Result<(Command, Token), Problem> {
    let prefix = new
        .api_id
        .and_then(|id| service.index.api(id))
        .map_or_else(TokenPrefix::default, |api| api.token_prefix.clone());
    let id: KeyId = service.new_id();
    let token = Token::generate(&prefix, new.environment, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    let command = CreateKey {
        organization_id: new.organization_id,
        api_id: new.api_id,
        owner: new.owner,
        user_id: new.user_id,
        name: new.name,
        description: new.description,
        metadata: new.metadata,
        environment: new.environment,
        scopes: new.scopes,
        expires_at: new.expires_at,
        digest: token.digest(),
        hint: token.hint(),
    };
    Ok((Command::Key(id, KeyCommand::Create(Box::new(command))), token))
}

/// Gives a key a new token for a caller who may, with the prefix and the environment that it has; the old one is accepted
/// for `overlap_millis` more. Name and token are as in [`issue`].
///
/// # Errors
/// Whatever refuses the command.
pub(crate) async fn rotate(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    name: (&str, &[u8]),
    key: &Key,
    overlap_millis: i64,
) -> Result<(Outcome<Key>, Token), Problem> {
    let api = key.api_id.and_then(|id| service.index.api(id));
    let prefix = api.map_or_else(TokenPrefix::default, |api| api.token_prefix.clone());
    let token = Token::generate(&prefix, key.environment, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    let command = KeyCommand::Rotate { digest: token.digest(), hint: token.hint(), overlap_millis };
    let committed = execute(service, caller, headers, Some(name), Command::Key(key.id, command)).await?;
    Ok((key_outcome(committed)?, token))
}

/// Takes the key out of what a command led to.
///
/// # Errors
/// `internal`, should the command have led to another kind of object.
pub(crate) fn key_outcome(committed: Committed) -> Result<Outcome<Key>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::Key(key) => {
            let version = key.version;
            Some((key, version))
        }
        _ => None,
    })
}
