//! Signs the log's checkpoints. Before each signature the log is shown to begin with what was signed last: whoever puts
//! an older or another log in its place gets no signature for it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
use crate::service::data_directory::DataDirectory;

/// A log that has grown is signed again when somebody asks, but not more often than this.
const AGE_MIN: Duration = Duration::from_secs(1);
/// A log that has grown is signed again after this long though nobody asks.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Which key signs, under which name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The file of the key, if it is not the one in the data directory.
    pub key_file: Option<PathBuf>,
    /// The log's name, for a key that is yet to be made.
    pub origin: Option<KeyName>,
}

/// Why the key or the checkpoints cannot be had; one line that names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// Why nothing is signed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// The log is not a continuation of what was signed.
    #[error("{0}")]
    Inconsistent(String),
    /// The log could not be read, or the checkpoint not be written.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Inconsistent(reason) => Self::new(Code::LogInconsistent, reason.as_str()),
            Refusal::Unavailable(_) => Self::internal(&refusal),
        }
    }
}

/// Holds the key.
pub(crate) struct LogSigner {
    signer: Signer,
    checkpoints: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: CheckpointFile,
    last: Option<(Arc<str>, Checkpoint)>,
    signed: Instant,
    refusal: Option<Refusal>,
    /// What a witness has seen that this log is not.
    contradiction: Option<Refusal>,
}

impl LogSigner {
    /// Takes the key of a data directory, or makes it, and looks up what was signed last.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub(crate) fn open(data: &DataDirectory, options: &Options, log_id: LogId) -> Result<Self, Error> {
        let (signer, is_new) = open_key(data, options, log_id)?;
        let path = data.checkpoints();
        let shown = path.display();
        let (file, last) = CheckpointFile::open(&path).map_err(|error| {
            Error(format!("{shown}: {error}; restore the copy that was shipped elsewhere, or the backup's"))
        })?;
        let last = last.map(|last| {
            let checkpoint = Checkpoint::open(&last.checkpoint, signer.verifier()).map_err(|error| {
                Error(format!(
                    "{shown}: the last checkpoint is not this key's: {error}; bring back the key that signed it"
                ))
            })?;
            Ok((last.checkpoint.into(), checkpoint))
        });
        let last = last.transpose()?;
        // A start that is refused leaves the keys as they are.
        if is_new {
            let path = data.log_key();
            write_key(&path, &signer).map_err(|error| {
                Error(format!("{}: {error}; check its directory and the disk", path.display()))
            })?;
        }
        write_verifier(&data.log_verifier(), signer.verifier())?;
        let state = State { file, last, signed: Instant::now(), refusal: None, contradiction: None };
        Ok(Self { signer, checkpoints: path, state: Mutex::new(state) })
    }

    /// Makes sure that the key is there which signed what was signed in a data directory, if anything was.
    ///
    /// # Errors
    /// When it has gone.
    pub(crate) fn require_key(data: &DataDirectory, options: &Options) -> Result<(), Error> {
        let (key, checkpoints) = (data.log_key(), data.checkpoints());
        let signed = fs::metadata(&checkpoints).is_ok_and(|file| file.len() > 0);
        if options.key_file.is_some() || !signed || key.exists() {
            return Ok(());
        }
        Err(Error(format!(
            "{}: missing, though {} has what it signed; bring it back from where it is kept, or name it with --log-key-file",
            key.display(),
            checkpoints.display()
        )))
    }

    /// The key that checks the signatures.
    #[must_use]
    pub(crate) const fn verifier(&self) -> &Verifier {
        self.signer.verifier()
    }

    /// The file of the checkpoints that were signed.
    #[must_use]
    pub(crate) fn checkpoints(&self) -> &Path {
        &self.checkpoints
    }

    /// Why the last attempt to sign was refused, if it was.
    #[must_use]
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refusal.clone()
    }

    /// The newest checkpoint; a new one if the log has grown and the last is a second old, or `at_once`. Blocks.
    ///
    /// # Errors
    /// When there is none that may be shown.
    pub(crate) fn checkpoint(
        &self,
        log: &dyn LogReader,
        now: Timestamp,
        at_once: bool,
    ) -> Result<(Arc<str>, Checkpoint), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = state.signed.elapsed() < AGE_MIN && !at_once;
        if let (Some(last), true, None) = (&state.last, fresh, &state.refusal) {
            return Ok(last.clone());
        }
        let signed = self.sign(&mut state, log, now);
        if let Err(refusal) = &signed {
            tracing::error!(%refusal, "no checkpoint was signed");
        }
        state.refusal = signed.as_ref().err().cloned();
        signed
    }

    /// What was signed last.
    #[must_use]
    pub(crate) fn last(&self) -> Option<(Arc<str>, Checkpoint)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// Takes in what witnesses have added to a checkpoint: it is shown with their cosignatures from now on, if it still is
    /// the newest. Blocks.
    ///
    /// # Errors
    /// When it could not be written to the file; then it is shown as before.
    pub(crate) fn cosigned(&self, checkpoint: &Checkpoint, note: &Note, now: Timestamp) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.as_ref().is_none_or(|(_, last)| last != checkpoint) {
            return Ok(());
        }
        let note = note.to_string();
        state.file.append(&SignedCheckpoint { time: now, checkpoint: note.clone() })?;
        state.last = Some((note.into(), checkpoint.clone()));
        Ok(())
    }

    /// Why nothing is signed any more, if a witness has seen another log under this one's name.
    #[must_use]
    pub(crate) fn contradiction(&self) -> Option<Refusal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).contradiction.clone()
    }

    /// Has nothing signed any more, as a witness has seen another log under this one's name.
    pub(crate) fn contradicted(&self, reason: String) -> Refusal {
        tracing::error!(%reason, "no checkpoint is signed any more");
        let refusal = Refusal::Inconsistent(reason);
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
        // Nobody sees a checkpoint that could be forgotten.
        let signed = SignedCheckpoint { time: now, checkpoint: note.clone() };
        state.file.append(&signed).map_err(|error| unavailable(&format!("the checkpoint file: {error}")))?;
        state.signed = Instant::now();
        let last = (Arc::from(note), checkpoint);
        state.last = Some(last.clone());
        Ok(last)
    }
}

