//! Makes a projection's file anew beside the present one, and puts it in its place when it is complete. Whatever ends the
//! process in between, the present file is whole, or the new one is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use keyledger_engine::log::LogReader;
use keyledger_engine::position::Position;

use crate::projection::Projection;
use crate::replay::{BULK_BATCH_LEN, Replay, make_directory};
use crate::store::{Error, Snapshot, Store, path_of, unfinished_path_of};

/// A projection that is being made anew.
pub(crate) struct Rebuild<P: Projection> {
    replay: Replay<P>,
    directory: PathBuf,
}

impl<P: Projection> Rebuild<P> {
    /// Begins with nothing; what an earlier attempt left is removed. The work ends early with [`Error::Interrupted`] when
    /// `interrupted` says so.
    pub(crate) fn begin(
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        make_directory(directory)?;
        remove_unfinished::<P>(directory)?;
        let mut replay = Replay::create(&unfinished_path_of(directory, P::NAME), projection, reader)?;
        replay.interrupt_by(interrupted);
        Ok(Self { replay, directory: directory.to_path_buf() })
    }

    /// Takes in the log up to its head as it is now.
    pub(crate) fn catch_up(&mut self, progress: impl FnMut(Position)) -> Result<Position, Error> {
        self.replay.catch_up(Position::new(u64::MAX), BULK_BATCH_LEN, progress)
    }

    /// Puts the new file in the place of the present one, which is gone then.
    pub(crate) fn swap_in(mut self) -> Result<Replay<P>, Error> {
        self.replay.interrupt_by(Arc::default());
        self.replay.save()?;
        let path = path_of(&self.directory, P::NAME);
        let swapped = fs::rename(unfinished_path_of(&self.directory, P::NAME), &path)
            .and_then(|()| File::open(&self.directory)?.sync_all());
        swapped.map_err(|error| Error::Unavailable {
            file: path.display().to_string(),
            reason: format!("the new one cannot take its place: {error}"),
        })?;
        Ok(self.replay)
    }
}

/// Removes what is left of a projection that was not finished.
pub(crate) fn remove_unfinished<P: Projection>(directory: &Path) -> Result<(), Error> {
    Store::delete(&unfinished_path_of(directory, P::NAME))
}

/// Makes the projection's file in `directory` anew from the whole log and puts it in the place of the present one, which
/// stays as it is until then. Nothing else may have the file open.
///
/// # Errors
/// As [`Replay::catch_up`]; the present file is untouched then.
pub fn rebuild<P: Projection>(
    directory: &Path,
    projection: P,
    reader: Arc<dyn LogReader>,
    progress: impl FnMut(Position),
) -> Result<Position, Error> {
    let path = path_of(directory, P::NAME);
    if path.exists() {
        // Tells whether somebody works with it.
        if let Err(error @ Error::InUse { .. }) = Snapshot::open(&path) {
            return Err(error);
        }
    }
    let mut rebuild = Rebuild::begin(directory, projection, reader, Arc::default())?;
    match rebuild.catch_up(progress) {
        Ok(_) => Ok(rebuild.swap_in()?.position()),
        Err(error) => {
            drop(rebuild);
            remove_unfinished::<P>(directory)?;
            Err(error)
        }
    }
}
