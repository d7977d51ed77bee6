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
use crate::stored::replay::{Difference, Replay, first_difference};
use crate::stored::store::{Error, path_of};

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
    let opened = open(directory, &projection, &reader)?;
    let (stop_sender, stop) = oneshot::channel();
    let shared = Arc::new(Shared {
        name: P::NAME,
        head: watch::Sender::new(reader.head()?),
        end: Mutex::new(None),
        live: AtomicBool::new(false),
        unpublished: AtomicU64::new(0),
        unproven: AtomicBool::new(opened.is_unproven),
        rows_wanted: Mutex::default(),
        refused: Mutex::default(),
        rebuilding: Rebuilding::default(),
        waiting: Waiting::default(),
    });
    let (position_sender, position) = watch::channel(Position::START);
    let mut runner = Runner {
        directory: directory.to_path_buf(),
        projection,
        replay: opened.replay,
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
    match opened.refused {
        Some(reason) => runner.refuse(reason),
        None => runner.publish_if_caught_up()?,
    }
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

/// Rows at the start.
struct Opened<P: Projection> {
    /// `None` when there are no usable rows, and replaying the log takes long.
    replay: Option<Replay<P>>,
    /// The rows were in a file and were not compared with the log.
    is_unproven: bool,
    /// Why the rows may not be read: they are not those of the log.
    refused: Option<String>,
}

/// Opens the existing rows if they are usable, or creates new ones if replaying the log is quick. Rows that
/// are compared with the log as quickly are compared before anybody reads them.
fn open<P: Projection>(
    directory: &Path,
    projection: &P,
    reader: &Arc<dyn LogReader>,
) -> Result<Opened<P>, Error> {
    remove_unfinished::<P>(directory)?;
    let mut is_unproven = false;
    let mut replay = match Replay::resume(directory, projection.new_instance(), Arc::clone(reader))? {
        Ok(replay) if replay.position() == Position::START || !replay.is_current() => replay,
        Ok(replay) if replay.position().get() > LAG_MAX => {
            is_unproven = true;
            replay
        }
        Ok(replay) => match differing(&replay, projection, reader)? {
            None => replay,
            Some(difference) => {
                let refused = Some(forged(&path_of(directory, P::NAME), P::NAME, &difference));
                return Ok(Opened { replay: Some(replay), is_unproven: true, refused });
            }
        },
        Err(_) if reader.head()?.get() > LAG_MAX => {
            return Ok(Opened { replay: None, is_unproven, refused: None });
        }
        Err(_) => Replay::open(directory, projection.new_instance(), Arc::clone(reader))?,
    };
    if reader.head()?.get() - replay.position().get() <= LAG_MAX
        && let Err(error) = replay.catch_up(Position::new(u64::MAX), LIVE_BATCH_LEN, |_| {})
    {
        // The thread gets the same error and decides what it means.
        tracing::warn!(projection = P::NAME, %error, "could not catch up at the start");
    }
    Ok(Opened { replay: Some(replay), is_unproven, refused: None })
}

/// Returns the first row in which a projection differs from a replay in memory up to the same position.
fn differing<P: Projection>(
    replay: &Replay<P>,
    projection: &P,
    reader: &Arc<dyn LogReader>,
) -> Result<Option<Difference>, Error> {
    let mut fresh = Replay::in_memory(projection.new_instance(), Arc::clone(reader))?;
    fresh.catch_up(replay.position(), LIVE_BATCH_LEN, |_| {})?;
    first_difference::<P>(replay.rows(), fresh.rows())
}

/// Says which file is not what the log says, and what to do.
#[must_use]
pub fn forged(file: &Path, name: &str, difference: &Difference) -> String {
    let file = file.display();
    format!(
        "{file}: {difference}: the file was altered; find out who can write to it, and rebuild it with POST \
         /v1/projections/{name}/rebuild, or with `replay-tool rebuild` while the service is stopped"
    )
}
