//! Keeps stored projections caught up with the log, each on a thread of its own, so that one that is slow or stops does
//! not hold up the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_engine::log::{self, LogReader};
use keyledger_engine::position::Position;
use tokio::sync::{oneshot, watch};

use crate::projection::Projection;
use crate::replay::{BULK_BATCH_LEN, Replay, panic_text};
use crate::store::Error;

/// At most this many records share a commit while the projection is near the head, so that readers see them soon.
const LIVE_BATCH_LEN: usize = 512;
/// A projection further behind than this takes large batches, and is said to be catching up.
const LAG_MAX: u64 = 8_192;
/// After this many records, or this long, what was taken in is made durable. Losing it costs only time.
const SAVE_AFTER_RECORDS: u64 = 4_096;
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How often the log is asked for news when nobody tells of them.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait before a log that did not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How a projection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It takes in records from before its start, or has fallen far behind.
    CatchingUp {
        /// How far it has come.
        position: Position,
        /// How far the log is.
        head: Position,
    },
    /// It follows the log.
    Live,
    /// It cannot take in an event, and has stopped before it.
    Poisoned {
        /// The event's position.
        position: Position,
        /// Why it cannot.
        reason: String,
    },
    /// It has stopped because its file or the log does not work; starting again may help.
    Failed {
        /// How far it has come.
        position: Position,
        /// What does not work.
        reason: String,
    },
    /// It was told to stop.
    Stopped {
        /// How far it has come.
        position: Position,
    },
}

struct Shared {
    name: &'static str,
    /// What was last seen of the log's head.
    head: watch::Sender<Position>,
    /// How it ended, once it has; `None` while it runs.
    end: Mutex<Option<Status>>,
    /// Whether it has reached the head at some time.
    live: AtomicBool,
}

/// Tells how a running projection is doing; cheap to clone.
#[derive(Clone)]
pub struct ProjectionHandle {
    shared: Arc<Shared>,
    position: watch::Receiver<Position>,
}

