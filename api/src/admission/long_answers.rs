//! Long answers: streams of events, files of events, and backups. A client may take as long as it likes to
//! read one, so each caller has a bounded number of them.

use std::sync::Arc;

use http::{HeaderValue, header};
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::id::OrganizationId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::holders::{Hold, Holders};
use super::rate_limits::{LIMIT, POLICY};
use super::refusal::{Refusal, Refusals};
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::principal::Principal;

/// The long answers of one organization's callers together, and those of all callers, in terms of those of
/// one caller.
const OF_ORGANIZATION: u32 = 2;
const OF_ALL: u32 = 8;
/// Backups at a time: each reads the whole log, and keeps up to 256 events in memory.
const BACKUPS_MAX: usize = 4;
/// How long a refused caller should wait, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// Whose long answers are counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Reader {
    Caller(ActorKind, Box<str>),
    Organization(OrganizationId),
}

/// The long answers that are being read.
pub(crate) struct LongAnswers {
    of_caller_max: u32,
    readers: Holders<Reader>,
    all: Arc<Semaphore>,
    backups: Arc<Semaphore>,
}

/// One long answer. Dropping it makes room for another one.
pub(crate) struct LongAnswer {
    _holds: [Option<Hold<Reader>>; 2],
    _permits: Vec<OwnedSemaphorePermit>,
}

impl LongAnswers {
    /// Allows each caller so many at a time.
    #[must_use]
    pub(crate) fn new(of_caller_max: u32) -> Self {
        let all = of_caller_max.saturating_mul(OF_ALL) as usize;
        Self {
            of_caller_max,
            readers: Holders::default(),
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
        }
    }

    /// Begins a stream or a file for a caller.
    ///
    /// # Errors
    /// `rate_limited` for a caller with too many, `overloaded` when there are too many in all.
    pub(crate) fn begin(&self, caller: &Principal, refusals: &Refusals) -> Result<LongAnswer, Problem> {
        let max = self.of_caller_max;
        let begun = || {
            let reader = Reader::Caller(caller.kind, caller.id.clone());
            let own = self.readers.take(reader, max)?;
            let bound = caller.organization_id.clone();
            let of_organization = match bound {
                Some(id) => {
                    Some(self.readers.take(Reader::Organization(id), max.saturating_mul(OF_ORGANIZATION))?)
                }
                None => None,
            };
            Some([Some(own), of_organization])
        };
        let holds = begun().ok_or_else(|| {
            refusals.note(Refusal::LongAnswersOfCaller);
            self.too_many()
        })?;
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| {
            refusals.note(Refusal::LongAnswers);
            Problem::new(Code::Overloaded, "too many streams, files and backups are being read")
        })?;
        Ok(LongAnswer { _holds: holds, _permits: vec![permit] })
    }

    /// Begins a backup for a caller.
    ///
    /// # Errors
    /// As [`LongAnswers::begin`].
    pub(crate) fn begin_backup(
        &self,
        caller: &Principal,
        refusals: &Refusals,
    ) -> Result<LongAnswer, Problem> {
        let mut begun = self.begin(caller, refusals)?;
        let permit = Arc::clone(&self.backups).try_acquire_owned().map_err(|_| {
            refusals.note(Refusal::LongAnswers);
            Problem::new(Code::Overloaded, format!("{BACKUPS_MAX} backups are being read already"))
        })?;
        begun._permits.push(permit);
        Ok(begun)
    }

    /// The problem of a caller with too many. Its headers are those of draft-ietf-httpapi-ratelimit-headers.
    fn too_many(&self) -> Problem {
        let max = self.of_caller_max;
        let detail = format!(
            "the caller reads {max} streams, files or backups already, or its organization twice as many; \
             end one of them first"
        );
        let policy = format!("\"long-answers\";q={max};qu=\"concurrent-requests\"");
        Problem::new(Code::RateLimited, detail)
            .with_header(header::RETRY_AFTER, RETRY_AFTER)
            .with_header(POLICY, HeaderValue::try_from(policy).unwrap_or(RETRY_AFTER))
            .with_header(LIMIT, HeaderValue::from_static("\"long-answers\";r=0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(id: &str, organization: Option<&str>) -> Principal {
        Principal {
            kind: ActorKind::RootKey,
            id: id.into(),
            organization_id: organization.map(|id| id.parse().unwrap()),
            user_id: None,
            permissions: Vec::new(),
            expires_at: None,
        }
    }

    #[test]
    fn callers_organizations_and_all_are_bounded() {
        let (answers, refusals) = (LongAnswers::new(2), Refusals::default());
        let begin = |id: &str, organization| answers.begin(&caller(id, organization), &refusals);
        let code = |begun: Result<LongAnswer, Problem>| begun.err().map(|problem| problem.code);
        let mut open = Vec::new();
        for id in ["a", "b"] {
            open.extend([begin(id, Some("acme")).ok(), begin(id, Some("acme")).ok()]);
            assert_eq!(code(begin(id, Some("acme"))), Some(Code::RateLimited));
        }
        assert!(open.iter().all(Option::is_some));
        assert_eq!(code(begin("c", Some("acme"))), Some(Code::RateLimited), "the organization has four");
        for id in 0..12 {
            open.push(begin(&format!("operator {id}"), None).ok());
        }
        assert!(open.iter().all(Option::is_some));
        assert_eq!(code(begin("one more", None)), Some(Code::Overloaded));
        open.clear();
        let backups: Vec<_> = (0..BACKUPS_MAX)
            .map(|id| answers.begin_backup(&caller(&format!("{id}"), None), &refusals).ok())
            .collect();
        assert!(backups.iter().all(Option::is_some));
        assert_eq!(code(answers.begin_backup(&caller("x", None), &refusals)), Some(Code::Overloaded));
        assert!(begin("x", None).is_ok(), "other long answers go on");
    }
}
