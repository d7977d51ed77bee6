//! Cursors of the key list: the sort value and the id of the last key of a page. Keys that are added, removed
//! or changed elsewhere do not shift pages, because a cursor counts nothing.

use keyledger_engine::crypto::sha256::Sha256;
use keyledger_engine::value::id::KeyId;

use super::query::KeyQuery;

const VERSION: u8 = 1;
/// Names are compared up to this many bytes, which also bounds the length of a cursor.
pub(super) const NAME_PREFIX_LEN: usize = 120;

/// A value that keys are sorted by.
pub(super) trait SortValue<'a>: Ord + Copy {
    fn encode(&self, bytes: &mut Vec<u8>);
    fn decode(bytes: &'a [u8]) -> Option<Self>;
}

/// An instant in milliseconds.
impl SortValue<'_> for i64 {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

/// The start of a case-folded name. Keys without a name sort after all named ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamePrefix<'a> {
    absent: bool,
    bytes: &'a [u8],
}

impl<'a> NamePrefix<'a> {
    pub(super) fn of(folded_name: &'a [u8]) -> Self {
        let bytes = folded_name.get(..NAME_PREFIX_LEN).unwrap_or(folded_name);
        Self { absent: bytes.is_empty(), bytes }
    }
}

impl<'a> SortValue<'a> for NamePrefix<'a> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.bytes);
    }

    fn decode(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() <= NAME_PREFIX_LEN).then(|| Self::of(bytes))
    }
}

/// Encodes the end of a page.
pub(super) fn encode<'a>(query: &KeyQuery, value: &impl SortValue<'a>, id: KeyId) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(binding(query));
    bytes.extend(id.to_u128().to_be_bytes());
    value.encode(&mut bytes);
    hex(&bytes)
}

/// Decodes a cursor of this query into the id and the encoded sort value.
pub(super) fn decode(query: &KeyQuery, cursor: &str) -> Option<(KeyId, Vec<u8>)> {
    let bytes = from_hex(cursor)?;
    let (&version, rest) = bytes.split_first()?;
    let (bound_to, rest) = rest.split_first_chunk::<8>()?;
    let (id, value) = rest.split_first_chunk::<16>()?;
    let fits = version == VERSION && *bound_to == binding(query);
    fits.then(|| (KeyId::from_u128(u128::from_be_bytes(*id)), value.to_vec()))
}

/// Hashes every part of a query that must stay the same from page to page.
fn binding(query: &KeyQuery) -> [u8; 8] {
    let KeyQuery {
        organization_id,
        owner,
        client_id,
        user_id,
        api_id,
        environment,
        status,
        scope,
        text,
        created_after,
        created_before,
        expires_before,
        unused_since,
        breaks,
        sort,
        limit: _,
        cursor: _,
        now: _,
    } = query;
    let mut hasher = Sha256::new();
    let mut field = |text: Option<&str>| {
        hasher.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        hasher.update(text.unwrap_or_default());
    };
    field(organization_id.as_ref().map(|id| id.as_str()));
    let mut owner: Vec<_> = owner.iter().map(|owner| owner.as_str()).collect();
    owner.sort_unstable();
    owner.dedup();
    field(Some(&owner.join(",")));
    field(client_id.as_ref().map(|id| id.as_str()));
    field(user_id.as_ref().map(|id| id.as_str()));
    field(api_id.map(|id| id.to_string()).as_deref());
    field(environment.map(|environment| environment.as_str()));
    let mut status: Vec<_> = status.iter().map(|status| status.as_str()).collect();
    status.sort_unstable();
    status.dedup();
    field(Some(&status.join(",")));
    field(scope.as_deref());
    field(text.as_deref());
    for time in [created_after, created_before, expires_before] {
        field(time.map(|time| time.millis().to_string()).as_deref());
    }
    // The requirements of a policy may change from page to page.
    field(Some(if breaks.is_empty() { "" } else { "breaks" }));
    field(Some(sort.as_str()));
    // Only if present, so that cursors of all other queries stay as they are.
    if let Some(time) = unused_since {
        field(Some(&time.millis().to_string()));
    }
    let mut binding = [0; 8];
    binding.copy_from_slice(hasher.finalize().first_chunk::<8>().unwrap_or(&[0; 8]));
    binding
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    rest.is_empty().then(|| bytes.collect()).flatten()
}
