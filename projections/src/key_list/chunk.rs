//! A column store of some thousand keys of one organization, for filters, sorting and search.

use keyledger_engine::domain::key::{Key, KeyStatus, OwnerKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Scope, UserId};

use super::fold::fold_into;
use super::text_column::{SEPARATOR, TextColumn};

/// Rows in a full chunk. A query holds the chunks it reads, and changing one of those copies it. This is
/// small enough for a copy to take about ten microseconds, and large enough for the search to run at full
/// speed.
pub(super) const CHUNK_LEN: usize = 2_048;

/// Represents "never": greater than any instant.
pub(super) const NEVER: i64 = i64::MAX;

const REVOKED: u8 = 1;
const EXPIRED: u8 = 2;
const DELETED: u8 = 4;
const PRODUCTION: u8 = 8;
/// The owner's kind is stored above the flags.
const OWNER_SHIFT: u8 = 4;

/// The column values of one key; reused for one key after the other.
#[derive(Default)]
pub(super) struct Columns {
    created_at: i64,
    expires_at: i64,
    flags: u8,
    folded: Vec<u8>,
    tokens: Vec<u8>,
}

impl Columns {
    pub(super) fn fill(&mut self, key: &Key) {
        self.created_at = key.created_at.millis();
        self.expires_at = key.expires_at.map_or(NEVER, |end| end.millis());
        self.flags = key.owner.kind.code() << OWNER_SHIFT;
        for (set, flag) in [
            (key.revoked_at.is_some(), REVOKED),
            (key.expiry_recorded, EXPIRED),
            (key.deleted_at.is_some(), DELETED),
            (key.environment == Environment::Production, PRODUCTION),
        ] {
            self.flags |= if set { flag } else { 0 };
        }
        let name = key.name.as_ref().map_or("", |name| name.as_str());
        let description = key.description.as_ref().map_or("", |description| description.as_str());
        let user_id = key.user_id.as_ref().map_or("", |user_id| user_id.as_str());
        self.folded.clear();
        // The name comes first, because sorting by name reads the start of the text.
        for text in [name, description] {
            fold_into(text, &mut self.folded);
            self.folded.push(SEPARATOR);
        }
        push_folded_id(key.id, &mut self.folded);
        for text in [&key.hint.start, &key.hint.last_four, user_id] {
            self.folded.push(SEPARATOR);
            fold_into(text, &mut self.folded);
        }
        self.folded.push(SEPARATOR);
        self.tokens.clear();
        if let Some(user_id) = &key.user_id {
            push_user_token(user_id, &mut self.tokens);
        }
        if let Some(api_id) = key.api_id {
            push_api_token(api_id, &mut self.tokens);
        }
        if let Some(client_id) = &key.owner.client_id {
            push_client_token(client_id, &mut self.tokens);
        }
        for scope in &key.scopes {
            push_scope_token(scope.as_str(), &mut self.tokens);
        }
    }
}

/// Appends the id as it is shown, in lower case.
fn push_folded_id(id: KeyId, folded: &mut Vec<u8>) {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    folded.extend_from_slice(KeyId::PREFIX.as_bytes());
    let bits = id.to_u128();
    folded.extend((0..26).rev().map(|place| {
        let digit = (bits >> (5 * place)) as usize & 31;
        DIGITS.get(digit).copied().unwrap_or_default()
    }));
}

/// Appends the token of a row whose key belongs to this user.
pub(super) fn push_user_token(user_id: &UserId, tokens: &mut Vec<u8>) {
    push_token(b'u', user_id.as_str().as_bytes(), tokens);
}

/// Appends the token of a row whose key is for this API.
pub(super) fn push_api_token(api_id: ApiId, tokens: &mut Vec<u8>) {
    // In letters, because the raw bytes may contain separators.
    let mut letters = [0; 32];
    for (place, letter) in letters.iter_mut().enumerate() {
        *letter = b'a' + (api_id.to_u128() >> (4 * place)) as u8 % 16;
    }
    push_token(b'a', &letters, tokens);
}

/// Appends the token of a row whose key is for this client.
pub(super) fn push_client_token(client_id: &OrganizationId, tokens: &mut Vec<u8>) {
    push_token(b'c', client_id.as_str().as_bytes(), tokens);
}

/// Appends the token of a row whose key carries this scope. The scope must be [well-formed](is_scope).
pub(super) fn push_scope_token(scope: &str, tokens: &mut Vec<u8>) {
    push_token(b's', scope.as_bytes(), tokens);
}

