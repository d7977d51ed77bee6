//! The credential that a connection carried last. Clients keep their connections and send the same root key with every
//! request; comparing it with the one before is cheaper than digesting it again.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, header};
use keyledger_engine::root_key::RootKey;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::caller::{API_KEY_HEADER, authenticate};
use crate::problem::{Code, Problem};
use crate::service::Service;

/// What was last found good on one connection.
#[derive(Default)]
pub struct LastCredential(Mutex<Option<Accepted>>);

struct Accepted {
    header: Zeroizing<Vec<u8>>,
    root_key: Arc<RootKey>,
    /// The epoch before it was found good: whatever may end it since has raised the index's.
    epoch: u64,
}

impl LastCredential {
    /// Finds the root key that a call carries, as [`authenticate`](crate::caller::authenticate) does.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub fn authenticate(&self, service: &Service, headers: &HeaderMap) -> Result<Arc<RootKey>, Problem> {
        let epoch = service.index.authentication_epoch();
        let value = headers.get(header::AUTHORIZATION).or_else(|| headers.get(API_KEY_HEADER));
        let Some(value) = value else { return Err(Problem::of(Code::Unauthenticated)) };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(accepted) = last.as_ref()
            && accepted.epoch == epoch
            && bool::from(accepted.header.ct_eq(value.as_bytes()))
        {
            return Ok(Arc::clone(&accepted.root_key));
        }
        let root_key = authenticate(service, headers)?;
        let header = Zeroizing::new(value.as_bytes().to_vec());
        *last = Some(Accepted { header, root_key: Arc::clone(&root_key), epoch });
        Ok(root_key)
    }
}
