//! Keeps stored projections caught up with the log, each on a thread of its own, so that one that is slow or stops does
//! not hold up the others.
//!
//! Readers see a projection once it has caught up with what was in the log when it was started, and from then on always. It
//! is made anew on another thread, in a file beside its own ([`rebuild`](crate::stored::rebuild)), while readers go on with the
//! rows that are there; when it has caught up it takes their place, never at an earlier position than they were. That is
//! done when somebody asks ([`ProjectionHandle::rebuild`]), when the file at the start is of another version, does not fit
//! the log or is missing, when it turns out to be damaged, and, until it succeeds, when the disk did not do what it should.
//!
//! Records are taken in as they come. When very many do, they gather for a moment between two commits, as a few large ones
//! cost much less than many small ones; a reader who waits ([`ProjectionHandle::reach`]) ends the moment.

mod handle;
mod remake;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_engine::log::{self, LogReader};
use keyledger_engine::storage::background;
use keyledger_engine::storage::storage_panic::panic_text;
use keyledger_engine::value::position::Position;
use tokio::sync::{oneshot, watch};

pub use self::handle::{ProjectionHandle, RebuildFailed, RebuildOutcome, RebuildProgress, Status};

use self::handle::{Asker, Rebuilding, Shared, Waiting};
use self::remake::Remake;
use crate::stored::projection::Projection;
use crate::stored::rebuild::{Rebuild, remove_unfinished};
use crate::stored::replay::{BULK_BATCH_LEN, Replay};
use crate::stored::store::Error;

/// At most this many records share a commit while the projection is near the head, so that readers see them soon.
const LIVE_BATCH_LEN: usize = 2_048;
/// Records that come in larger numbers gather before the next commit.
const FEW_RECORDS: usize = 16;
/// A commit begins this long after the one before began, for each record that that one took in, and no longer than
/// [`COMMIT_INTERVAL_MAX`]: the interval grows as long as records come faster than this.
const COMMIT_INTERVAL_PER_RECORD: Duration = Duration::from_micros(250);
/// Commits begin at most this far apart when there are records to take in.
pub const COMMIT_INTERVAL_MAX: Duration = Duration::from_millis(50);
/// A projection further behind than this takes large batches, and is said to be catching up.
const LAG_MAX: u64 = 8_192;
/// After this many records, or this long, what was taken in is made durable. Losing it costs only time.
const SAVE_AFTER_RECORDS: u64 = 32_768;
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How often the log is asked for news when nobody tells of them.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait before a log that did not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The thread of a running projection. Dropping it ends the thread without saving what was taken in last, which costs
/// nothing but the time to take it in again.
pub struct RunnerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: thread::JoinHandle<()>,
}

impl RunnerThread {
    /// Saves what was taken in, ends the thread and closes the file. Blocks.
    pub fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself; its status says why.
            let _ = stop.send(());
        }
        let _ = self.thread.join();
    }
}

/// Opens the projection's file in `directory` and starts a thread that keeps it caught up with the log of `reader`.
/// `head` tells of news in the log; without it, the log is asked at intervals.
///
/// # Errors
/// When the file cannot be opened or made, the log cannot be read, or no thread can be started.
pub fn start<P: Projection>(
    directory: &Path,
    projection: P,
    reader: Arc<dyn LogReader>,
    head: Option<watch::Receiver<Position>>,
) -> Result<(ProjectionHandle, RunnerThread), Error> {
    let unavailable = |what: &str, error: std::io::Error| Error::Unavailable {
        file: P::NAME.into(),
        reason: format!("no {what} for it: {error}"),
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
        unseen: AtomicU64::new(0),
        rebuilding: Rebuilding::default(),
        waiting: Waiting::default(),
    });
    let (position_sender, position) = watch::channel(Position::START);
    let mut runner = Runner {
        directory: directory.to_path_buf(),
        projection,
        replay,
        reader,
        news: head,
        position: position_sender,
        shared: Arc::clone(&shared),
        runtime,
        stop,
        build: None,
        remake: None,
        unsaved_since: None,
    };
    runner.show_if_caught_up()?;
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

/// The rows that are there, if they can be answered from; or new ones, where making them takes no time.
fn open<P: Projection>(
    directory: &Path,
    projection: &P,
    reader: &Arc<dyn LogReader>,
) -> Result<Option<Replay<P>>, Error> {
    remove_unfinished::<P>(directory)?;
    let mut replay = match Replay::resume(directory, projection.beside(), Arc::clone(reader))? {
        Ok(replay) => replay,
        Err(_) if reader.head()?.get() > LAG_MAX => return Ok(None),
        Err(_) => Replay::open(directory, projection.beside(), Arc::clone(reader))?,
    };
    if reader.head()?.get() - replay.position().get() <= LAG_MAX
        && let Err(error) = replay.catch_up(Position::new(u64::MAX), LIVE_BATCH_LEN, |_| {})
    {
        // The thread comes upon the same, and says what it means.
        tracing::warn!(projection = P::NAME, %error, "not caught up");
    }
    Ok(Some(replay))
}

