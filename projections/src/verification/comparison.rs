//! Compares a running index with a replay of the log, while records are applied. The index may have started
//! from a snapshot, which somebody may have forged.
//!
//! The log is replayed into an index of its own, for a part of the keys at a time, so that it takes little
//! memory. When the replay has nearly caught up, a [walk](super::snapshot::walk) begins, which passes all
//! keys as they are at that position, and the replay is completed up to there.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use keyledger_engine::log::{self, LogReader};
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::position::Position;

use super::VerificationIndex;
use super::difference::same_key;
use super::snapshot::format::SnapshotError;
use super::snapshot::saving::{Beginning, Walking};
use super::snapshot::walk::WalkedKey;
use super::token_map::{DigestKey, Token};

/// Keys that a replay may hold, or an eighth of all keys if that is more.
const KEYS_MIN: usize = 250_000;
const KEYS_SHARE: usize = 8;
/// Records that are read and replayed at a time.
const RECORDS_AT_A_TIME: usize = 256;
/// Keys compared while the writer waits.
const KEYS_AT_A_TIME: usize = 256;
const RETIRED_TOKENS_AT_A_TIME: usize = 4_096;
/// A difference has to be found this often in succession: an erasure removes text from the log a moment
/// before it removes it from the index.
const FOUND_MIN: usize = 2;
/// Attempts that erasures and many changes may interrupt.
const ATTEMPTS_MAX: usize = 10;

/// Why a comparison did not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The caller asked to stop.
    #[error("the comparison was stopped")]
    Stopped,
    /// Erasures or too many changes interrupted it again and again, or the index has stopped.
    #[error("the comparison could not finish: {0}")]
    Unfinished(String),
}

/// The keys that one pass over the log replays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    number: u64,
    of: u64,
}

impl Part {
    /// Whether the key is one of them. The last bytes of ids are random.
    pub(super) fn has(self, id: KeyId) -> bool {
        let [.., a, b, c, d] = id.to_u128().to_be_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) % self.of == self.number
    }
}

/// What one pass found.
enum Pass {
    Equal,
    Different(String),
    /// An erasure or too many changes came in between.
    Interrupted,
}

/// What decides beside the keys and the lists in [`Beginning`], as of one position.
#[derive(PartialEq)]
struct Flags {
    root_tokens: Vec<(DigestKey<32>, RootKeyId, Option<OrganizationId>)>,
    stopped_groups: Vec<bool>,
    deleted_apis: Vec<(ApiId, bool)>,
}

