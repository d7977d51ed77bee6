//! An answer of the provider that is fetched once for all who wait for it, and kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Error;

/// A failure is answered to all who ask within this time after it.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(5);

type Answer<T> = Result<Arc<T>, Error>;
type Kept<T> = Option<(Instant, Answer<T>)>;

/// The last answer, and when it arrived. The lock is held while another one is fetched.
pub(super) struct SharedAnswer<T>(Arc<Mutex<Kept<T>>>);

impl<T> Default for SharedAnswer<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Send + Sync + 'static> SharedAnswer<T> {
    /// Returns the last answer if it arrived less than `age_max` ago, or fetches one. Its age counts from its
    /// arrival: however long the provider takes, those who waited meanwhile get this answer. The fetch
    /// continues when the caller leaves.
    ///
    /// # Errors
    /// The provider's failure.
    pub(super) async fn get<F>(&self, age_max: Duration, fetch: impl FnOnce() -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some((at, answer)) = &*last {
            let age_max = if answer.is_ok() { age_max } else { FAILURE_AGE_MAX.min(age_max) };
            if at.elapsed() < age_max {
                return answer.clone();
            }
        }
        let fetching = fetch();
        let fetched = tokio::spawn(async move {
            let answer = fetching.await.map(Arc::new);
            *last = Some((Instant::now(), answer.clone()));
            answer
        });
        fetched.await.unwrap_or_else(|error| Err(Error(error.to_string())))
    }

    /// Forgets the last answer.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_get_one_answer_however_long_it_takes() {
        let (answer, asked) = (SharedAnswer::default(), Arc::new(AtomicU32::new(0)));
        let get = |result: Result<u32, Error>| {
            let asked = Arc::clone(&asked);
            answer.get(SECOND * 10, move || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(SECOND * 9).await;
                result
            })
        };
        let begun = Instant::now();
        let answers = join_all((0..40).map(|_| get(Ok(1)))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| **it == 1)));
        assert_eq!((asked.load(Ordering::Relaxed), begun.elapsed()), (1, SECOND * 9));
        tokio::time::advance(SECOND * 9).await;
        assert_eq!(*get(Ok(2)).await.unwrap(), 1, "its age counts from its arrival");
        tokio::time::advance(SECOND * 2).await;
        assert_eq!(*get(Ok(2)).await.unwrap(), 2);
        answer.forget().await;
        // A failure is shared too, and asked for again sooner.
        let failed = || Err(Error("no".into()));
        assert!(join_all((0..40).map(|_| get(failed()))).await.iter().all(Result::is_err));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        tokio::time::advance(FAILURE_AGE_MAX).await;
        assert_eq!(*get(Ok(4)).await.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_does_not_cost_another_request() {
        let (answer, asked) = (SharedAnswer::default(), Arc::new(AtomicU32::new(0)));
        for _ in 0..20 {
            let asked = Arc::clone(&asked);
            let getting = answer.get(SECOND * 60, move || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(SECOND * 3).await;
                Ok(())
            });
            let _ = tokio::time::timeout(SECOND / 10, getting).await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
