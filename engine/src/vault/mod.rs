//! The vault: the keys that seal the personal parts of records, one for each [`Subject`]. Stored bytes never change, so
//! text is erased by destroying the key that it is sealed with: what the log holds stays what it was, hashes and proofs
//! included, and nobody can read it any more.
//!
//! * [`Subject`]: whose text it is. [`SubjectKeyId`]: the name of the key, which stands beside what it sealed.
//! * [`SubjectKey`]: seals and opens.
//! * `store`: the file. All keys are in memory as well, so that reading a record never waits for it.
//!
//! The log works the vault ([`crate::log`], promise 10): a new subject's key is durable before the commit that uses it, and
//! the keys that a `PersonalDataErased` names are gone when its command is answered.

mod seal;
mod store;
mod subject_key_map;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

pub use crate::value::subject::{Subject, SubjectKeyId};
pub use seal::{OVERHEAD, OpenError, SealError, SubjectKey, split};

use seal::{SECRET_LEN, Secret};
use store::{Holder, Row, Store, Stored, UserTag};
use subject_key_map::SubjectKeyMap;

use crate::value::id::OrganizationId;

/// The vault's file in a data directory.
pub const FILE_NAME: &str = "vault.redb";

/// Subjects whose keys are found without a tag.
const LATELY_LEN_MAX: usize = 8_192;

/// What goes wrong with a vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened, or is not what it should be; the text names it and says what to do.
    #[error("{0}")]
    Open(String),
    /// The file cannot be written.
    #[error("{0}")]
    Unavailable(String),
    /// The operating system gives no randomness, or the vault is open for reading alone.
    #[error("no new key can be made: {0}")]
    NoNewKey(&'static str),
}

/// Names one vault among all there are, as long as it is that vault, whichever keys it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultId(pub [u8; 16]);

/// The keys, in memory and in their file.
pub struct Vault {
    contents: RwLock<Contents>,
    store: Mutex<Backing>,
}

enum Backing {
    File(Store),
    /// The keys end with the process.
    Memory,
    /// Nothing can be added.
    ReadOnly,
}

struct Contents {
    tag_key: Zeroizing<[u8; SECRET_LEN]>,
    user_tags: hmac::Key,
    holders: HashMap<Option<OrganizationId>, HashMap<Option<UserTag>, SubjectKeyId>>,
    keys: SubjectKeyMap<Row>,
    /// Subjects that keys were asked for lately, as a tag takes long to make. As many as may be, then none again.
    lately: Mutex<HashMap<Subject, SubjectKeyId>>,
    /// Keys that nobody is given any more, and that are in the file still.
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
            lately: Mutex::default(),
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
        self.lately.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
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

    /// The key of a subject that was asked for lately.
    fn key_asked_for(&self, subject: &Subject) -> Option<SubjectKey> {
        let id = self.lately.lock().unwrap_or_else(PoisonError::into_inner).get(subject).copied();
        self.key(id?)
    }

    /// Notes that the key of a subject was asked for.
    fn note(&self, subject: &Subject, id: SubjectKeyId) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= LATELY_LEN_MAX {
            lately.clear();
        }
        lately.insert(subject.clone(), id);
    }

    fn key(&self, id: SubjectKeyId) -> Option<SubjectKey> {
        self.keys.get(&id).map(|row| SubjectKey::new(id, row.secret.clone()))
    }
}

impl Vault {
    /// A vault whose keys end with the process, for logs in memory.
    ///
    /// # Errors
    /// [`Error::NoNewKey`] when there is no randomness.
    pub fn in_memory() -> Result<Self, Error> {
        let stored = Stored { tag_key: draw()?, rows: Vec::new() };
        Ok(Self::with(stored, Backing::Memory))
    }

    /// A vault without keys: whatever was sealed reads as erased.
    #[must_use]
    pub fn empty() -> Self {
        let stored = Stored { tag_key: Zeroizing::new([0; SECRET_LEN]), rows: Vec::new() };
        Self::with(stored, Backing::ReadOnly)
    }

    /// Opens the vault in the file at `path`; makes it, readable by its owner alone, if it is not there.
    ///
    /// # Errors
    /// [`Error::Open`], one line for whoever runs the service; [`Error::NoNewKey`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (store, stored) = Store::open(path, &*draw()?)?;
        Ok(Self::with(stored, Backing::File(store)))
    }

    /// Reads a vault that no process has open for writing; one that is not there has no keys. The file is not written to.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(Self::empty());
        }
        Ok(Self::with(Store::read_only(path)?, Backing::ReadOnly))
    }

    fn with(stored: Stored, backing: Backing) -> Self {
        Self { contents: RwLock::new(Contents::new(stored)), store: Mutex::new(backing) }
    }

    /// Which vault this is. All that have no keys because there is no file are one.
    #[must_use]
    pub fn id(&self) -> VaultId {
        // No user has an id with a control character.
        let tag = hmac::sign(&self.contents().user_tags, b"\0the vault");
        let mut id = [0; 16];
        id.iter_mut().zip(tag.as_ref()).for_each(|(byte, value)| *byte = *value);
        VaultId(id)
    }

    /// The keys of subjects, in their order. Those that have none yet get one, and it is durable when this returns; for
    /// all of them that takes one commit, and for none no commit.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::NoNewKey`]; keys that were drawn are not used then.
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
                if let Some(key) = contents.key_asked_for(subject) {
                    keys.push(key);
                    continue;
                }
                let holder = contents.holder(subject);
                if let Some(key) = contents.id_of(&holder).and_then(|id| contents.key(id)) {
                    contents.note(subject, key.id());
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
                Backing::ReadOnly => return Err(Error::NoNewKey("the vault is open for reading alone")),
            }
            let mut contents = self.contents_mut();
            added.into_iter().for_each(|row| contents.insert(row));
        }
        Ok(keys)
    }

    /// The key with this id; none when it was destroyed, or was never in this vault.
    #[must_use]
    pub fn key(&self, id: SubjectKeyId) -> Option<SubjectKey> {
        self.contents().key(id)
    }

    /// The ids of the keys to destroy so that a subject is erased: a user's own; an organization's own and those of all its
    /// users. In ascending order.
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

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents().keys.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives nobody these keys any more, from now on. They are in the file until [`destroy_withheld`](Self::destroy_withheld).
    pub(crate) fn withhold<'a>(&self, ids: impl IntoIterator<Item = &'a SubjectKeyId>) {
        let mut contents = self.contents_mut();
        for id in ids {
            if let Some(row) = contents.remove(id) {
                contents.withheld.insert(*id, row);
            }
        }
    }

    /// Takes [`withhold`](Self::withhold) back.
    pub(crate) fn release(&self) {
        let mut contents = self.contents_mut();
        for (_, row) in std::mem::take(&mut contents.withheld) {
            contents.insert(row);
        }
    }

    /// Destroys what was withheld: the file is written anew without it, and the old one's bytes are overwritten. Says how
    /// many keys went.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the keys may or may not be in the file still. They stay withheld, and this can be repeated
    /// once the vault was opened again.
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

    /// Opens the file again after an error, and goes by what it holds.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub(crate) fn recover(&self) -> Result<(), Error> {
        let mut backing = self.store();
        if let Backing::File(store) = &mut *backing {
            let path = store.close();
            let (reopened, stored) = Store::open(&path, &*draw()?)?;
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

/// Says nothing of the keys.
impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

/// Random bytes for a key, or for the name of one.
fn draw<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice())
        .map_err(|_| Error::NoNewKey("the operating system gives no randomness"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
