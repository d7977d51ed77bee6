//! The vault: the keys that seal personal parts of records, one for each [`Subject`]. Stored bytes never
//! change, so text is erased by destroying its key. The log keeps its bytes, hashes and proofs, but the
//! text can no longer be read.
//!
//! * [`Subject`]: the person or organization that a text belongs to. [`SubjectKeyId`]: the id of its key,
//!   stored beside what the key sealed.
//! * [`SubjectKey`]: seals and opens texts.
//! * `store`: the file. All keys are held in memory as well, so reading a record never waits for the file.
//!
//! The log drives the vault (promise 10 of its contract): a new subject's key is durable before the commit
//! that uses it, and the keys named by a `PersonalDataErased` are destroyed before its command is answered.

mod seal;
mod store;
mod subject_key_map;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

pub use crate::value::subject::{Subject, SubjectKeyId};
pub use seal::{OVERHEAD, OpenError, SealError, SubjectKey, split};

use seal::{SECRET_LEN, Secret};
use store::{Holder, Row, Store, Stored, UserTag};
use subject_key_map::SubjectKeyMap;

use crate::kek::Kek;
use crate::value::id::OrganizationId;

/// The vault's file in a data directory.
pub const FILE_NAME: &str = crate::storage::data_directory::VAULT;

/// Maximum number of subjects whose key is found without computing a tag.
const RECENT_LEN_MAX: usize = 8_192;

/// Error of a vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened, or is not a vault. The text names the file and says what to do.
    #[error("{0}")]
    Open(String),
    /// The file cannot be written.
    #[error("{0}")]
    Unavailable(String),
    /// The operating system provides no randomness, or the vault is open read-only.
    #[error("cannot create a key in the vault: {0}")]
    NoNewKey(&'static str),
}

/// Identifies a vault. It stays the same when keys are added or destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultId(pub [u8; 16]);

/// The keys, in memory and in their file.
pub struct Vault {
    contents: RwLock<Contents>,
    store: Mutex<Backing>,
}

enum Backing {
    File(Store),
    /// The keys are lost when the process ends.
    Memory,
    /// No key can be added.
    ReadOnly,
}

struct Contents {
    tag_key: Zeroizing<[u8; SECRET_LEN]>,
    user_tags: hmac::Key,
    holders: HashMap<Option<OrganizationId>, HashMap<Option<UserTag>, SubjectKeyId>>,
    keys: SubjectKeyMap<Row>,
    /// Keys by recently used subject, because computing a tag takes long. Emptied when full.
    recent: Mutex<HashMap<Subject, SubjectKeyId>>,
    /// Keys that are no longer given out but are still in the file.
    withheld: HashMap<SubjectKeyId, Row>,
}

impl Contents {
    fn new(stored: Stored) -> Self {
        let user_tags = hmac::Key::new(hmac::HMAC_SHA256, stored.tag_key.as_slice());
        let mut contents = Self {
            tag_key: stored.tag_key,
            user_tags,
            holders: HashMap::new(),
            keys: SubjectKeyMap::default(),
            recent: Mutex::default(),
            withheld: HashMap::new(),
        };
        for row in stored.rows {
            contents.insert(row);
        }
        contents
    }

    fn insert(&mut self, row: Row) {
        let of_organization = self.holders.entry(row.holder.organization_id.clone()).or_default();
        of_organization.insert(row.holder.user, row.id);
        self.keys.insert(row.id, row);
    }

    fn remove(&mut self, id: &SubjectKeyId) -> Option<Row> {
        let row = self.keys.remove(id)?;
        self.recent.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(of_organization) = self.holders.get_mut(&row.holder.organization_id) {
            if of_organization.get(&row.holder.user) == Some(id) {
                of_organization.remove(&row.holder.user);
            }
            if of_organization.is_empty() {
                self.holders.remove(&row.holder.organization_id);
            }
        }
        Some(row)
    }

    fn holder(&self, subject: &Subject) -> Holder {
        let user = subject.user_id().map(|user_id| {
            let tag = hmac::sign(&self.user_tags, user_id.as_str().as_bytes());
            let mut half = UserTag::default();
            half.iter_mut().zip(tag.as_ref()).for_each(|(byte, value)| *byte = *value);
            half
        });
        Holder { organization_id: subject.organization_id().cloned(), user }
    }

    fn id_of(&self, holder: &Holder) -> Option<SubjectKeyId> {
        self.holders.get(&holder.organization_id)?.get(&holder.user).copied()
    }

