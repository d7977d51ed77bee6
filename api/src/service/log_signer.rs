//! Signs the log's checkpoints. Each signature follows a check that the log is a continuation of the last
//! signed checkpoint, so that an older or different log in its place gets no signature.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyledger_engine::backup::signature;
use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::kek::Kek;
use keyledger_engine::kek::key_file::{self, KeyFile};
use keyledger_engine::log::merkle::Hash;
use keyledger_engine::log::{self, LogId, LogReader};
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::checkpoint_file::{CheckpointFile, SignedCheckpoint};
use keyledger_engine::transparency::note::{InvalidKey, KeyName, Note, Signer, Verifier};
use keyledger_engine::transparency::tree;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::service::Service;
use crate::service::inconsistency::Inconsistency;
use keyledger_engine::storage::data_directory::{DataDirectory, LOG_KEY};

/// A caller's request for a checkpoint gets the last one if it is younger than this.
const AGE_MIN: Duration = Duration::from_secs(1);
/// The same for a request without a credential. Each new checkpoint is written to a file and sent to the
/// witnesses, which anybody could have done as often as they ask.
const AGE_MIN_FOR_ANYBODY: Duration = Duration::from_secs(10);
/// How often a log that has grown is signed without a request.
const AGE_MAX: Duration = Duration::from_secs(60);

/// How new a checkpoint must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It covers the whole log.
    AtOnce,
    /// It is at most a second old.
    ForCaller,
    /// It is at most ten seconds old.
    ForAnybody,
}

/// The key that signs, and its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The file of the key. Default: the file in the data directory.
    pub key_file: Option<PathBuf>,
    /// The log's name, for a key that does not exist yet.
    pub origin: Option<KeyName>,
}

/// Why the key or the checkpoints cannot be read: one line that names the file and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// Why a checkpoint is not signed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// The log is not a continuation of the last signed checkpoint.
    #[error("{0}")]
    Inconsistent(String),
    /// An entry or a hash is not what its own checksum says: the disk failed.
    #[error("{0}")]
    Damaged(String),
    /// The log could not be read, or the checkpoint could not be written.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Inconsistent(reason) | Refusal::Damaged(reason) => {
                Self::new(Code::LogInconsistent, reason.as_str())
            }
            Refusal::Unavailable(_) => Self::internal(&refusal),
        }
    }
}

/// Signs checkpoints and keeps the last one.
pub(crate) struct LogSigner {
    signer: Signer,
    checkpoints: PathBuf,
    inconsistency: Arc<Inconsistency>,
    state: Mutex<State>,
}

struct State {
    file: CheckpointFile,
    last: Option<(Arc<str>, Checkpoint)>,
    signed: Instant,
    refusal: Option<Refusal>,
    /// Set when a witness has seen a different log under this log's name. Nothing is signed then.
    contradiction: Option<Refusal>,
}

impl LogSigner {
    /// Reads the key of a data directory, or creates it, and finds the last signed checkpoint.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the key did not sign the last checkpoint.
    pub(crate) fn open(
        data: &DataDirectory,
        options: &Options,
        kek: Option<Arc<Kek>>,
        log_id: LogId,
        inconsistency: Arc<Inconsistency>,
    ) -> Result<Self, Error> {
        let key_file = key_file_of(data, options, kek);
        let (signer, is_new) = open_key(&key_file, options, log_id)?;
        let path = data.checkpoints();
        let shown = path.display();
        let (file, last) = CheckpointFile::open(&path)
            .map_err(|error| Error(format!("{shown}: {error}; restore a copy of the file, or a backup")))?;
        let last = last.map(|last| {
            let checkpoint = Checkpoint::open(&last.checkpoint, signer.verifier()).map_err(|error| {
                Error(format!(
                    "{shown}: this key did not sign the last checkpoint: {error}; restore the key that \
                     signed it"
                ))
            })?;
            Ok((last.checkpoint.into(), checkpoint))
        });
        let last = last.transpose()?;
        // Written last: a start that fails leaves no new key behind.
        if is_new {
            let mut text = Zeroizing::new(signer.expose().as_bytes().to_vec());
            text.push(b'\n');
            key_file.write(&text).map_err(|error| {
                Error(format!("{}: {error}; check its directory and the disk", key_file.path().display()))
            })?;
        }
        write_verifier(&data.log_verifier(), signer.verifier())?;
        let state = State { file, last, signed: Instant::now(), refusal: None, contradiction: None };
        Ok(Self { signer, checkpoints: path, inconsistency, state: Mutex::new(state) })
    }

