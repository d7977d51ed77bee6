//! The last credential of a connection. Clients keep connections open and send the same credential with every
//! request, and comparing it with the previous one is cheaper than hashing it again.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyledger_engine::value::constant_time;
use keyledger_engine::value::time::Timestamp;
use zeroize::Zeroizing;

use crate::auth::caller::authenticate;
use crate::auth::principal::Principal;
use crate::service::Service;

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
}

impl LastCredential {
    /// Returns the principal of a header's credential at `now`, as [`authenticate`] does; none for an invalid
    /// credential.
    pub(crate) fn authenticate(
        &mut self,
        service: &Service,
        name: &HeaderName,
        value: &[u8],
        now: Timestamp,
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
            self.0 = Some(Accepted { name: name.clone(), value, principal, epoch });
        }
        self.0.as_ref().map(|accepted| &accepted.principal)
    }
}