impl ProjectionHandle {
    /// The projection's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The position of the last record that readers of the projection see.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Follows [`ProjectionHandle::position`]; closes when the projection ends.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.position.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(end) = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return end;
        }
        let (position, head) = (self.position(), *self.shared.head.borrow());
        let lag = head.get().saturating_sub(position.get());
        let live = self.shared.live.load(Ordering::Relaxed);
        if live && lag <= LAG_MAX { Status::Live } else { Status::CatchingUp { position, head } }
    }
}

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
    let replay = Replay::open(directory, projection, Arc::clone(&reader))?;
    let (position_sender, position) = watch::channel(replay.position());
    let shared = Arc::new(Shared {
        name: P::NAME,
        head: watch::Sender::new(reader.head()?),
        end: Mutex::new(None),
        live: AtomicBool::new(false),
    });
    let unavailable = |what: &str, error: std::io::Error| Error::Unavailable {
        file: P::NAME.into(),
        reason: format!("no {what} for it: {error}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| unavailable("timer", error))?;
    let (stop_sender, stop) = oneshot::channel();
    let mut runner = Runner {
        replay,
        reader,
        news: head,
        position: position_sender,
        shared: Arc::clone(&shared),
        runtime,
        stop,
        unsaved_since: None,
    };
    let thread = thread::Builder::new()
        .name(P::NAME.into())
        .spawn(move || {
            let end = match catch_unwind(AssertUnwindSafe(|| runner.run())) {
                Ok(end) => end,
                Err(panic) => runner.failed(format!("it panicked: {}", panic_text(&*panic))),
            };
            match &end {
                Status::Stopped { .. } => {}
                end => tracing::error!(projection = P::NAME, ?end, "the projection has stopped"),
            }
            *runner.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
            runner.serve_until_stopped();
        })
        .map_err(|error| unavailable("thread", error))?;
    Ok((ProjectionHandle { shared, position }, RunnerThread { stop: Some(stop_sender), thread }))
}

struct Runner<P: Projection> {
    replay: Replay<P>,
    reader: Arc<dyn LogReader>,
    news: Option<watch::Receiver<Position>>,
    position: watch::Sender<Position>,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Runtime,
    stop: oneshot::Receiver<()>,
    unsaved_since: Option<Instant>,
}

/// Why the runner woke up.
enum Wake {
    News,
    Stop,
    /// The thread's owner is gone.
    Abandoned,
}

impl<P: Projection> Runner<P> {
    fn run(&mut self) -> Status {
        loop {
            let wait = match self.advance() {
                Ok(0) => self.idle_wait(),
                Ok(_) => Duration::ZERO,
                Err(Error::Log(error @ log::Error::Unavailable(_))) => {
                    tracing::warn!(projection = P::NAME, %error, "the log does not answer; trying again");
                    RETRY_INTERVAL
                }
                Err(Error::Poisoned { position, reason, .. }) => {
                    self.position.send_replace(self.replay.position());
                    return Status::Poisoned { position, reason };
                }
                Err(error) => return self.failed(error.to_string()),
            };
            match self.wait(wait) {
                Wake::News => {}
                Wake::Stop => {
                    return match self.replay.save() {
                        Ok(()) => Status::Stopped { position: self.replay.position() },
                        Err(error) => self.failed(error.to_string()),
                    };
                }
                Wake::Abandoned => return Status::Stopped { position: self.replay.position() },
            }
        }
    }

    /// Takes in the next records, if there are any.
    fn advance(&mut self) -> Result<usize, Error> {
        let head = self.reader.head()?;
        self.shared.head.send_if_modified(|seen| std::mem::replace(seen, head) != head);
        let lag = head.get().saturating_sub(self.replay.position().get());
        let batch_len = if lag > LAG_MAX { BULK_BATCH_LEN } else { LIVE_BATCH_LEN };
        let due = self.unsaved_since.is_some_and(|since| since.elapsed() >= SAVE_AFTER)
            || self.replay.unsaved() + lag.min(batch_len as u64) >= SAVE_AFTER_RECORDS;
        let taken = if lag > 0 { self.replay.step(batch_len, due)? } else { 0 };
        if lag == 0 && due {
            self.replay.save()?;
        }
        self.unsaved_since = match self.replay.unsaved() {
            0 => None,
            _ => self.unsaved_since.or_else(|| Some(Instant::now())),
        };
        if taken > 0 {
            self.position.send_replace(self.replay.position());
        }
        if self.replay.position() >= head {
            self.shared.live.store(true, Ordering::Relaxed);
        }
        Ok(taken)
    }

    fn idle_wait(&self) -> Duration {
        let poll = if self.news.is_some() { SAVE_AFTER } else { POLL_INTERVAL };
        match self.unsaved_since {
            Some(since) => poll.min(SAVE_AFTER.saturating_sub(since.elapsed())),
            None => poll,
        }
    }

    /// Waits for news, but no longer than `longest`.
    fn wait(&mut self, longest: Duration) -> Wake {
        let (stop, news) = (&mut self.stop, &mut self.news);
        let wake = self.runtime.block_on(async {
            tokio::select! {
                biased;
                told = &mut *stop => if told.is_ok() { Wake::Stop } else { Wake::Abandoned },
                () = tokio::time::sleep(longest), if longest.is_zero() => Wake::News,
                open = changed(news) => {
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

    fn failed(&self, reason: String) -> Status {
        Status::Failed { position: self.replay.position(), reason }
    }

    /// A projection that has ended by itself goes on answering from what it has, until it is told to stop.
    fn serve_until_stopped(self) {
        let Self { replay, runtime, stop, shared, .. } = self;
        let ended = shared.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !matches!(ended, Some(Status::Stopped { .. })) {
            let _ = runtime.block_on(stop);
        }
        drop(replay);
    }
}

/// Waits for news; `false` when there will be none any more.
async fn changed(news: &mut Option<watch::Receiver<Position>>) -> bool {
    match news {
        Some(news) => news.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