impl VerificationIndex {
    /// Compares the index with a replay of the log of `reader`, and returns the name of the first thing that
    /// differs, or `None` when both give the same answers. Records are applied meanwhile; they wait for some
    /// hundred microseconds at a time, as for a snapshot. `walks` is held while keys are passed, because only
    /// one walk can be under way. `proceed` receives the position and the end of the replay now and then, and
    /// may pause or break.
    ///
    /// # Errors
    /// When the log cannot be read, `proceed` breaks, or the index is changed too much.
    pub fn differs_from_replay(
        &self,
        reader: &dyn LogReader,
        walks: &Mutex<()>,
        proceed: impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Option<String>, ComparisonError> {
        let keys = self.writer().keys.len();
        self.differs_in_parts(reader, walks, keys.div_ceil(KEYS_MIN.max(keys / KEYS_SHARE)), proceed)
    }

    pub(super) fn differs_in_parts(
        &self,
        reader: &dyn LogReader,
        walks: &Mutex<()>,
        parts: usize,
        mut proceed: impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Option<String>, ComparisonError> {
        let of = parts.max(1) as u64;
        for number in 0..of {
            let (mut found, mut attempts) = (0, 0);
            loop {
                match self.compare_part(Part { number, of }, reader, walks, &mut proceed)? {
                    Pass::Equal => break,
                    Pass::Different(what) if found + 1 >= FOUND_MIN => return Ok(Some(what)),
                    Pass::Different(_) => found += 1,
                    Pass::Interrupted => (found, attempts) = (0, attempts + 1),
                }
                if attempts >= ATTEMPTS_MAX {
                    return Err(ComparisonError::Unfinished("the index changes too fast".into()));
                }
            }
        }
        Ok(None)
    }

    fn compare_part(
        &self,
        part: Part,
        reader: &dyn LogReader,
        walks: &Mutex<()>,
        proceed: &mut impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Pass, ComparisonError> {
        let erasures = self.erasures();
        let replayed = Self { part: Some(part), ..Self::new() };
        let mut replay = |until: Position| replay_until(&replayed, reader, until, &mut *proceed);
        // The end of the log moves meanwhile. Twice leaves little to replay once the walk has begun.
        for _ in 0..2 {
            if let Some(what) = replay(self.position())? {
                return Ok(Pass::Different(what));
            }
        }
        let _alone = walks.lock().unwrap_or_else(PoisonError::into_inner);
        let (beginning, flags, _walking) = match self.begin_comparison() {
            Ok(begun) => begun,
            Err(SnapshotError::Interrupted) => return Ok(Pass::Interrupted),
            Err(error) => return Err(ComparisonError::Unfinished(error.to_string())),
        };
        let differs = match replay(beginning.position)? {
            Some(what) => Some(what),
            None => self.differs_from(&replayed, part, &beginning, &flags, &mut *proceed)?,
        };
        Ok(match differs {
            // Text may have been read before it was erased.
            _ if self.erasures() != erasures || self.writer().walk.is_none() => Pass::Interrupted,
            None => Pass::Equal,
            Some(what) => Pass::Different(what),
        })
    }

    /// Begins a walk, and collects everything else that decides.
    fn begin_comparison(&self) -> Result<(Beginning, Flags, Walking<'_>), SnapshotError> {
        let mut writer = self.writer();
        let beginning = self.begin_walk_locked(&mut writer)?;
        let organization = |token: &super::RootToken| token.organization.as_ref().map(|it| it.id.clone());
        let tokens = self.root_tokens.pin();
        let mut root_tokens: Vec<_> =
            tokens.iter().map(|(digest, token)| (*digest, token.root_key.id, organization(token))).collect();
        root_tokens.sort_unstable_by_key(|(digest, id, _)| (*id, *digest.as_bytes()));
        let mut deleted_apis: Vec<_> = writer.apis.values().map(|api| (api.id, api.is_deleted())).collect();
        deleted_apis.sort_unstable();
        let stopped_groups = writer.groups.iter().map(|group| group.is_stopped()).collect();
        Ok((beginning, Flags { root_tokens, stopped_groups, deleted_apis }, Walking(self)))
    }

    /// Walks over all keys and compares those of `part`, and everything else, with a replay up to the same
    /// position.
    fn differs_from(
        &self,
        replayed: &Self,
        part: Part,
        beginning: &Beginning,
        flags: &Flags,
        proceed: &mut impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Option<String>, ComparisonError> {
        let at = beginning.position;
        let mut pause = || match proceed(at, at) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ComparisonError::Stopped),
        };
        let begun = replayed.begin_comparison();
        let (expected, expected_flags, _walking) =
            begun.map_err(|error| ComparisonError::Unfinished(error.to_string()))?;
        let differs = beginning.differs_from(&expected).or_else(|| flags.differs_from(&expected_flags));
        if differs.is_some() {
            return Ok(differs);
        }
        let mut keys = 0;
        // An interrupted walk ends early; the caller notices.
        while let Ok(Some(piece)) = self.continue_walk(KEYS_AT_A_TIME) {
            for walked in piece.iter().filter(|walked| part.has(walked.key.key_id())) {
                keys += 1;
                if !replayed.has_equal(walked) {
                    return Ok(Some(walked.key.key_id().to_string()));
                }
            }
            pause()?;
        }
        if keys != replayed.writer().keys.len() {
            return Ok(Some("the number of keys".into()));
        }
        let mut retired_tokens = 0;
        let compared = self.tokens.try_for_each_retired(RETIRED_TOKENS_AT_A_TIME, |mut retired| {
            if self.keep_retired_before(&mut retired).is_err() {
                return Err(Ok(None));
            }
            for (digest, key_id) in retired.iter().filter(|(_, key_id)| part.has(*key_id)) {
                retired_tokens += 1;
                if replayed.tokens.find_retired(digest) != Some(*key_id) {
                    return Err(Ok(Some(format!("a retired token of {key_id}"))));
                }
            }
            pause().map_err(Err)
        });
        match compared {
            Err(found) => found,
            Ok(()) if retired_tokens != replayed.tokens.retired_len() => {
                Ok(Some("the number of retired tokens".into()))
            }
            Ok(()) => Ok(None),
        }
    }

    /// Whether this index has the same key under the same tokens.
    fn has_equal(&self, walked: &WalkedKey) -> bool {
        let writer = self.writer();
        let previous = writer.previous_tokens.get(&walked.key.key_id()).map_or(&[][..], Vec::as_slice);
        if writer.keys.get(&walked.place) != Some(&walked.digest) || previous != walked.previous_tokens {
            return false;
        }
        let guard = self.tokens.guard();
        matches!(self.tokens.get(&walked.digest, &guard),
            Some(Token::Current(key)) if same_key(key, &walked.key))
    }
}

/// Replays the log into `index`. Returns what is wrong with a record that does not apply.
fn replay_until(
    index: &VerificationIndex,
    reader: &dyn LogReader,
    until: Position,
    proceed: &mut impl FnMut(Position, Position) -> ControlFlow<()>,
) -> Result<Option<String>, ComparisonError> {
    while index.position() < until {
        let left = usize::try_from(until.get() - index.position().get()).unwrap_or(usize::MAX);
        let records = reader.read(index.position(), left.min(RECORDS_AT_A_TIME))?;
        if let Err(error) = index.apply_all(&records) {
            return Ok(Some(error.to_string()));
        }
        if records.is_empty() {
            return Ok(Some(format!("the log has no event after position {}", index.position())));
        }
        if proceed(index.position(), until).is_break() {
            return Err(ComparisonError::Stopped);
        }
    }
    Ok(None)
}

impl Beginning {
    fn differs_from(&self, other: &Self) -> Option<String> {
        let groups = self.groups.iter().zip(&other.groups).find(|(one, two)| one != two);
        if self.groups.len() != other.groups.len() {
            return Some("the number of organizations and links".into());
        }
        groups
            .map(|(group, _)| group.id.to_string())
            .or_else(|| differing(&self.client_links, &other.client_links, |it| &it.id))
            .or_else(|| differing(&self.apis, &other.apis, |it| &it.id))
            .or_else(|| differing(&self.root_keys, &other.root_keys, |it| &it.id))
            .or_else(|| differing(&self.applications, &other.applications, |it| &it.id))
            .or_else(|| differing(&self.webhooks, &other.webhooks, |it| &it.id))
            .or_else(|| differing(&self.portal_sessions, &other.portal_sessions, |it| &it.id))
    }
}

impl Flags {
    fn differs_from(&self, other: &Self) -> Option<String> {
        if self.root_tokens != other.root_tokens {
            Some("the tokens of root keys".into())
        } else if self.stopped_groups != other.stopped_groups {
            Some("the organizations and links whose keys are stopped".into())
        } else if self.deleted_apis != other.deleted_apis {
            Some("the deleted APIs".into())
        } else {
            None
        }
    }
}

/// The id of the first aggregate that differs in two lists in the order of ids.
fn differing<V: PartialEq, I: Display>(
    ours: &[Arc<V>],
    theirs: &[Arc<V>],
    id: impl Fn(&V) -> &I,
) -> Option<String> {
    let changed = ours.iter().zip(theirs).find(|(one, two)| one != two).map(|(one, _)| one);
    let longer = if ours.len() > theirs.len() { ours } else { theirs };
    let more = longer.get(ours.len().min(theirs.len()));
    changed.or(more).map(|aggregate| id(aggregate).to_string())
}