    /// Compares the log with the last signed checkpoint, before anything is answered from the log. A log that
    /// does not continue from there is reported as inconsistent. Blocks.
    pub(crate) fn compare(&self, log: &dyn LogReader) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, last)) = &state.last else { return };
        let compared = log
            .head()
            .map_err(|error| Refusal::Unavailable(error.to_string()))
            .and_then(|head| check_consistency(log, head.get(), last).map(|()| head.get() - last.size));
        match compared {
            Ok(0) => {}
            Ok(unsigned) => {
                tracing::info!(
                    unsigned,
                    signed = last.size,
                    "the log has events after its last signed checkpoint, as a service leaves it that was killed"
                );
            }
            Err(refusal) => {
                self.report(&refusal);
                state.refusal = Some(refusal);
            }
        }
    }

    fn report(&self, refusal: &Refusal) {
        if let Refusal::Inconsistent(reason) = refusal {
            self.inconsistency.report(reason);
        }
    }

    /// Checks that the key exists if the data directory has signed checkpoints.
    ///
    /// # Errors
    /// When the key is missing.
    pub(crate) fn require_key(data: &DataDirectory, options: &Options) -> Result<(), Error> {
        let (key, checkpoints) = (data.log_key(), data.checkpoints());
        let signed = fs::metadata(&checkpoints).is_ok_and(|file| file.len() > 0);
        if options.key_file.is_some() || !signed || key.exists() {
            return Ok(());
        }
        Err(Error(format!(
            "{}: missing, but {} has checkpoints that it signed; restore the key, or name its file with \
             --log-key-file",
            key.display(),
            checkpoints.display()
        )))
    }

    /// The public key that verifies the signatures.
    #[must_use]
    pub(crate) const fn verifier(&self) -> &Verifier {
        self.signer.verifier()
    }

    /// Signs the SHA-256 of a backup.
    #[must_use]
    pub(crate) fn sign_backup(&self, hash: &Hash) -> String {
        signature::sign(hash, &self.signer)
    }

    /// Derives a key for codes over files that only this service may have written.
    #[must_use]
    pub(crate) fn mac_key(&self, purpose: &str) -> MacKey {
        self.signer.mac_key(purpose)
    }

    /// The file of signed checkpoints.
    #[must_use]
    pub(crate) fn checkpoints(&self) -> &Path {
        &self.checkpoints
    }

    /// Why the last attempt to sign failed, if it did.
    #[must_use]
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refusal.clone()
    }

    /// Returns the newest checkpoint. Signs a new one if the log has grown and the last one is not fresh
    /// enough. Blocks.
    ///
    /// # Errors
    /// When nothing may be signed.
    pub(crate) fn checkpoint(
        &self,
        log: &dyn LogReader,
        now: Timestamp,
        freshness: Freshness,
    ) -> Result<(Arc<str>, Checkpoint), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match freshness {
            Freshness::AtOnce => false,
            Freshness::ForCaller => state.signed.elapsed() < AGE_MIN,
            Freshness::ForAnybody => state.signed.elapsed() < AGE_MIN_FOR_ANYBODY,
        };
        if let (Some(last), true, None) = (&state.last, fresh, &state.refusal) {
            return Ok(last.clone());
        }
        let signed = self.sign(&mut state, log, now);
        if let Err(refusal) = &signed {
            tracing::error!(%refusal, "could not sign a checkpoint");
            self.report(refusal);
        }
        state.refusal = signed.as_ref().err().cloned();
        signed
    }

    /// The last signed checkpoint, as a note and parsed.
    #[must_use]
    pub(crate) fn last(&self) -> Option<(Arc<str>, Checkpoint)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// Stores a checkpoint with the cosignatures of witnesses, if it is still the newest. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written. The checkpoint then stays without the new cosignatures.
    pub(crate) fn add_cosignatures(
        &self,
        checkpoint: &Checkpoint,
        note: &Note,
        now: Timestamp,
    ) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.as_ref().is_none_or(|(_, last)| last != checkpoint) {
            return Ok(());
        }
        let note = note.to_string();
        state.file.append(&SignedCheckpoint { time: now, checkpoint: note.clone() })?;
        state.last = Some((note.into(), checkpoint.clone()));
        Ok(())
    }

    /// Why nothing is signed, if a witness has seen a different log under this log's name.
    #[must_use]
    pub(crate) fn contradiction(&self) -> Option<Refusal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).contradiction.clone()
    }

    /// Stops signing for good, because a witness has seen a different log under this log's name.
    pub(crate) fn stop_signing(&self, reason: String) -> Refusal {
        tracing::error!(%reason, "stopped signing checkpoints");
        let refusal = Refusal::Inconsistent(reason);
        self.report(&refusal);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refusal = Some(refusal.clone());
        state.contradiction = Some(refusal.clone());
        refusal
    }

    fn sign(
        &self,
        state: &mut State,
        log: &dyn LogReader,
        now: Timestamp,
    ) -> Result<(Arc<str>, Checkpoint), Refusal> {
        let unavailable = |error: &dyn std::fmt::Display| Refusal::Unavailable(error.to_string());
        if let Some(refusal) = &state.contradiction {
            return Err(refusal.clone());
        }
        if let Some(reason) = self.inconsistency.reason() {
            return Err(Refusal::Inconsistent(reason.to_owned()));
        }
        let frontier = log.frontier().map_err(|error| unavailable(&error))?;
        if let Some((note, last)) = &state.last {
            check_consistency(log, frontier.size(), last)?;
            if last.size == frontier.size() {
                return Ok((Arc::clone(note), last.clone()));
            }
        }
        let origin = self.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
        let note = checkpoint.sign(&self.signer);
        // Written before it is published: a checkpoint must not be forgotten after a client has seen it.
        let signed = SignedCheckpoint { time: now, checkpoint: note.clone() };
        state.file.append(&signed).map_err(|error| unavailable(&format!("checkpoint file: {error}")))?;
        state.signed = Instant::now();
        let last = (Arc::from(note), checkpoint);
        state.last = Some(last.clone());
        Ok(last)
    }
}

