//! When and from where root keys and applications were last used. It is not in the log: a use is no change.
//!
//! Times are whole minutes, so that a caller that is used all the time changes little. The file is
//! MessagePack: the number of its format, and for each caller its kind, its id, the minute and the address.
//! It is replaced as a whole.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyledger_engine::storage::atomic_file;
use keyledger_engine::storage::redb_file::set_aside;
use keyledger_engine::value::id::{ApplicationId, RootKeyId};
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::usage::Address;

const FORMAT: u32 = 1;
const MINUTE_MILLIS: i64 = 60_000;

/// A caller whose use is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UsedCaller {
    /// A root key.
    RootKey(RootKeyId),
    /// An application, with its secret or with an access token.
    Application(ApplicationId),
}

/// The last use of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// The minute.
    pub at: Timestamp,
    /// Where the request came from, if known.
    pub ip: Option<IpAddr>,
}

/// The file cannot be used; one line that names it and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct Error {
    file: String,
    reason: String,
}

impl Error {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { file: path.display().to_string(), reason: reason.to_string() }
    }
}

/// The last uses of all callers.
pub struct LastUses {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_caller: HashMap<UsedCaller, LastUse>,
    is_saved: bool,
}

/// A row of the file: kind, id, minutes since 1970, address.
type Row = (u8, u128, i64, u128);

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    rows: Vec<Row>,
}

impl LastUses {
    /// Reads the file, if there is one. A damaged file is set aside.
    ///
    /// # Errors
    /// When it cannot be read, or a newer version wrote it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::of(path, [])),
            Err(error) => return Err(Error::new(path, error)),
        };
        match rmp_serde::from_slice::<Stored>(&bytes) {
            Ok(Stored { format: FORMAT, rows }) => Ok(Self::of(path, rows)),
            Ok(Stored { format, .. }) => {
                let reason = format!(
                    "its format is {format}, this version knows {FORMAT}; run the version that wrote it"
                );
                Err(Error::new(path, reason))
            }
            Err(reason) => {
                let kept = set_aside(path).map_err(|error| Error::new(path, error))?;
                tracing::error!(
                    file = %path.display(), %reason, kept = %kept.display(),
                    "the file of last uses is damaged and was set aside"
                );
                Ok(Self::of(path, []))
            }
        }
    }

    fn of(path: &Path, rows: impl IntoIterator<Item = Row>) -> Self {
        let by_caller = rows.into_iter().filter_map(|(kind, id, minute, address)| {
            let caller = match kind {
                0 => UsedCaller::RootKey(RootKeyId::from_u128(id)),
                1 => UsedCaller::Application(ApplicationId::from_u128(id)),
                _ => return None,
            };
            let at = Timestamp::from_millis(minute.saturating_mul(MINUTE_MILLIS));
            Some((caller, LastUse { at, ip: Address::from_bits(address).ip() }))
        });
        let state = State { by_caller: by_caller.collect(), is_saved: true };
        Self { path: path.to_path_buf(), state: Mutex::new(state) }
    }

    /// Remembers a use.
    pub fn record(&self, caller: UsedCaller, now: Timestamp, ip: Option<IpAddr>) {
        let minute = now.millis().div_euclid(MINUTE_MILLIS);
        let last = LastUse { at: Timestamp::from_millis(minute.saturating_mul(MINUTE_MILLIS)), ip };
        let mut state = self.state();
        if state.by_caller.insert(caller, last) != Some(last) {
            state.is_saved = false;
        }
    }

    /// The last use of a caller.
    #[must_use]
    pub fn of_caller(&self, caller: UsedCaller) -> Option<LastUse> {
        self.state().by_caller.get(&caller).copied()
    }

    /// Saves what changed since the last time. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written. The next call tries again.
    pub fn save(&self) -> Result<(), Error> {
        let rows: Vec<Row> = {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_saved, true) {
                return Ok(());
            }
            state.by_caller.iter().map(|(caller, last)| row(*caller, *last)).collect()
        };
        let saved = rmp_serde::to_vec(&Stored { format: FORMAT, rows })
            .map_err(|error| Error::new(&self.path, error))
            .and_then(|bytes| {
                let write = |file: &mut std::fs::File| file.write_all(&bytes);
                atomic_file::replace(&self.path, write).map_err(|error| Error::new(&self.path, error))
            });
        if saved.is_err() {
            self.state().is_saved = false;
        }
        saved
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row(caller: UsedCaller, last: LastUse) -> Row {
    let (kind, id) = match caller {
        UsedCaller::RootKey(id) => (0, id.to_u128()),
        UsedCaller::Application(id) => (1, id.to_u128()),
    };
    (kind, id, last.at.millis().div_euclid(MINUTE_MILLIS), Address::of(last.ip).bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT_KEY: UsedCaller = UsedCaller::RootKey(RootKeyId::from_u128(u128::MAX - 7));
    const APPLICATION: UsedCaller = UsedCaller::Application(ApplicationId::from_u128(3));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn uses_come_back_to_the_minute() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("last-use");
        let uses = LastUses::open(&path).unwrap();
        let ip = Some("2001:db8::7".parse().unwrap());
        uses.record(ROOT_KEY, at(119), ip);
        uses.record(APPLICATION, at(180), None);
        uses.save().unwrap();
        let again = LastUses::open(&path).unwrap();
        for uses in [&uses, &again] {
            assert_eq!(uses.of_caller(ROOT_KEY), Some(LastUse { at: at(60), ip }));
            assert_eq!(uses.of_caller(APPLICATION), Some(LastUse { at: at(180), ip: None }));
        }
        // Nothing is written when nothing changed.
        std::fs::remove_file(&path).unwrap();
        again.record(ROOT_KEY, at(61), ip);
        again.save().unwrap();
        assert!(!path.exists());
        again.record(ROOT_KEY, at(121), ip);
        again.save().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_newer_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("last-use");
        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(LastUses::open(&path).unwrap().of_caller(ROOT_KEY), None);
        assert!(directory.path().join("last-use.damaged").exists());
        std::fs::write(&path, rmp_serde::to_vec(&Stored { format: 2, rows: Vec::new() }).unwrap()).unwrap();
        let refused = LastUses::open(&path).err().unwrap().to_string();
        assert!(refused.contains("its format is 2") && refused.contains("last-use"), "{refused}");
    }
}