struct Runner<P: Projection> {
    directory: PathBuf,
    /// Takes in nothing; others are made after it.
    projection: P,
    /// None until the first rows are made, where there were none to begin with.
    replay: Option<Replay<P>>,
    reader: Arc<dyn LogReader>,
    news: Option<watch::Receiver<Position>>,
    position: watch::Sender<Position>,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Runtime,
    stop: oneshot::Receiver<()>,
    build: Option<Build<P>>,
    remake: Option<Remake>,
    unsaved_since: Option<Instant>,
}

/// A rebuild on a thread of its own.
struct Build<P: Projection> {
    outcome: oneshot::Receiver<Result<Rebuild<P>, Error>>,
    interrupted: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
    askers: Vec<Asker>,
}

/// What a runner waits for when it has taken in what there was.
enum Pause {
    /// News, or the time to save.
    Idle(Duration),
    /// More records to gather, or somebody who waits for those that are there.
    Gathering(Duration),
}

/// Why the runner woke up.
enum Wake<P: Projection> {
    News,
    Built(Result<Rebuild<P>, Error>),
    Stop,
    /// The thread's owner is gone.
    Abandoned,
}

impl<P: Projection> Runner<P> {
    /// Works until it is told to stop; says whether to save what was taken in.
    fn run(&mut self) -> bool {
        loop {
            self.begin_if_asked();
            self.begin_if_due();
            let pause = if self.halted() { Pause::Idle(SAVE_AFTER) } else { self.follow() };
            match self.wait(pause) {
                Wake::News => {}
                Wake::Built(built) => self.finish(built),
                Wake::Stop => return true,
                Wake::Abandoned => return false,
            }
        }
    }

    fn reached(&self) -> Position {
        self.replay.as_ref().map_or(Position::START, Replay::position)
    }

