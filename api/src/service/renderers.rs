//! The threads that render long answers: exports, streams of events and backups.
//!
//! They are few and have a lower priority than the threads that answer requests, so that however many
//! clients read the whole log, verification and creation keep the processor. Each reader has at most one
//! chunk in the queue, so the readers take turns.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use keyledger_engine::storage::background;
use tokio::sync::oneshot;

use crate::answer::problem::Problem;

type Job = Box<dyn FnOnce() + Send>;

/// The queue of the threads, which end when it is dropped.
pub(crate) struct Renderers(mpsc::Sender<Job>);

impl Renderers {
    /// Starts one thread less than there are processors, and at least one.
    ///
    /// # Errors
    /// When the operating system cannot start a thread.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, |all| all.get().saturating_sub(1)).max(1);
        let (sender, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..count {
            let jobs = Arc::clone(&jobs);
            background::spawn(format!("render-{number}"), move || {
                while let Some(job) = next(&jobs) {
                    // A defect in rendering one answer ends that answer, and no thread.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })?;
        }
        Ok(Self(sender))
    }

    /// Runs work on one of the threads. Work whose caller has gone is skipped.
    ///
    /// # Errors
    /// `internal` when the work panics.
    pub(crate) async fn render<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (sender, done) = oneshot::channel();
        let job = move || {
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        };
        // If the threads are gone, so is the sender in the job, which the next line notices.
        let _ = self.0.send(Box::new(job));
        done.await.map_err(|error| Problem::internal(&error))
    }
}

/// Waits for the next job. The threads wait one behind the other.
fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_its_own_work_only() {
        let renderers = Renderers::start().unwrap();
        for round in 0..100 {
            assert_eq!(renderers.render(move || round).await.unwrap(), round);
            let failed = renderers.render(|| assert_eq!(1, 2, "on purpose")).await;
            assert_eq!(failed.unwrap_err().code, crate::answer::code::Code::Internal);
        }
    }

    #[tokio::test]
    async fn work_without_a_caller_is_skipped() {
        let renderers = Renderers::start().unwrap();
        let (begin, begun) = mpsc::channel::<()>();
        // All threads are busy until the caller of the second job has gone.
        let busy = thread::available_parallelism().unwrap().get();
        let begun = Arc::new(Mutex::new(begun));
        let waits = (0..busy).map(|_| {
            let begun = Arc::clone(&begun);
            renderers.render(move || begun.lock().map(|begun| begun.recv().is_ok()).is_ok())
        });
        let mut waits: Vec<_> = waits.map(Box::pin).collect();
        for wait in &mut waits {
            assert!(futures_util::poll!(wait.as_mut()).is_pending());
        }
        let (done, was_done) = mpsc::channel();
        let mut abandoned = Box::pin(renderers.render(move || done.send(())));
        assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
        drop(abandoned);
        drop(begin);
        for wait in waits {
            wait.await.unwrap();
        }
        renderers.render(|| ()).await.unwrap();
        assert!(was_done.recv().is_err(), "nobody waits for it");
    }
}