    /// The key of a recently used subject.
    fn recent_key(&self, subject: &Subject) -> Option<SubjectKey> {
        let id = self.recent.lock().unwrap_or_else(PoisonError::into_inner).get(subject).copied();
        self.key(id?)
    }

    /// Remembers the key of a subject as recently used.
    fn remember(&self, subject: &Subject, id: SubjectKeyId) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT_LEN_MAX {
            recent.clear();
        }
        recent.insert(subject.clone(), id);
    }

    fn key(&self, id: SubjectKeyId) -> Option<SubjectKey> {
        self.keys.get(&id).map(|row| SubjectKey::new(id, row.secret.clone()))
    }
}

impl Vault {
    /// Creates a vault whose keys are lost when the process ends, for logs in memory.
    ///
    /// # Errors
    /// [`Error::NoNewKey`] when the operating system provides no randomness.
    pub fn in_memory() -> Result<Self, Error> {
        let stored = Stored { tag_key: draw()?, rows: Vec::new() };
        Ok(Self::with(stored, Backing::Memory))
    }

    /// A read-only vault without keys: every sealed text reads as erased.
    #[must_use]
    pub fn empty() -> Self {
        let stored = Stored { tag_key: Zeroizing::new([0; SECRET_LEN]), rows: Vec::new() };
        Self::with(stored, Backing::ReadOnly)
    }

