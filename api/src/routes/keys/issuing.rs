//! Creating and rotating keys: the steps that every endpoint with a new token shares.

use std::sync::Arc;

use http::HeaderMap;
use keyledger_engine::domain::key::{CreateKey, Key, KeyCommand};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::ApiId;
use keyledger_engine::value::token::{Token, TokenPrefix};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::caller::Caller;
use crate::request::execution::{Outcome, execute};
use crate::service::Service;

/// Draws a token with the prefix of the key's API.
///
/// # Errors
/// `internal` if the operating system provides no randomness.
pub(crate) fn draw_token(
    service: &Service,
    api_id: Option<ApiId>,
    environment: Environment,
) -> Result<Token, Problem> {
    let api = api_id.and_then(|id| service.index.api(id));
    let prefix = api.map_or_else(TokenPrefix::default, |api| api.token_prefix.clone());
    Token::generate(&prefix, environment, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))
}

/// Creates a key for an authorized caller. `name` is what the `Idempotency-Key` is bound to. If the outcome
/// is replayed, the command's token belongs to no key and must not be shown.
///
/// # Errors
/// `organization_not_found` for an organization that the caller may not see, or the command's rejection.
pub(crate) async fn issue(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    name: (&str, &[u8]),
    key: CreateKey,
) -> Result<Outcome<Key>, Problem> {
    if !caller.sees(&key.organization_id) {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let command = creation(service, key);
    Outcome::of(execute(service, caller, headers, Some(name), command).await?)
}

/// Returns the command that creates a key under a new id.
pub(crate) fn creation(service: &Service, key: CreateKey) -> Command {
    Command::Key(service.new_id(), KeyCommand::Create(Box::new(key)))
}

/// Gives a key a new token for an authorized caller, with the same prefix and environment. The previous token
/// stays valid for `overlap_millis`. `name` and the returned token are as in [`issue`].
///
/// # Errors
/// The command's rejection.
pub(crate) async fn rotate(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    name: (&str, &[u8]),
    key: &Key,
    overlap_millis: i64,
) -> Result<(Outcome<Key>, Token), Problem> {
    let token = draw_token(service, key.api_id, key.environment)?;
    let command = KeyCommand::Rotate { digest: token.digest(), hint: token.hint(), overlap_millis };
    let committed = execute(service, caller, headers, Some(name), Command::Key(key.id, command)).await?;
    Ok((Outcome::of(committed)?, token))
}
