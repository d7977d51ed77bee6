//! The security log: authentications good and bad, refusals by the table of rights, and what callers do that
//! leaves no event. Each line is an OCSF event as JSON.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, header};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::time::Timestamp;
use serde_json::Value;

use super::attempt::Attempt;
use super::authentications::Authentications;
use super::credential::{Credential, Outcome};
use super::destination::{Destination, Sink};
use super::ocsf;
use super::sampler::{Entry, Limits, Sampler};
use crate::admission::network::Network;
use crate::auth::caller::Caller;
use crate::auth::origin;
use crate::auth::principal::Principal;
use crate::http::request_id::RequestId;
use crate::service::Service;

const MINUTE_MILLIS: i64 = 60_000;
/// One line for each caller and origin in this time.
const ACCEPTED: Limits =
    Limits { window_millis: 10 * MINUTE_MILLIS, written_max: 1, subjects_max: 4_096, is_summed_up: false };
/// Failures, by reason and origin. Together with the sums that is about a thousand lines a minute at most.
const REFUSED: Limits =
    Limits { window_millis: MINUTE_MILLIS, written_max: 3, subjects_max: 256, is_summed_up: true };
/// What authenticated callers do, by caller and origin.
const DONE: Limits =
    Limits { window_millis: MINUTE_MILLIS, written_max: 30, subjects_max: 1_024, is_summed_up: true };
/// How often the sums of what was omitted are written.
const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// What a caller did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    SignIn,
    SignOut,
    IssueToken,
    Export,
    Stream,
    Backup,
    FindKey,
    VerifyLog,
    /// The table of rights refused it.
    Forbidden,
}

impl Action {
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::SignIn => "signed in",
            Self::SignOut => "signed out",
            Self::IssueToken => "access token issued",
            Self::Export => "export of events begun",
            Self::Stream => "stream of events begun",
            Self::Backup => "backup begun",
            Self::FindKey => "key looked up by a token",
            Self::VerifyLog => "verification of the log begun",
            Self::Forbidden => "refused by the table of permissions",
        }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<Arc<str>>,
    pub request_id: Option<Box<str>>,
}

impl Place {
    /// The place of a request.
    #[must_use]
    pub(crate) fn of(service: &Service, parts: &Parts) -> Self {
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.as_str().into());
        Self { request_id, ..Self::at(origin::address(service, parts), &parts.headers) }
    }

    /// The place of a request from an address.
    #[must_use]
    pub(crate) fn at(ip: Option<IpAddr>, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Self { ip, user_agent: user_agent.map(Actor::clip_user_agent), request_id: None }
    }

    fn of_caller(caller: &Caller) -> Self {
        Self {
            ip: caller.actor.ip,
            user_agent: caller.actor.user_agent.clone(),
            request_id: Some(caller.request_id.as_str().into()),
        }
    }

    fn network(&self) -> Option<Network> {
        self.ip.map(Network::from)
    }
}

/// Writes the security log, and counts authentications.
pub(crate) struct SecurityLog {
    /// For the metrics.
    pub authentications: Authentications,
    sink: Sink,
    accepted: Sampler<Value>,
    refused: Sampler<Value>,
    done: Sampler<Value>,
}

impl SecurityLog {
    /// Opens the log.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub(crate) fn open(destination: &Destination) -> io::Result<Self> {
        Ok(Self {
            authentications: Authentications::default(),
            sink: Sink::open(destination)?,
            accepted: Sampler::new(ACCEPTED),
            refused: Sampler::new(REFUSED),
            done: Sampler::new(DONE),
        })
    }

    /// Opens the file again, after another program has moved it away.
    pub(crate) fn reopen(&self) {
        self.sink.reopen();
    }

    /// Records that a credential was accepted.
    pub(crate) fn accepted(
        &self,
        principal: &Principal,
        credential: Credential,
        now: Timestamp,
        place: &Place,
    ) {
        self.authentications.count(credential, Outcome::Accepted);
        let subject = (principal.kind.as_str(), &*principal.id, credential, place.network());
        self.write(self.accepted.take(&subject, now, || ocsf::accepted(principal, credential, place, now)));
    }

    /// Records that a credential was refused.
    pub(crate) fn refused(&self, attempt: &Attempt, now: Timestamp, place: &Place) {
        self.authentications.count(attempt.credential, attempt.outcome);
        let subject = (attempt.credential, attempt.outcome, attempt.holder.as_deref(), place.network());
        self.write(self.refused.take(&subject, now, || ocsf::refused(attempt, place, now)));
    }

    /// Records that the table of rights refused a request.
    pub(crate) fn forbidden(
        &self,
        principal: &Principal,
        endpoint: (&Method, &str),
        now: Timestamp,
        place: &Place,
    ) {
        let subject = (principal.kind.as_str(), &*principal.id, place.network());
        let render = || ocsf::activity(principal, endpoint, Action::Forbidden, place, now);
        self.write(self.refused.take(&subject, now, render));
    }

    /// Records what a caller did at an endpoint.
    pub(crate) fn done(&self, caller: &Caller, endpoint: (&Method, &str), action: Action, now: Timestamp) {
        let (principal, place) = (&*caller.principal, &Place::of_caller(caller));
        let subject = (action, principal.kind.as_str(), &*principal.id, place.network());
        let render = || ocsf::activity(principal, endpoint, action, place, now);
        self.write(self.done.take(&subject, now, render));
    }

    /// Records that a person signed in or out, or that an application got an access token.
    pub(crate) fn session(
        &self,
        action: Action,
        principal: &Principal,
        credential: Credential,
        now: Timestamp,
        place: &Place,
    ) {
        if action == Action::SignIn {
            self.authentications.count(credential, Outcome::Accepted);
        }
        let subject = (action, principal.kind.as_str(), &*principal.id, place.network());
        let render = || ocsf::session(action, principal, credential, place, now);
        self.write(self.done.take(&subject, now, render));
    }

    /// Writes the sums of what was omitted in windows that are over at `now`.
    fn sum_up(&self, now: Timestamp) {
        self.write(self.refused.sum_up(now));
        self.write(self.done.sum_up(now));
        self.write(self.accepted.sum_up(now));
    }

    /// Writes all sums of what was omitted.
    fn sum_up_all(&self) {
        self.write(self.refused.sum_up_all());
        self.write(self.done.sum_up_all());
    }

    fn write(&self, entries: Vec<Entry<Value>>) {
        if entries.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        for entry in entries {
            let event = match entry {
                Entry::Event(event) => event,
                Entry::Omitted(omitted) => ocsf::omitted(omitted),
            };
            lines.extend_from_slice(event.to_string().as_bytes());
            lines.push(b'\n');
        }
        self.sink.write(&lines);
    }
}

/// Writes the sums of what was omitted until the service stops.
pub(crate) async fn run(service: Arc<Service>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SUM_UP_EVERY) => service.security_log.sum_up(service.now()),
            () = service.stopped() => break,
        }
    }
    service.security_log.sum_up_all();
}
