//! Lookups of receivers' names. The system's resolver blocks a thread, for as long as the name's own servers
//! like, and cannot be cancelled. So lookups are bounded, also for each organization: whoever registers
//! webhooks at slow names delays no others.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use keyledger_engine::value::id::OrganizationId;
use tokio::sync::Semaphore;

/// Lookups at a time. The threads of the webhook runtime that they leave read files.
const LOOKUPS_MAX: usize = 64;
/// Lookups at a time for the webhooks of one organization.
const OF_ORGANIZATION_MAX: usize = 4;
/// Past this many organizations, those without a lookup are forgotten.
const ORGANIZATIONS_MAX: usize = 1_024;

tokio::task_local! {
    static OWNER: Option<OrganizationId>;
}

/// Runs a delivery whose lookups count for a webhook's organization.
pub(super) async fn on_behalf_of<F: Future>(owner: Option<OrganizationId>, delivery: F) -> F::Output {
    OWNER.scope(owner, delivery).await
}

type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NameLookups(Arc<Shared>);

struct Shared {
    resolve: Box<Resolve>,
    all: Arc<Semaphore>,
    of_organization: Mutex<HashMap<Option<OrganizationId>, Arc<Semaphore>>>,
}

impl std::fmt::Debug for NameLookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NameLookups")
    }
}

impl NameLookups {
    /// Asks the operating system.
    #[must_use]
    pub(crate) fn system() -> Self {
        Self::with(|name| (name, 0).to_socket_addrs().map(Iterator::collect))
    }

    fn with(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            resolve: Box::new(resolve),
            all: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            of_organization: Mutex::default(),
        }))
    }

    /// Returns the addresses of a name, once there is room for another lookup of the
    /// [owner](on_behalf_of). A lookup that nobody waits for any more still takes its room until it ends.
    ///
    /// # Errors
    /// The resolver's failure.
    pub(super) fn find(&self, name: String) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> {
        let owner = OWNER.try_with(Clone::clone).unwrap_or_default();
        let (shared, own) = (Arc::clone(&self.0), self.permits_of(owner));
        async move {
            let own = own.acquire_owned().await.map_err(io::Error::other)?;
            let one_of_all = Arc::clone(&shared.all).acquire_owned().await.map_err(io::Error::other)?;
            let looking = tokio::task::spawn_blocking(move || {
                let found = (shared.resolve)(&name);
                drop((own, one_of_all));
                found
            });
            looking.await.map_err(io::Error::other)?
        }
    }

    fn permits_of(&self, owner: Option<OrganizationId>) -> Arc<Semaphore> {
        let mut all = self.0.of_organization.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ORGANIZATIONS_MAX {
            all.retain(|_, permits| Arc::strong_count(permits) > 1);
        }
        Arc::clone(all.entry(owner).or_insert_with(|| Arc::new(Semaphore::new(OF_ORGANIZATION_MAX))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn slow_names_of_one_organization_delay_no_other() {
        let (end, ended) = mpsc::channel::<()>();
        let (ended, running) = (Mutex::new(ended), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&running);
        let lookups = NameLookups::with(move |name| {
            counter.fetch_add(1, Ordering::SeqCst);
            if name == "slow" {
                let _ = ended.lock().map(|ended| ended.recv());
            }
            counter.fetch_sub(1, Ordering::SeqCst);
            Ok(Vec::new())
        });
        let find = |owner: &str, name: &str| {
            let (lookups, name, owner) = (lookups.clone(), name.to_owned(), Some(owner.parse().unwrap()));
            tokio::spawn(on_behalf_of(owner, async move { lookups.find(name).await.is_ok() }))
        };
        let slow: Vec<_> = (0..100).map(|_| find("slow", "slow")).collect();
        // Some give up, which ends no lookup.
        slow.iter().take(2).for_each(tokio::task::JoinHandle::abort);
        for owner in ["acme", "beta"] {
            let found = tokio::time::timeout(Duration::from_secs(20), find(owner, "quick")).await;
            assert!(found.unwrap().unwrap(), "{owner} waits for the slow names of another");
        }
        assert!(running.load(Ordering::SeqCst) <= OF_ORGANIZATION_MAX);
        drop(end);
        for found in slow.into_iter().skip(2) {
            assert!(found.await.unwrap());
        }
    }
}
