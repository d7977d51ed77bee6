//! The last credential of a connection. Clients keep connections open and send the same credential with every
//! request, and comparing it with the previous one is cheaper than hashing it again.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyledger_engine::crypto::constant_time;
use keyledger_engine::value::time::Timestamp;
use zeroize::Zeroizing;

use crate::auth::caller::authenticate;
use crate::auth::principal::Principal;
use crate::evidence::security_log::Place;
use crate::service::Service;

/// How long a connection that repeats its credential goes unrecorded, in milliseconds.
const UNRECORDED_MILLIS: i64 = 60_000;

/// The last valid credential of one connection.
#[derive(Default)]
pub(crate) struct LastCredential(Option<Accepted>);

struct Accepted {
    name: HeaderName,
    value: Zeroizing<Vec<u8>>,
    principal: Arc<Principal>,
    /// The index's authentication epoch before the check. Every record that can invalidate a credential
    /// raises it.
    epoch: u64,
    /// The address that it was last recorded with, and when.
    recorded: (IpAddr, Timestamp),
}

impl LastCredential {
    /// Returns the principal of a header's credential at `now`, as [`authenticate`] does; none for an invalid
    /// credential. The security log gets it when it is new, comes from another address, or a minute has
    /// passed.
    pub(crate) fn authenticate(
        &mut self,
        service: &Service,
        name: &HeaderName,
        value: &[u8],
        now: Timestamp,
        from: IpAddr,
    ) -> Option<&Arc<Principal>> {
        let epoch = service.index.authentication_epoch();
        let is_same = |last: &Accepted| {
            last.epoch == epoch
                && last.principal.is_current(now)
                && last.name == *name
                && constant_time::equal(&last.value, value)
        };
        if !self.0.as_ref().is_some_and(is_same) {
            let mut header = HeaderValue::from_bytes(value).ok()?;
            header.set_sensitive(true);
            let principal = authenticate(service, &HeaderMap::from_iter([(name.clone(), header)])).ok()?;
            let value = Zeroizing::new(value.to_vec());
            let recorded = (from, Timestamp::from_millis(i64::MIN));
            self.0 = Some(Accepted { name: name.clone(), value, principal, epoch, recorded });
        }
        let accepted = self.0.as_mut()?;
        let (last_from, last) = accepted.recorded;
        if last_from != from || now >= last.saturating_add_millis(UNRECORDED_MILLIS) {
            accepted.recorded = (from, now);
            record(service, &accepted.principal, now, from);
        }
        Some(&accepted.principal)
    }
}

#[cold]
fn record(service: &Service, principal: &Principal, now: Timestamp, from: IpAddr) {
    let place = Place { ip: Some(from), ..Place::default() };
    service.accepted(principal, principal.credential(), now, &place);
}
