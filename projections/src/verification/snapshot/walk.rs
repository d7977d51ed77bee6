//! A walk over all keys as they were at one position, in pieces, while records are applied. A record that
//! changes a key ahead of the walk first copies the key, and the walk uses the copy.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use keyledger_engine::domain::key::PreviousToken;
use keyledger_engine::value::token::Digest;

use crate::verification::VerificationIndex;
use crate::verification::token_map::{DigestKey, Token};
use crate::verification::verified_key::VerifiedKey;
use crate::verification::writer_state::{KeyPlace, WriterState};

/// A walk that has to keep more copies than this is given up: a disk that hangs must not use up all memory.
const KEPT_MAX: usize = 1_000_000;
/// Sorts after all keys.
const END: KeyPlace = KeyPlace::last_of(u32::MAX);

/// A key as it was when the walk started.
pub(in crate::verification) struct WalkedKey {
    pub(in crate::verification) place: KeyPlace,
    pub(in crate::verification) digest: Digest,
    pub(in crate::verification) previous_tokens: Vec<PreviousToken>,
    pub(in crate::verification) key: VerifiedKey,
}

/// Why a walk cannot continue.
#[derive(Debug)]
pub(in crate::verification) enum Interrupted {
    /// The text of a subject was erased, and the keys already walked may hold it; or there is too much to
    /// keep.
    Ended,
    /// The index has lost the token of a key.
    Lost,
}

/// How far a walk has come, and what records have changed since it started.
#[derive(Default)]
pub(in crate::verification) struct Walk {
    passed: Option<KeyPlace>,
    /// Copies of keys ahead of the walk; `None` where there was no key.
    kept: BTreeMap<KeyPlace, Option<Box<WalkedKey>>>,
    /// Tokens retired since the walk started.
    retired: HashSet<DigestKey<16>>,
}

impl Walk {
    /// Whether the walk has yet to reach this place and has no copy for it.
    fn needs(&self, place: &KeyPlace) -> bool {
        self.passed.as_ref().is_none_or(|passed| place > passed) && !self.kept.contains_key(place)
    }

    /// Whether one more copy may be kept.
    fn has_room(&self) -> bool {
        self.kept.len() + self.retired.len() < KEPT_MAX
    }

    /// Advances the walk to `last` and returns the copies up to there.
    fn pass(&mut self, last: KeyPlace) -> BTreeMap<KeyPlace, Option<Box<WalkedKey>>> {
        let mut ahead = self.kept.split_off(&last);
        let at_last = ahead.remove(&last);
        let mut passed = std::mem::replace(&mut self.kept, ahead);
        passed.extend(at_last.map(|kept| (last, kept)));
        self.passed = Some(last);
        passed
    }
}

impl WriterState {
    /// Copies a key that is about to change or to be deleted, if the walk has not reached it.
    pub(in crate::verification) fn keep(&mut self, place: KeyPlace, digest: &Digest, key: &VerifiedKey) {
        if !self.walk.as_ref().is_some_and(|walk| walk.needs(&place)) {
            return;
        }
        let previous_tokens = self.previous_tokens.get(&key.key_id()).cloned().unwrap_or_default();
        let kept = WalkedKey { place, digest: *digest, previous_tokens, key: key.clone() };
        self.keep_for_walk(place, Some(Box::new(kept)));
    }

    /// Records that there was no key at this place before one is created, if the walk has not reached it.
    pub(in crate::verification) fn keep_absence(&mut self, place: KeyPlace) {
        if self.walk.as_ref().is_some_and(|walk| walk.needs(&place)) {
            self.keep_for_walk(place, None);
        }
    }

    fn keep_for_walk(&mut self, place: KeyPlace, kept: Option<Box<WalkedKey>>) {
        self.walk.take_if(|walk| !walk.has_room());
        if let Some(walk) = &mut self.walk {
            walk.kept.insert(place, kept);
        }
    }

    /// Records that a token is about to be retired.
    pub(in crate::verification) fn note_retirement(&mut self, digest: &Digest) {
        self.walk.take_if(|walk| !walk.has_room());
        if let Some(walk) = &mut self.walk {
            walk.retired.insert(DigestKey::new(digest));
        }
    }
}

impl VerificationIndex {
    /// Walks over at most about `limit` more keys, in the order of their places; `None` at the end.
    ///
    /// # Errors
    /// When the walk cannot continue.
    pub(in crate::verification) fn continue_walk(
        &self,
        limit: usize,
    ) -> Result<Option<Vec<WalkedKey>>, Interrupted> {
        let mut writer = self.writer();
        let WriterState { keys, previous_tokens, walk, .. } = &mut *writer;
        let walk = walk.as_mut().ok_or(Interrupted::Ended)?;
        let start = match walk.passed {
            Some(END) => return Ok(None),
            Some(passed) => Bound::Excluded(passed),
            None => Bound::Unbounded,
        };
        let present: Vec<_> = keys.range((start, Bound::Unbounded)).take(limit).collect();
        let last = present.last().filter(|_| present.len() == limit).map_or(END, |(place, _)| **place);
        let last = walk.kept.keys().nth(limit).copied().map_or(last, |kept| kept.min(last));
        let kept = walk.pass(last);
        let guard = self.tokens.guard();
        let mut piece = Vec::with_capacity(present.len() + kept.len());
        let present = present.into_iter().take_while(|(place, _)| **place <= last);
        for (place, digest) in present.filter(|(place, _)| !kept.contains_key(place)) {
            let key = self.tokens.get(digest, &guard).map(Token::key).ok_or(Interrupted::Lost)?.clone();
            let previous_tokens = previous_tokens.get(&key.key_id()).cloned().unwrap_or_default();
            piece.push(WalkedKey { place: *place, digest: *digest, previous_tokens, key });
        }
        drop(guard);
        drop(writer);
        piece.extend(kept.into_values().flatten().map(|kept| *kept));
        piece.sort_unstable_by_key(|walked| walked.place);
        Ok(Some(piece))
    }

    /// Keeps only the tokens that were already retired when the walk started.
    ///
    /// # Errors
    /// When the walk was interrupted.
    pub(in crate::verification) fn keep_retired_before<T>(
        &self,
        retired: &mut Vec<(DigestKey<16>, T)>,
    ) -> Result<(), Interrupted> {
        let writer = self.writer();
        let walk = writer.walk.as_ref().ok_or(Interrupted::Ended)?;
        retired.retain(|(digest, _)| !walk.retired.contains(digest));
        Ok(())
    }
}