    fn halted(&self) -> bool {
        self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes in no more records. Readers who saw rows go on seeing them.
    fn halt(&self, end: Status) {
        tracing::error!(projection = P::NAME, ?end, "the projection has stopped");
        *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Takes in what there is, and says how to wait for more.
    fn follow(&mut self) -> Pause {
        let begun = Instant::now();
        match self.advance() {
            Ok(0) => Pause::Idle(self.idle_wait()),
            Ok(taken @ FEW_RECORDS..LIVE_BATCH_LEN) => {
                let interval = COMMIT_INTERVAL_PER_RECORD * u32::try_from(taken).unwrap_or(u32::MAX);
                Pause::Gathering(interval.min(COMMIT_INTERVAL_MAX).saturating_sub(begun.elapsed()))
            }
            // Few: whoever writes and then reads, one after the other, does not meet an interval. Or more than fit a commit.
            Ok(_) => Pause::Gathering(Duration::ZERO),
            Err(Error::Log(error @ log::Error::Unavailable(_))) => {
                tracing::warn!(projection = P::NAME, %error, "the log does not answer; trying again");
                Pause::Idle(RETRY_INTERVAL)
            }
            Err(Error::Poisoned { position, reason, .. }) => {
                self.tell_position();
                self.halt(Status::Poisoned { position, reason });
                Pause::Idle(SAVE_AFTER)
            }
            Err(error) => {
                self.halt(Status::Failed { position: self.reached(), reason: error.to_string() });
                self.remake = Some(Remake::first());
                if matches!(error, Error::Damaged { .. }) && self.build.is_none() {
                    self.begin(Vec::new());
                }
                Pause::Idle(SAVE_AFTER)
            }
        }
    }

    /// Takes in the next records, if there are any.
    fn advance(&mut self) -> Result<usize, Error> {
        let head = self.reader.head()?;
        self.shared.head.send_if_modified(|seen| std::mem::replace(seen, head) != head);
        let Some(replay) = &mut self.replay else { return Ok(0) };
        let lag = head.get().saturating_sub(replay.position().get());
        let batch_len = if lag > LAG_MAX { BULK_BATCH_LEN } else { LIVE_BATCH_LEN };
        let due = self.unsaved_since.is_some_and(|since| since.elapsed() >= SAVE_AFTER)
            || replay.unsaved() + lag.min(batch_len as u64) >= SAVE_AFTER_RECORDS;
        let taken = if lag > 0 { replay.step(batch_len, due)? } else { 0 };
        if lag == 0 && due {
            replay.save()?;
        }
        self.unsaved_since = match replay.unsaved() {
            0 => None,
            _ => self.unsaved_since.or_else(|| Some(Instant::now())),
        };
        if taken > 0 {
            self.tell_position();
        }
        self.show_if_caught_up()?;
        Ok(taken)
    }

    /// Readers see the rows from here on if they have everything that is in the log.
    fn show_if_caught_up(&self) -> Result<(), Error> {
        let Some(replay) = &self.replay else { return Ok(()) };
        if !self.shared.live.load(Ordering::Relaxed) && replay.position() >= self.reader.head()? {
            self.show(replay);
        }
        Ok(())
    }

    fn show(&self, replay: &Replay<P>) {
        replay.show();
        self.shared.live.store(true, Ordering::Relaxed);
        self.tell_position();
    }

    /// Tells how far the rows are that readers see.
    fn tell_position(&self) {
        if self.shared.live.load(Ordering::Relaxed) {
            self.position.send_replace(self.reached());
        } else {
            self.shared.unseen.store(self.reached().get(), Ordering::Relaxed);
        }
    }

    fn idle_wait(&self) -> Duration {
        let poll = if self.news.is_some() { SAVE_AFTER } else { POLL_INTERVAL };
        match self.unsaved_since {
            Some(since) => poll.min(SAVE_AFTER.saturating_sub(since.elapsed())),
            None => poll,
        }
    }

    /// Waits as `pause` says, or until something else is to be done.
    fn wait(&mut self, pause: Pause) -> Wake<P> {
        let (longest, gathering) = match pause {
            Pause::Idle(longest) => (longest, false),
            Pause::Gathering(longest) => (longest, true),
        };
        let (stop, news, build, shared) = (&mut self.stop, &mut self.news, &mut self.build, &self.shared);
        let wake = self.runtime.block_on(async {
            tokio::select! {
                biased;
                told = &mut *stop => if told.is_ok() { Wake::Stop } else { Wake::Abandoned },
                built = built(build) => Wake::Built(built),
                () = shared.rebuilding.asked.notified() => Wake::News,
                () = tokio::time::sleep(longest), if longest.is_zero() => Wake::News,
                () = shared.waiting.somebody(), if gathering => Wake::News,
                open = changed(news), if !gathering => {
                    if !open {
                        *news = None;
                    }
                    Wake::News
                }
                () = tokio::time::sleep(longest) => Wake::News,
            }
        });
        if let Some(news) = news {
            news.mark_unchanged();
        }
        wake
    }

    /// Begins a rebuild where the rows at the start were none, or not those of this version.
    fn begin_if_outdated(&mut self) {
        if self.replay.as_ref().is_none_or(|replay| !replay.is_current()) {
            self.begin(Vec::new());
        }
    }

    /// Begins a rebuild where the last failure may have passed.
    fn begin_if_due(&mut self) {
        if self.build.is_none() && self.remake.as_ref().is_some_and(Remake::is_due) {
            self.begin(Vec::new());
        }
    }

    fn begin_if_asked(&mut self) {
        if self.build.is_some() {
            return;
        }
        let askers = {
            let mut waiting = self.shared.rebuilding.askers();
            if waiting.is_empty() {
                return;
            }
            // Under the lock, so that nobody sees neither of them.
            self.shared.rebuilding.running.store(true, Ordering::Release);
            std::mem::take(&mut *waiting)
        };
        self.begin(askers);
    }

    fn begin(&mut self, askers: Vec<Asker>) {
        self.shared.rebuilding.running.store(true, Ordering::Release);
        self.shared.rebuilding.position.store(0, Ordering::Relaxed);
        tracing::info!(projection = P::NAME, "making the projection anew from the log");
        let (sender, outcome) = oneshot::channel();
        let interrupted = Arc::new(AtomicBool::new(false));
        let work = {
            let (directory, projection) = (self.directory.clone(), self.projection.beside());
            let (reader, interrupted) = (Arc::clone(&self.reader), Arc::clone(&interrupted));
            let shared = Arc::clone(&self.shared);
            move || {
                let build = || build(&directory, projection, reader, interrupted, &shared);
                let built = catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| {
                    let reason = format!("making it anew panicked: {}", panic_text(&*panic));
                    Err(Error::Unavailable { file: P::NAME.into(), reason })
                });
                let _ = sender.send(built);
            }
        };
        match background::spawn(format!("{} anew", P::NAME), work) {
            Ok(thread) => self.build = Some(Build { outcome, interrupted, thread, askers }),
            Err(error) => self.give_up(askers, format!("no thread to make it anew: {error}")),
        }
    }

    /// Lets what was made anew take the place of what is there.
    fn finish(&mut self, built: Result<Rebuild<P>, Error>) {
        let Some(Build { thread, askers, .. }) = self.build.take() else { return };
        let _ = thread.join();
        let swapped = built.and_then(|mut rebuild| {
            // Few are left; readers must not go back behind what they saw.
            rebuild.catch_up(&*self.reader, |_| {})?;
            rebuild.swap_in()
        });
        match swapped {
            Ok(replay) => {
                let position = replay.position();
                let before = self.replay.replace(replay);
                if let Some(replay) = &self.replay {
                    self.show(replay);
                }
                if let Some(before) = before {
                    before.retire();
                }
                *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.remake = None;
                self.unsaved_since = None;
                tracing::info!(projection = P::NAME, %position, "the projection is made anew");
                self.shared.rebuilding.finished.fetch_add(1, Ordering::Relaxed);
                self.shared.rebuilding.running.store(false, Ordering::Release);
                for asker in askers {
                    let _ = asker.send(Ok(position));
                }
            }
            Err(error) => {
                let _ = remove_unfinished::<P>(&self.directory);
                self.remake = match &error {
                    Error::Poisoned { .. } => None,
                    _ if self.replay.is_none() => {
                        Some(self.remake.as_ref().map_or_else(Remake::first, Remake::next))
                    }
                    _ => self.remake.as_ref().map(Remake::next),
                };
                if self.replay.is_none() {
                    let reason = error.to_string();
                    self.halt(match error {
                        Error::Poisoned { position, reason, .. } => Status::Poisoned { position, reason },
                        _ => Status::Failed { position: Position::START, reason },
                    });
                    self.give_up(askers, "it cannot be made from the log".into());
                } else {
                    self.give_up(askers, error.to_string());
                }
            }
        }
    }

    fn give_up(&self, askers: Vec<Asker>, reason: String) {
        tracing::error!(projection = P::NAME, reason, "the projection is not made anew");
        self.shared.rebuilding.failed.fetch_add(1, Ordering::Relaxed);
        self.shared.rebuilding.running.store(false, Ordering::Release);
        for asker in askers {
            let _ = asker.send(Err(RebuildFailed(reason.clone())));
        }
    }

    /// Ends the work, saving what was taken in if `save`.
    fn stop(mut self, save: bool) {
        if let Some(Build { thread, interrupted, .. }) = self.build.take() {
            interrupted.store(true, Ordering::Relaxed);
            let _ = thread.join();
            let _ = remove_unfinished::<P>(&self.directory);
        }
        if self.halted() {
            return;
        }
        let position = self.reached();
        let saved = match &mut self.replay {
            Some(replay) if save => replay.save(),
            _ => Ok(()),
        };
        match saved {
            Err(error) => self.halt(Status::Failed { position, reason: error.to_string() }),
            Ok(()) => {
                let end = Some(Status::Stopped { position });
                *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
            }
        }
    }
}

/// Makes the projection anew, up to a log that may go on growing meanwhile.
fn build<P: Projection>(
    directory: &Path,
    projection: P,
    reader: Arc<dyn LogReader>,
    interrupted: Arc<AtomicBool>,
    shared: &Shared,
) -> Result<Rebuild<P>, Error> {
    let interruption = Arc::clone(&interrupted);
    let mut rebuild = Rebuild::begin(directory, projection, Arc::clone(&reader), interrupted)?;
    loop {
        let progress = |at: Position| shared.rebuilding.position.store(at.get(), Ordering::Relaxed);
        let position = match rebuild.catch_up(&*reader, progress) {
            Ok(position) => position,
            Err(Error::Log(log::Error::Unavailable(_))) if !interruption.load(Ordering::Relaxed) => {
                thread::sleep(RETRY_INTERVAL);
                continue;
            }
            Err(error) => return Err(error),
        };
        if reader.head()?.get().saturating_sub(position.get()) <= LIVE_BATCH_LEN as u64 {
            return Ok(rebuild);
        }
    }
}

/// Waits for the end of a rebuild, if one is running.
async fn built<P: Projection>(build: &mut Option<Build<P>>) -> Result<Rebuild<P>, Error> {
    match build {
        Some(build) => (&mut build.outcome).await.unwrap_or(Err(Error::NotReady)),
        None => std::future::pending().await,
    }
}

/// Waits for news; `false` when there will be none any more.
async fn changed(news: &mut Option<watch::Receiver<Position>>) -> bool {
    match news {
        Some(news) => news.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
