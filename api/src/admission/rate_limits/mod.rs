//! Rate limits: which policies a request counts for, and the answer to one too many.

mod bucket;
mod buckets;
pub(crate) mod policy;
pub(crate) mod quota;

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use keyledger_engine::value::actor::ActorKind;

use self::buckets::Buckets;
use self::policy::{COUNT, Policy, Quotas};
use self::quota::Quota;
use crate::admission::change::Change;
use crate::admission::class::Class;
use crate::admission::network::Network;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::principal::Principal;

/// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): what a caller may do.
pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`: what is left of it.
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

const NANOS: u64 = 1_000_000_000;
/// So many refusals a second are answered at once.
const PROMPT_REFUSALS_MAX: u64 = 100;
/// Further ones are answered after this time, so that a client which asks again at once takes no processor
/// time from others.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);

/// Proof that a request was counted. Commands need one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Whether it was counted for a caller, and not for an address.
    by_caller: bool,
}

/// What a request takes of a bucket.
#[derive(Debug, Clone, Copy)]
enum Take {
    Tokens(u64),
    /// One token must be there, and stays.
    Nothing,
}

impl Counted {
    /// The proof for a request to an endpoint that needs no caller.
    ///
    /// # Errors
    /// `internal` for a request that passed by the layer that counts.
    pub(crate) fn of(parts: &Parts) -> Result<Self, Problem> {
        let counted = parts.extensions.get::<Self>().copied();
        counted.ok_or_else(|| Problem::internal(&"a request was not counted"))
    }
}

/// The limits and the buckets.
pub(crate) struct RateLimits {
    quotas: Quotas,
    /// The buckets of callers and organizations. Strangers cannot fill them up.
    callers: Buckets,
    addresses: Buckets,
    /// Draws the seed that makes hashes of subjects unpredictable.
    hashes: RandomState,
    begun: Instant,
    refused: [AtomicU64; COUNT],
    /// The second of the last refusal, and how many there were in it.
    refusals_in_second: AtomicU64,
}

/// The origin of a request. Trusted proxies speak for their clients.
pub(crate) type Origin = Option<IpAddr>;

impl RateLimits {
    /// Sets the limits. All buckets are full.
    #[must_use]
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            callers: Buckets::default(),
            addresses: Buckets::default(),
            hashes: RandomState::new(),
            begun: Instant::now(),
            refused: [const { AtomicU64::new(0) }; COUNT],
            refusals_in_second: AtomicU64::new(0),
        }
    }

    /// Counts a request of an authenticated caller. A command counts when it is
    /// [issued](Self::count_command); until then the request only needs something to be left.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn count(&self, caller: &Principal, class: Class, from: Origin) -> Result<Counted, Problem> {
        match class {
            Class::Health => {}
            Class::Verification => self.count_tokens(caller, 1)?,
            Class::Read => {
                let of_caller =
                    if caller.organization_id.is_some() { Policy::Reads } else { Policy::OperatorReads };
                self.of_caller(Take::Tokens(1), of_caller, caller, ())?;
                self.of_organization(Take::Tokens(1), Policy::OrganizationReads, caller, ())?;
            }
            Class::Action => self.change(Take::Tokens(1), caller, Change::Growth)?,
            Class::Command(change) => self.change(Take::Nothing, caller, change)?,
        }
        if caller.organization_id.is_some() && !matches!(class, Class::Health | Class::Verification) {
            self.take_of_address(Policy::Address, from)?;
        }
        Ok(Counted { by_caller: true })
    }

    /// Counts a command. A command without a caller was counted with its request.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn count_command(
        &self,
        caller: &Principal,
        counted: Counted,
        change: Change,
    ) -> Result<(), Problem> {
        if counted.by_caller { self.change(Take::Tokens(1), caller, change) } else { Ok(()) }
    }

    /// Counts so many tokens that a caller verifies.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn count_tokens(&self, caller: &Principal, count: u64) -> Result<(), Problem> {
        self.of_caller(Take::Tokens(count), Policy::Verifications, caller, ())
    }

    fn change(&self, take: Take, caller: &Principal, change: Change) -> Result<(), Problem> {
        let of_caller = match (&caller.organization_id, caller.kind) {
            (None, _) => Policy::OperatorWrites,
            (Some(_), ActorKind::PortalSession | ActorKind::User) => Policy::SessionWrites,
            (Some(_), _) => Policy::Writes,
        };
        // Removals count apart, so that whoever has used up their changes, or somebody with a stolen
        // credential of theirs, does not keep them from revoking it.
        self.of_caller(take, of_caller, caller, change)?;
        self.of_organization(take, Policy::OrganizationWrites, caller, change)
    }

    fn of_caller(
        &self,
        take: Take,
        policy: Policy,
        caller: &Principal,
        part: impl Hash,
    ) -> Result<(), Problem> {
        self.take(take, &self.callers, policy, (part, caller.kind, &*caller.id))
    }

    fn of_organization(
        &self,
        take: Take,
        policy: Policy,
        caller: &Principal,
        part: impl Hash,
    ) -> Result<(), Problem> {
        match &caller.organization_id {
            Some(id) => self.take(take, &self.callers, policy, (part, id.as_str())),
            None => Ok(()),
        }
    }

    /// Counts a request to an endpoint that needs no credential.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn count_anonymous(&self, class: Class, from: Origin) -> Result<Counted, Problem> {
        if !matches!(class, Class::Health | Class::Verification) {
            self.take_of_address(Policy::Anonymous, from)?;
            self.take_of_address(Policy::Address, from)?;
        }
        Ok(Counted { by_caller: false })
    }

    /// Counts a request whose credential was not accepted. Valid credentials from the same address are still
    /// accepted.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn count_failure(&self, from: Origin) -> Result<(), Problem> {
        self.take_of_address(Policy::FailedAuthentications, from)
    }

    /// Counts an attempt to sign in.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn count_sign_in(&self, from: Origin) -> Result<Counted, Problem> {
        self.take_of_address(Policy::SignIns, from)?;
        Ok(Counted { by_caller: false })
    }

    /// How many requests each policy has refused.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refused.iter().map(|counter| counter.load(Ordering::Relaxed));
        Policy::ALL.iter().map(|policy| policy.as_str()).zip(counts)
    }

    /// How long the answer to a refused request waits.
    #[must_use]
    pub(crate) fn delay(&self) -> Option<Duration> {
        let second = self.begun.elapsed().as_secs() << 32;
        let next = |seen: u64| Some(if seen < second { second + 1 } else { seen + 1 });
        let seen = self.refusals_in_second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let before = seen.unwrap_or_default();
        (before >= second + PROMPT_REFUSALS_MAX).then_some(REFUSAL_DELAY)
    }

    fn take_of_address(&self, policy: Policy, from: Origin) -> Result<(), Problem> {
        match from {
            Some(address) => self.take(Take::Tokens(1), &self.addresses, policy, Network::from(address)),
            // A request that the service sends itself.
            None => Ok(()),
        }
    }

    fn take(&self, take: Take, buckets: &Buckets, policy: Policy, subject: impl Hash) -> Result<(), Problem> {
        let quota = self.quotas.of(policy);
        if !quota.is_some() {
            return Ok(());
        }
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let subject = self.hashes.hash_one((policy, subject));
        let taken = match take {
            Take::Tokens(count) => buckets.take(subject, now, quota, count),
            Take::Nothing => buckets.has(subject, now, quota),
        };
        taken.map_err(|wait| {
            if let Some(counter) = self.refused.get(policy as usize) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            too_many(policy, quota, wait)
        })
    }
}

/// The problem of a request beyond a quota, whose bucket has a token after `wait` nanoseconds.
fn too_many(policy: Policy, quota: Quota, wait: u64) -> Problem {
    let (name, seconds) = (policy.as_str(), wait.div_ceil(NANOS).max(1));
    let (amount, span) = (quota.amount(), quota.seconds());
    let detail = format!(
        "more requests of {} than the policy {name} allows, {amount} in {span} s; wait {seconds} s",
        policy.whose()
    );
    let value = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from(seconds));
    Problem::new(Code::RateLimited, detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
        .with_header(POLICY, value(format!("\"{name}\";q={amount};w={span}")))
        .with_header(LIMIT, value(format!("\"{name}\";r=0;t={seconds}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(of: &'static [(Policy, &str)]) -> RateLimits {
        RateLimits::new(Quotas::new(|policy| {
            let given = of.iter().find(|row| row.0 == policy);
            given.map_or(Quota::NONE, |row| row.1.parse().unwrap())
        }))
    }

    fn caller(kind: ActorKind, id: &str, organization: Option<&str>) -> Principal {
        Principal {
            kind,
            id: id.into(),
            organization_id: organization.map(|id| id.parse().unwrap()),
            user_id: None,
            permissions: Vec::new(),
            expires_at: None,
        }
    }

    const FROM: Origin = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn callers_organizations_and_addresses_have_their_own_limits() {
        let limits = limits(&[
            (Policy::SessionWrites, "1/1h"),
            (Policy::Writes, "2/1h"),
            (Policy::OrganizationWrites, "5/1h"),
            (Policy::Address, "6/1h"),
        ]);
        let count = |kind, id: &str, organization, class| {
            let caller = caller(kind, id, organization);
            let counted = limits.count(&caller, class, FROM).and_then(|counted| match class {
                Class::Command(change) => limits.count_command(&caller, counted, change),
                _ => Ok(()),
            });
            counted.map_err(|problem| problem.detail)
        };
        let write = Class::Command(Change::Growth);
        let (session, key) = (ActorKind::PortalSession, ActorKind::RootKey);
        let mo = caller(session, "mo", Some("acme"));
        assert!((0..2).all(|_| limits.count(&mo, write, None).is_ok()), "a request without a command");
        assert!(count(session, "mo", Some("acme"), write).is_ok());
        assert!(count(session, "mo", Some("acme"), write).unwrap_err().contains("session-writes"));
        assert!(count(session, "mo", Some("acme"), Class::Read).is_ok(), "reads are not limited here");
        assert!(
            count(session, "mo", Some("acme"), Class::Command(Change::Removal)).is_ok(),
            "removals count apart"
        );
        assert!(count(key, "mo", Some("acme"), write).is_ok(), "another kind of caller");
        assert!(count(key, "mo", None, write).is_ok(), "nor are operators");
        for id in ["b", "c", "d"] {
            let counted = count(key, id, Some("acme"), write);
            assert_eq!(counted.is_ok(), id != "d", "{counted:?}");
        }
        let refused = count(key, "e", Some("other"), write).unwrap_err();
        assert!(refused.contains("policy address allows, 6 in 3600 s"), "{refused}");
        assert_eq!(limits.refused().map(|(_, count)| count).sum::<u64>(), 3);
    }

    #[test]
    fn verifications_are_counted_by_token_and_not_by_request() {
        let limits = limits(&[(Policy::Verifications, "10/1h"), (Policy::Address, "1/1h")]);
        let caller = caller(ActorKind::RootKey, "a", Some("acme"));
        assert!(limits.count_tokens(&caller, 9).is_ok());
        assert!(limits.count_tokens(&caller, 2).is_err());
        assert!(limits.count(&caller, Class::Verification, FROM).is_ok());
        assert!(limits.count(&caller, Class::Verification, FROM).is_err());
        assert!(limits.count_anonymous(Class::Verification, FROM).is_ok(), "what gateways ask is not");
    }

    #[test]
    fn the_headers_name_the_policy() {
        let limits = limits(&[(Policy::Anonymous, "1/30s")]);
        assert!(limits.count_anonymous(Class::Read, FROM).is_ok());
        let headers = limits.count_anonymous(Class::Read, FROM).unwrap_err().headers.unwrap();
        assert_eq!(headers[POLICY], "\"anonymous\";q=1;w=30");
        assert_eq!(headers[LIMIT], "\"anonymous\";r=0;t=30");
        assert_eq!(headers[header::RETRY_AFTER], "30");
        assert!(limits.count_anonymous(Class::Health, FROM).is_ok());
        assert!(limits.count_anonymous(Class::Read, None).is_ok(), "what the service asks itself");
    }

    #[test]
    fn a_flood_of_refusals_is_answered_slowly() {
        let limits = limits(&[]);
        let prompt = (0..PROMPT_REFUSALS_MAX * 3).filter(|_| limits.delay().is_none()).count() as u64;
        assert!((PROMPT_REFUSALS_MAX..=PROMPT_REFUSALS_MAX * 2).contains(&prompt), "{prompt}");
    }
}