/// Shows that the log, of `size`, begins with what was signed last.
fn check_consistency(log: &dyn LogReader, size: u64, last: &Checkpoint) -> Result<(), Refusal> {
    if size < last.size {
        return Err(Refusal::Inconsistent(format!(
            "the log ends at position {size}, but a checkpoint up to position {} was signed: this is an older copy of \
             it; restore the newest backup, and keep this one for whoever looks into it",
            last.size
        )));
    }
    let root = tree::root(log, last.size).map_err(|error| match error {
        log::Error::Damaged { .. } => Refusal::Inconsistent(error.to_string()),
        _ => Refusal::Unavailable(error.to_string()),
    })?;
    if root != last.root {
        return Err(Refusal::Inconsistent(format!(
            "the events up to position {} are not those that the last checkpoint was signed for: the log was changed; \
             run `replay-tool verify`, and restore a backup",
            Position::new(last.size)
        )));
    }
    Ok(())
}

/// The key, and whether it was made just now and stands nowhere yet.
fn open_key(data: &DataDirectory, options: &Options, log_id: LogId) -> Result<(Signer, bool), Error> {
    let own = data.log_key();
    let path = options.key_file.as_ref().unwrap_or(&own);
    let shown = path.display();
    let wrong = |error: &dyn std::fmt::Display, help: &str| Error(format!("{shown}: {error}; {help}"));
    let (signer, is_new) = match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => {
            let signer = Signer::parse(&text).map_err(|error: InvalidKey| {
                wrong(&error, "bring back the log's key, a line that begins with PRIVATE+KEY+")
            })?;
            (signer, false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.key_file.is_none() => {
            let name = options.origin.clone().map_or_else(|| default_name(log_id), Ok)?;
            let signer = Signer::generate(name, &mut SysRng)
                .map_err(|error| Error(format!("the operating system gives no randomness: {error}")))?;
            (signer, true)
        }
        Err(error) => return Err(wrong(&error, "check the file, its owner and permissions")),
    };
    match &options.origin {
        Some(origin) if origin.as_str() != signer.verifier().name() => {
            let name = signer.verifier().name();
            Err(wrong(&format!("the key is for the log {name}"), "leave --log-origin out, or name that"))
        }
        _ => Ok((signer, is_new)),
    }
}

/// A log that nobody named is named after its own id.
fn default_name(log_id: LogId) -> Result<KeyName, Error> {
    let id: String = log_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("keyledger/{id}").parse().map_err(|error| Error(format!("the log's name: {error}")))
}

/// It has its name only when it is whole and on the disk.
fn write_key(path: &Path, signer: &Signer) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(signer.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// For whoever has the files alone.
fn write_verifier(path: &Path, verifier: &Verifier) -> Result<(), Error> {
    let text = format!("{verifier}\n");
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| {
        Error(format!("{}: {error}; check its directory, permissions and the disk", path.display()))
    })
}

/// Signs what nobody asks for, and has it cosigned: at the start, now and then, and when the service stops.
pub(crate) async fn run(service: Arc<Service>) {
    // A refusal is noted in the service's log and shows in /readyz; there is nobody else to tell.
    let _ = service.checkpoint(true).await;
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(AGE_MAX) => false,
            () = service.stopped() => true,
        };
        let _ = service.checkpoint(true).await;
        if stopped {
            return;
        }
    }
}
