//! Keeps stored projections caught up with the log, each on its own thread, so that a slow or stopped
//! projection does not delay the others.
//!
//! Readers see a projection once it has caught up with the log, and from then on always. A rebuild runs on
//! another thread, in a file beside the current one ([`rebuild`](crate::stored::rebuild)), while readers keep
//! using the current rows. Once it has caught up, it replaces them; the position that readers see never
//! decreases. A rebuild runs when a caller requests it ([`ProjectionHandle::rebuild`]); at the
//! start, when the file is missing, has another version or does not fit the log; when the file turns out to
//! be damaged; and, repeatedly until it succeeds, after the file could not be read or written.
//!
//! Records are applied as they arrive. Under a high write rate the runner waits briefly between two commits,
//! because a few large commits cost much less than many small ones. A reader that waits for a position
//! ([`ProjectionHandle::reach`]) ends that wait.

mod handle;
mod rebuilding;
mod retry;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use keyledger_engine::log::LogReader;
use keyledger_engine::storage::background;
use keyledger_engine::storage::storage_panic::panic_text;
use keyledger_engine::value::position::Position;
use tokio::sync::{oneshot, watch};

pub use self::handle::{ProjectionHandle, RebuildFailed, RebuildOutcome, RebuildProgress, Status};

use self::handle::{Rebuilding, Shared, Waiting};
use self::worker::Runner;
use crate::stored::projection::Projection;
use crate::stored::rebuild::remove_unfinished;
use crate::stored::replay::Replay;
use crate::stored::store::Error;

/// Maximum number of records per commit near the head, so that readers see them soon.
const LIVE_BATCH_LEN: usize = 2_048;
/// A commit of at least this many records is followed by a pause in which records accumulate.
const FEW_RECORDS: usize = 16;
/// Minimum time between the starts of two commits, per record of the first one, up to
/// [`COMMIT_INTERVAL_MAX`]. The interval grows as long as records arrive faster than this.
const COMMIT_INTERVAL_PER_RECORD: Duration = Duration::from_micros(250);
/// Maximum time between the starts of two commits while records are waiting.
pub const COMMIT_INTERVAL_MAX: Duration = Duration::from_millis(50);
/// A projection further behind than this uses large batches and reports that it is catching up.
const LAG_MAX: u64 = 8_192;
/// Applied records become durable after this many records or this long. Losing them only costs the time to
/// apply them again.
const SAVE_AFTER_RECORDS: u64 = 32_768;
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How often the log is polled when there is no head watcher.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Pause before a log that could not be read is read again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Thread of a running projection. Dropping it ends the thread without saving, which only costs the time to
/// apply the last records again.
pub struct RunnerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: thread::JoinHandle<()>,
}

impl RunnerThread {
    /// Saves what was applied, ends the thread and closes the file. Blocks.
    pub fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself; its status says why.
            let _ = stop.send(());
        }
        let _ = self.thread.join();
    }
}

/// Opens the projection's file in `directory` and starts a thread that keeps it caught up with the log of
/// `reader`. `head` signals new records; without it the log is polled.
///
/// # Errors
/// When the file cannot be opened or created, the log cannot be read, or no thread can be started.
pub fn start<P: Projection>(
    directory: &Path,
    projection: P,
    reader: Arc<dyn LogReader>,
    head: Option<watch::Receiver<Position>>,
) -> Result<(ProjectionHandle, RunnerThread), Error> {
    let unavailable = |what: &str, error: std::io::Error| Error::Unavailable {
        file: P::NAME.into(),
        reason: format!("could not create a {what}: {error}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| unavailable("timer", error))?;
    let replay = open(directory, &projection, &reader)?;
    let (stop_sender, stop) = oneshot::channel();
    let shared = Arc::new(Shared {
        name: P::NAME,
        head: watch::Sender::new(reader.head()?),
        end: Mutex::new(None),
        live: AtomicBool::new(false),
        unpublished: AtomicU64::new(0),
        rebuilding: Rebuilding::default(),
        waiting: Waiting::default(),
    });
    let (position_sender, position) = watch::channel(Position::START);
    let mut runner = Runner {
        directory: directory.to_path_buf(),
        projection,
        replay,
        reader,
        head_changes: head,
        position: position_sender,
        shared: Arc::clone(&shared),
        runtime,
        stop,
        build: None,
        retry: None,
        unsaved_since: None,
    };
    runner.publish_if_caught_up()?;
    let run = move || {
        runner.begin_if_outdated();
        loop {
            match catch_unwind(AssertUnwindSafe(|| runner.run())) {
                Ok(end) => return runner.stop(end),
                Err(panic) => {
                    let reason = format!("it panicked: {}", panic_text(&*panic));
                    runner.halt(Status::Failed { position: runner.reached(), reason });
                }
            }
        }
    };
    let thread = background::spawn(P::NAME, run).map_err(|error| unavailable("thread", error))?;
    Ok((ProjectionHandle { shared, position }, RunnerThread { stop: Some(stop_sender), thread }))
}

/// Opens the existing rows if they are usable, or creates new ones if replaying the log is quick.
fn open<P: Projection>(
    directory: &Path,
    projection: &P,
    reader: &Arc<dyn LogReader>,
) -> Result<Option<Replay<P>>, Error> {
    remove_unfinished::<P>(directory)?;
    let mut replay = match Replay::resume(directory, projection.new_instance(), Arc::clone(reader))? {
        Ok(replay) => replay,
        Err(_) if reader.head()?.get() > LAG_MAX => return Ok(None),
        Err(_) => Replay::open(directory, projection.new_instance(), Arc::clone(reader))?,
    };
    if reader.head()?.get() - replay.position().get() <= LAG_MAX
        && let Err(error) = replay.catch_up(Position::new(u64::MAX), LIVE_BATCH_LEN, |_| {})
    {
        // The thread gets the same error and decides what it means.
        tracing::warn!(projection = P::NAME, %error, "could not catch up at the start");
    }
    Ok(Some(replay))
}
