//! Sign-ins that are waiting for the OpenID provider to send the browser back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyledger_engine::value::time::Timestamp;

use crate::admission::network::Network;
use crate::auth::oidc::code_flow::Proofs;

/// A browser must return from the provider within this many milliseconds.
pub(crate) const WAIT_MILLIS_MAX: i64 = 10 * 60 * 1_000;
/// Beyond this many pending sign-ins, one is dropped to bound memory.
const PENDING_MAX: usize = 10_000;
/// Beyond this many from one address, its oldest is dropped. The sign-ins of a company behind one address end
/// within seconds.
const PENDING_OF_ADDRESS_MAX: usize = 500;

/// Pending sign-ins by their `state` parameter.
#[derive(Default)]
pub(crate) struct Pending(Mutex<HashMap<String, Waiting>>);

pub(crate) struct Waiting {
    pub proofs: Proofs,
    /// The console path to open after sign-in.
    pub to: String,
    pub since: Timestamp,
    /// The browser's address.
    pub from: Option<Network>,
}

impl Pending {
    /// Adds a sign-in. If there are too many, the address with the most of them loses its oldest.
    pub(crate) fn add(&self, waiting: Waiting, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address =
            |all: &HashMap<String, Waiting>| all.values().filter(|other| other.from == waiting.from).count();
        if all.len() >= PENDING_OF_ADDRESS_MAX && of_address(&all) >= PENDING_OF_ADDRESS_MAX {
            drop_oldest_of(&mut all, waiting.from);
        }
        if all.len() >= PENDING_MAX {
            all.retain(|_, waiting| waiting.since.saturating_add_millis(WAIT_MILLIS_MAX) > now);
        }
        if all.len() >= PENDING_MAX {
            let greediest = greediest(&all);
            drop_oldest_of(&mut all, greediest);
        }
        all.insert(waiting.proofs.state.clone(), waiting);
    }

    pub(crate) fn take(&self, state: &str, now: Timestamp) -> Option<Waiting> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(state)?;
        (waiting.since.saturating_add_millis(WAIT_MILLIS_MAX) > now).then_some(waiting)
    }
}

fn drop_oldest_of(all: &mut HashMap<String, Waiting>, from: Option<Network>) {
    let own = all.iter().filter(|(_, waiting)| waiting.from == from);
    if let Some(first) = own.min_by_key(|(_, waiting)| waiting.since).map(|(state, _)| state.clone()) {
        all.remove(&first);
    }
}

/// The address with the most sign-ins.
fn greediest(all: &HashMap<String, Waiting>) -> Option<Network> {
    let mut counts: HashMap<Option<Network>, usize> = HashMap::new();
    for waiting in all.values() {
        *counts.entry(waiting.from).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).and_then(|(from, _)| from)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use zeroize::Zeroizing;

    use super::*;

    fn add(pending: &Pending, state: &str, from: u32, at: i64) {
        let proofs =
            Proofs { state: state.into(), nonce: String::new(), verifier: Zeroizing::new(String::new()) };
        let from = Some(Network::from(IpAddr::from(Ipv4Addr::from_bits(from))));
        let since = Timestamp::from_millis(at);
        pending.add(Waiting { proofs, to: String::new(), since, from }, since);
    }

    #[test]
    fn whoever_begins_many_loses_their_own() {
        let (pending, now) = (Pending::default(), Timestamp::from_millis(60_000));
        add(&pending, "ours", 1, 0);
        // One address, and then many that fill everything.
        for number in 0..PENDING_OF_ADDRESS_MAX as i64 + 100 {
            add(&pending, &format!("a{number}"), 2, number);
        }
        assert!(pending.take("a99", now).is_none() && pending.take("a100", now).is_some());
        for number in 0..PENDING_MAX as i64 {
            let from = 3 + u32::try_from(number / 300).unwrap();
            add(&pending, &format!("b{number}"), from, 1_000 + number);
        }
        assert!(pending.0.lock().unwrap().len() <= PENDING_MAX);
        assert!(pending.take("ours", now).is_some(), "others keep theirs");
        assert!(pending.take("ours", now).is_none(), "once");
        add(&pending, "late", 1, 0);
        assert!(pending.take("late", Timestamp::from_millis(WAIT_MILLIS_MAX)).is_none());
    }
}
