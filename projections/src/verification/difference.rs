//! Compares two indexes, to prove that a restored snapshot equals a replay.

use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;

use keyledger_engine::domain::key::PreviousToken;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Digest;

use super::directory::Directory;
use super::token_map::{DigestKey, Token};
use super::verified_key::VerifiedKey;
use super::writer_state::WriterState;
use super::{RootToken, VerificationIndex};

const TOKENS_AT_A_TIME: usize = 4_096;
const END_OF_TIME: Timestamp = Timestamp::from_millis(i64::MAX);

impl VerificationIndex {
    /// Returns the name of the first thing in which two indexes differ, or `None` when they give the same
    /// answers. Nothing may be applied to either index meanwhile.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        if std::ptr::eq(self, other) {
            return None;
        }
        if self.position() != other.position() {
            return Some("the position".into());
        }
        let (writer, other_writer) = (&*self.writer(), &*other.writer());
        differing(&self.organizations, &other.organizations)
            .or_else(|| differing(&self.apis, &other.apis))
            .or_else(|| differing(&self.client_links, &other.client_links))
            .or_else(|| differing(&self.root_keys, &other.root_keys))
            .or_else(|| differing(&self.applications, &other.applications))
            .or_else(|| differing(&self.webhooks, &other.webhooks))
            .or_else(|| differing(self.portal_sessions.directory(), other.portal_sessions.directory()))
            .or_else(|| differing_flag(writer, other_writer))
            .or_else(|| self.differing_root_token(other))
            .or_else(|| self.differing_key(other, writer, other_writer))
            .or_else(|| self.differing_retired_token(other))
            .or_else(|| differing_work(writer, other_writer))
    }

    fn differing_root_token(&self, other: &Self) -> Option<String> {
        let (tokens, others) = (self.root_tokens.pin(), other.root_tokens.pin());
        if tokens.len() != others.len() {
            return Some("the number of root key tokens".into());
        }
        let same = |one: &RootToken, two: &RootToken| {
            let organization = |token: &RootToken| token.organization.as_ref().map(|it| it.id.clone());
            one.root_key == two.root_key && organization(one) == organization(two)
        };
        let mut tokens = tokens.iter();
        let differs = |(digest, token): &(&DigestKey<32>, &RootToken)| {
            others.get(*digest).is_none_or(|other| !same(token, other))
        };
        tokens.find(differs).map(|(_, token)| token.root_key.id.to_string())
    }

    fn differing_key(
        &self,
        other: &Self,
        writer: &WriterState,
        other_writer: &WriterState,
    ) -> Option<String> {
        let mut others = other_writer.keys.iter();
        for (place, digest) in &writer.keys {
            let Some((other_place, other_digest)) = others.next() else {
                return Some(place.key_id().to_string());
            };
            let id = place.key_id().min(other_place.key_id());
            let previous = writer.previous_tokens.get(&id);
            let same = place == other_place
                && digest == other_digest
                && previous == other_writer.previous_tokens.get(&id)
                && self.same_tokens(other, digest, previous.map_or(&[], Vec::as_slice));
            if !same {
                return Some(id.to_string());
            }
        }
        others.next().map(|(place, _)| place.key_id().to_string())
    }

    /// Whether a key's tokens lead to the same key in the same state.
    fn same_tokens(&self, other: &Self, digest: &Digest, previous: &[PreviousToken]) -> bool {
        let (guard, other_guard) = (self.tokens.guard(), other.tokens.guard());
        previous.iter().map(|token| &token.digest).chain([digest]).all(|digest| {
            match (self.tokens.get(digest, &guard), other.tokens.get(digest, &other_guard)) {
                (Some(Token::Current(one)), Some(Token::Current(two))) => same_key(one, two),
                (Some(Token::Previous(one)), Some(Token::Previous(two))) => {
                    one.valid_until == two.valid_until && same_key(&one.key, &two.key)
                }
                (None, None) => true,
                _ => false,
            }
        })
    }

    fn differing_retired_token(&self, other: &Self) -> Option<String> {
        let different = |key_id: KeyId| format!("a retired token of {key_id}");
        let found = self.tokens.try_for_each_retired(TOKENS_AT_A_TIME, |retired| {
            let unknown =
                retired.iter().find(|(digest, key_id)| other.tokens.find_retired(digest) != Some(*key_id));
            unknown.map_or(Ok(()), |(_, key_id)| Err(different(*key_id)))
        });
        let more = (self.tokens.retired_len() != other.tokens.retired_len())
            .then(|| "the number of retired tokens".to_owned());
        found.err().or(more)
    }
}

fn differing<K, V>(one: &Directory<K, V>, two: &Directory<K, V>) -> Option<String>
where
    K: Clone + Ord + Hash + Display,
    V: PartialEq,
{
    let ids = one.ids();
    if let Some(id) = ids.symmetric_difference(&two.ids()).next() {
        return Some(id.to_string());
    }
    ids.iter().find(|id| one.get(id) != two.get(id)).map(ToString::to_string)
}

/// Returns the organization or API that stops its keys in only one of the indexes.
fn differing_flag(one: &WriterState, two: &WriterState) -> Option<String> {
    if one.groups.len() != two.groups.len() || one.apis.len() != two.apis.len() {
        return Some("the number of organizations, links or APIs that keys refer to".into());
    }
    let mut groups = one.groups.iter().zip(&two.groups);
    let group = groups.find(|(group, other)| {
        (&group.id, &group.client_id, group.is_stopped()) != (&other.id, &other.client_id, other.is_stopped())
            || one.stopped_by.get(&group.number) != two.stopped_by.get(&other.number)
    });
    let numbers = |state: &WriterState| {
        let links = state.links.iter().map(|(id, group)| (id.clone(), group.number));
        links.collect::<Vec<_>>()
    };
    if numbers(one) != numbers(two) {
        return Some("the portfolios of partners".into());
    }
    let api = one
        .apis
        .values()
        .find(|api| two.apis.get(&api.id).is_none_or(|other| other.is_deleted() != api.is_deleted()));
    group.map(|(group, _)| group.id.to_string()).or(api.map(|api| api.id.to_string()))
}

fn differing_work(one: &WriterState, two: &WriterState) -> Option<String> {
    if one.counts != two.counts {
        Some("the number of keys in each status".into())
    } else if one.due_expiries(END_OF_TIME, usize::MAX) != two.due_expiries(END_OF_TIME, usize::MAX) {
        Some("the keys whose expiry is not recorded yet".into())
    } else if one.orphaned_keys(usize::MAX) != two.orphaned_keys(usize::MAX) {
        Some("the keys of deleted organizations and former clients".into())
    } else {
        None
    }
}

pub(super) fn same_key(one: &VerifiedKey, two: &VerifiedKey) -> bool {
    let decisive = |key: &VerifiedKey| {
        (
            key.key_id(),
            key.owner(),
            key.environment(),
            key.api_id(),
            key.expires_at(),
            key.is_revoked(),
            key.is_expiry_recorded(),
        )
    };
    decisive(one) == decisive(two)
        && one.organization_id() == two.organization_id()
        && (Arc::ptr_eq(one.scope_list(), two.scope_list()) || one.scopes() == two.scopes())
        && (one.name(), one.user_id(), one.metadata()) == (two.name(), two.user_id(), two.metadata())
}