/// Whether a text is a well-formed scope; no other text may be searched for.
pub(super) fn is_scope(text: &str) -> bool {
    Scope::new(text).is_ok()
}

fn push_token(kind: u8, value: &[u8], tokens: &mut Vec<u8>) {
    tokens.extend_from_slice(&[SEPARATOR, kind]);
    tokens.extend_from_slice(value);
    tokens.push(SEPARATOR);
}

#[derive(Clone, Default)]
pub(super) struct Chunk {
    pub(super) ids: Vec<KeyId>,
    pub(super) created_at: Vec<i64>,
    pub(super) expires_at: Vec<i64>,
    flags: Vec<u8>,
    /// Name, description, id, start, last four and user id, case-folded.
    pub(super) folded: TextColumn,
    /// User id, API, client and scopes, each between separators.
    pub(super) tokens: TextColumn,
    /// Lowest and highest `created_at`, which never changes for a key.
    pub(super) created_range: (i64, i64),
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= CHUNK_LEN
    }

    /// Adds a key and returns its row.
    pub(super) fn push(&mut self, id: KeyId, columns: &Columns) -> u16 {
        let row = u16::try_from(self.len()).unwrap_or(u16::MAX);
        self.created_range = if self.ids.is_empty() {
            (columns.created_at, columns.created_at)
        } else {
            (self.created_range.0.min(columns.created_at), self.created_range.1.max(columns.created_at))
        };
        self.ids.push(id);
        self.created_at.push(columns.created_at);
        self.expires_at.push(columns.expires_at);
        self.flags.push(columns.flags);
        self.folded.push(&columns.folded);
        self.tokens.push(&columns.tokens);
        if self.is_full() {
            self.folded.shrink();
            self.tokens.shrink();
        }
        row
    }

    /// Updates a row to the current values of its key.
    pub(super) fn set(&mut self, row: usize, columns: &Columns) {
        let (Some(expires_at), Some(flags)) = (self.expires_at.get_mut(row), self.flags.get_mut(row)) else {
            return;
        };
        *expires_at = columns.expires_at;
        *flags = columns.flags;
        if self.folded.get(row) != columns.folded {
            self.folded.set(row, &columns.folded);
        }
        if self.tokens.get(row) != columns.tokens {
            self.tokens.set(row, &columns.tokens);
        }
    }

    pub(super) fn status(&self, row: usize, now: i64) -> KeyStatus {
        let flags = self.flags.get(row).copied().unwrap_or_default();
        let expired = self.expires_at.get(row).is_some_and(|end| *end <= now);
        if flags & DELETED != 0 {
            KeyStatus::Deleted
        } else if flags & EXPIRED != 0 || expired {
            KeyStatus::Expired
        } else if flags & REVOKED != 0 {
            KeyStatus::Revoked
        } else {
            KeyStatus::Active
        }
    }

    pub(super) fn environment(&self, row: usize) -> Environment {
        match self.flags.get(row) {
            Some(flags) if flags & PRODUCTION != 0 => Environment::Production,
            _ => Environment::Preview,
        }
    }

    pub(super) fn owner(&self, row: usize) -> OwnerKind {
        let code = self.flags.get(row).map(|flags| flags >> OWNER_SHIFT);
        code.and_then(OwnerKind::from_code).unwrap_or(OwnerKind::Organization)
    }

    /// Scopes of a row's key, as bytes.
    pub(super) fn scopes(&self, row: usize) -> impl Iterator<Item = &[u8]> {
        let words = self.tokens.get(row).split(|byte| *byte == SEPARATOR);
        words.filter_map(|word| word.strip_prefix(b"s"))
    }

    /// User of a row's key, as bytes unique to the user.
    pub(super) fn user(&self, row: usize) -> Option<&[u8]> {
        self.tokens.get(row).split(|byte| *byte == SEPARATOR).find_map(|word| word.strip_prefix(b"u"))
    }

    /// Case-folded name of a row's key; empty if it has none.
    pub(super) fn folded_name(&self, row: usize) -> &[u8] {
        let text = self.folded.get(row);
        memchr::memchr(SEPARATOR, text).and_then(|end| text.get(..end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_searched_as_it_is_shown() {
        for bits in [0, 1, 31, 32, u128::MAX, 0x0193_5f00_89ab_cdef_0123_4567_89ab_cdef] {
            let id = KeyId::from_u128(bits);
            let mut folded = Vec::new();
            push_folded_id(id, &mut folded);
            assert_eq!(String::from_utf8(folded).unwrap(), id.to_string().to_lowercase());
        }
    }
}