    /// Opens the vault in the file at `path`, whose secrets no key-encryption key wraps. Creates the file,
    /// readable by its owner only, if it does not exist.
    ///
    /// # Errors
    /// [`Error::Open`], one line for the operator; [`Error::NoNewKey`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_wrapped(path, None)
    }

    /// As [`open`](Self::open), with the key-encryption key that wraps the secrets in the file, if there is
    /// one.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the secrets are wrapped with another key, or not at all.
    pub fn open_wrapped(path: &Path, kek: Option<Arc<Kek>>) -> Result<Self, Error> {
        let (store, stored) = Store::open(path, &*draw()?, kek)?;
        Ok(Self::with(stored, Backing::File(store)))
    }

    /// Reads a vault that no process has open for writing. The file is not written to. A missing file is a
    /// vault without keys.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        Self::open_read_only_wrapped(path, None)
    }

    /// As [`open_read_only`](Self::open_read_only), with the key-encryption key that wraps the secrets in the
    /// file, if there is one.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open_read_only_wrapped(path: &Path, kek: Option<&Kek>) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(Self::empty());
        }
        Ok(Self::with(Store::read_only(path, kek)?, Backing::ReadOnly))
    }

    /// Rewrites the file of a vault that nobody has open, with its secrets wrapped with `to` instead of
    /// `from`; none means in clear. The old file's bytes are overwritten. Returns whether the file changed:
    /// one that is wrapped with `to` already does not, nor does one that does not exist.
    ///
    /// # Errors
    /// [`Error::Open`] and [`Error::Unavailable`].
    pub fn rekey(path: &Path, from: Option<Arc<Kek>>, to: Option<Arc<Kek>>) -> Result<bool, Error> {
        if !path.exists() || store::kek_of(path)? == to.as_deref().map(Kek::id) {
            return Ok(false);
        }
        let (mut store, stored) = Store::open(path, &*draw()?, from)?;
        store.rekey(&stored, to)?;
        Ok(true)
    }

    fn with(stored: Stored, backing: Backing) -> Self {
        Self { contents: RwLock::new(Contents::new(stored)), store: Mutex::new(backing) }
    }

    /// Identifies this vault. All vaults without a file have the same id.
    #[must_use]
    pub fn id(&self) -> VaultId {
        // Not the id of a user: those contain no control characters.
        let tag = hmac::sign(&self.contents().user_tags, b"\0the vault");
        let mut id = [0; 16];
        id.iter_mut().zip(tag.as_ref()).for_each(|(byte, value)| *byte = *value);
        VaultId(id)
    }

    /// Returns the keys of subjects, in the order given. Subjects without a key get one, which is durable on
    /// return. All new keys take one commit of the vault; without new keys there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::NoNewKey`]. New keys are not used then.
    pub(crate) fn keys_for<'a>(
        &self,
        subjects: impl IntoIterator<Item = &'a Subject>,
    ) -> Result<Vec<SubjectKey>, Error> {
        let mut added: Vec<Row> = Vec::new();
        let mut keys = Vec::new();
        {
            let contents = self.contents();
            let mut drawn: HashMap<Holder, usize> = HashMap::new();
            for subject in subjects {
                if let Some(key) = contents.recent_key(subject) {
                    keys.push(key);
                    continue;
                }
                let holder = contents.holder(subject);
                if let Some(key) = contents.id_of(&holder).and_then(|id| contents.key(id)) {
                    contents.remember(subject, key.id());
                    keys.push(key);
                    continue;
                }
                let index = match drawn.get(&holder) {
                    Some(index) => *index,
                    None => {
                        let id = SubjectKeyId::from_bytes(*draw()?);
                        added.push(Row { id, holder: holder.clone(), secret: Secret::new(draw()?) });
                        drawn.insert(holder, added.len() - 1);
                        added.len() - 1
                    }
                };
                keys.extend(added.get(index).map(|row| SubjectKey::new(row.id, row.secret.clone())));
            }
        }
        if !added.is_empty() {
            match &*self.store() {
                Backing::File(store) => store.add(&added)?,
                Backing::Memory => {}
                Backing::ReadOnly => return Err(Error::NoNewKey("the vault is open read-only")),
            }
            let mut contents = self.contents_mut();
            added.into_iter().for_each(|row| contents.insert(row));
        }
        Ok(keys)
    }

    /// The key with this id; `None` when it was destroyed or was never in this vault.
    #[must_use]
    pub fn key(&self, id: SubjectKeyId) -> Option<SubjectKey> {
        self.contents().key(id)
    }

    /// Ids of the keys to destroy to erase a subject, in ascending order. For a user that is the user's own
    /// key; for an organization it is its own key and those of all its users.
    #[must_use]
    pub fn keys_of(&self, subject: &Subject) -> Vec<SubjectKeyId> {
        let contents = self.contents();
        let mut ids: Vec<_> = match subject {
            Subject::Installation => Vec::new(),
            Subject::User(..) => contents.id_of(&contents.holder(subject)).into_iter().collect(),
            Subject::Organization(id) => {
                let of_organization = contents.holders.get(&Some(id.clone()));
                of_organization.into_iter().flat_map(HashMap::values).copied().collect()
            }
        };
        ids.sort_unstable();
        ids
    }

    /// Number of keys, without withheld ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents().keys.len()
    }

    /// Whether the vault has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops giving out these keys. They stay in the file until [`destroy_withheld`](Self::destroy_withheld).
    pub(crate) fn withhold<'a>(&self, ids: impl IntoIterator<Item = &'a SubjectKeyId>) {
        let mut contents = self.contents_mut();
        for id in ids {
            if let Some(row) = contents.remove(id) {
                contents.withheld.insert(*id, row);
            }
        }
    }

    /// Undoes [`withhold`](Self::withhold).
    pub(crate) fn release(&self) {
        let mut contents = self.contents_mut();
        for (_, row) in std::mem::take(&mut contents.withheld) {
            contents.insert(row);
        }
    }

    /// Destroys the withheld keys: replaces the file by one without them, and overwrites the bytes of the old
    /// file. Returns the number of keys destroyed.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the keys may still be in the file. They stay withheld, and the call can be
    /// repeated after [`recover`](Self::recover).
    pub(crate) fn destroy_withheld(&self) -> Result<usize, Error> {
        let mut store = self.store();
        let contents = self.contents();
        let destroyed = contents.withheld.len();
        if destroyed == 0 {
            return Ok(0);
        }
        if let Backing::File(store) = &mut *store {
            let rows: Vec<Row> = contents.keys.values().cloned().collect();
            store.replace(&contents.tag_key, &rows)?;
        }
        drop(contents);
        self.contents_mut().withheld.clear();
        Ok(destroyed)
    }

    /// Reopens the file after an error, and loads what it contains.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub(crate) fn recover(&self) -> Result<(), Error> {
        let mut backing = self.store();
        if let Backing::File(store) = &mut *backing {
            let (path, kek) = store.close();
            let (reopened, stored) = Store::open(&path, &*draw()?, kek)?;
            *store = reopened;
            *self.contents_mut() = Contents::new(stored);
        } else {
            drop(backing);
            self.release();
        }
        Ok(())
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Backing> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Omits the keys.
impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

/// Random bytes for a key or a key id.
fn draw<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice())
        .map_err(|_| Error::NoNewKey("the operating system provides no randomness"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