/// Checks that the log, of `size` events, is a continuation of the last signed checkpoint.
fn check_consistency(log: &dyn LogReader, size: u64, last: &Checkpoint) -> Result<(), Refusal> {
    if size < last.size {
        return Err(Refusal::Inconsistent(format!(
            "the log ends at position {size}, but a checkpoint was signed at position {}: this is an older \
             copy of the log; restore the newest backup, and keep this copy for investigation",
            last.size
        )));
    }
    let root = tree::root(log, last.size).map_err(|error| match error {
        log::Error::Damaged { .. } => Refusal::Damaged(error.to_string()),
        _ => Refusal::Unavailable(error.to_string()),
    })?;
    if root != last.root {
        return Err(Refusal::Inconsistent(format!(
            "the events up to position {} differ from those of the last signed checkpoint: the log was \
             changed; run `replay-tool verify`, and restore a backup",
            Position::new(last.size)
        )));
    }
    Ok(())
}

/// The key's file: the one in the data directory, or one that the operator keeps elsewhere.
fn key_file_of(data: &DataDirectory, options: &Options, kek: Option<Arc<Kek>>) -> KeyFile {
    match &options.key_file {
        Some(path) => KeyFile::new(path.clone(), LOG_KEY, kek).or_in_clear(),
        None => KeyFile::new(data.log_key(), LOG_KEY, kek),
    }
}

/// Returns the key, and whether it is new and not written yet.
fn open_key(file: &KeyFile, options: &Options, log_id: LogId) -> Result<(Signer, bool), Error> {
    let shown = file.path().display();
    let wrong = |error: &dyn std::fmt::Display, help: &str| Error(format!("{shown}: {error}; {help}"));
    let (signer, is_new) = match file.read() {
        Ok(text) => {
            let text = std::str::from_utf8(&text).unwrap_or_default();
            let signer = Signer::parse(text).map_err(|error: InvalidKey| {
                wrong(&error, "restore the log's key, a line that begins with PRIVATE+KEY+")
            })?;
            (signer, false)
        }
        Err(key_file::Error::Missing) if options.key_file.is_none() => {
            let name = options.origin.clone().map_or_else(|| default_name(log_id), Ok)?;
            let signer = Signer::generate(name, &mut SysRng)
                .map_err(|error| Error(format!("the operating system returned no random bytes: {error}")))?;
            (signer, true)
        }
        Err(error) => return Err(Error(format!("{shown}: {error}"))),
    };
    match &options.origin {
        Some(origin) if origin.as_str() != signer.verifier().name() => {
            let name = signer.verifier().name();
            Err(wrong(&format!("the key is for the log {name}"), "omit --log-origin, or name that log"))
        }
        _ => Ok((signer, is_new)),
    }
}

/// The default name of a log contains its id.
fn default_name(log_id: LogId) -> Result<KeyName, Error> {
    let id: String = log_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("keyledger/{id}").parse().map_err(|error| Error(format!("the log's name: {error}")))
}

/// Writes the public key beside the log, for offline verification.
fn write_verifier(path: &Path, verifier: &Verifier) -> Result<(), Error> {
    let text = format!("{verifier}\n");
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| {
        Error(format!("{}: {error}; check its directory, permissions and the disk", path.display()))
    })
}

/// Signs and cosigns checkpoints without requests: at the start, every [`AGE_MAX`], and when the service
/// stops.
pub(crate) async fn run(service: Arc<Service>) {
    // An error is in the service's log and in /readyz.
    let _ = service.checkpoint(Freshness::AtOnce).await;
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(AGE_MAX) => false,
            () = service.stopped() => true,
        };
        let _ = service.checkpoint(Freshness::AtOnce).await;
        if stopped {
            return;
        }
    }
}
