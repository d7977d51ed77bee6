//! The permit that a caller's command needs to reach the ledger.

use http::{HeaderValue, header};
use keyledger_engine::domain::application::ApplicationCommand;
use keyledger_engine::domain::key::KeyCommand;
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portal_session::PortalSessionCommand;
use keyledger_engine::domain::root_key::RootKeyCommand;
use keyledger_engine::domain::webhook::WebhookCommand;
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::holdings::{Kind, Reservation};

use super::caps::Capped;
use super::change::Change;
use super::rate_limits::{LIMIT, POLICY};
use super::refusal::Refusal;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::caller::Caller;
use crate::service::Service;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
/// How long a caller should wait for disk space, in seconds.
const DISK_RETRY_AFTER: HeaderValue = HeaderValue::from_static("30");

/// Leave for one command. It must be kept until the command is answered
/// ([`InFlight`](super::in_flight::InFlight)).
pub(crate) struct Permit {
    /// Room for what the command adds.
    reservation: Option<Reservation>,
}

impl Permit {
    /// Admits a caller's command.
    ///
    /// # Errors
    /// `rate_limited`, `organization_cap_reached`, `daily_bytes_reached`, `disk_space_low`.
    pub(crate) fn new(service: &Service, caller: &Caller, command: &Command) -> Result<Self, Problem> {
        let change = Change::of(command);
        service.rate_limits.count_command(&caller.principal, caller.counted, change)?;
        if change == Change::Removal {
            return Ok(Self { reservation: None });
        }
        if let Some(detail) = service.disk_reserve.problem() {
            service.metrics.refusals.note(Refusal::DiskSpace);
            let problem = Problem::new(Code::DiskSpaceLow, detail);
            return Err(problem.with_header(header::RETRY_AFTER, DISK_RETRY_AFTER));
        }
        let added = added_by(command);
        let organization_id = added.map(|(id, _)| id).or_else(|| caller.bound_to());
        // An organization that does not exist has no cap; a rule refuses the command.
        let Some(organization) = organization_id.and_then(|id| service.index.organization(id)) else {
            return Ok(Self { reservation: None });
        };
        check_bytes(service, &organization)?;
        let reservation = added.map(|(_, kind)| reserve(service, &organization, kind)).transpose()?;
        Ok(Self { reservation })
    }

    /// Whether dropping it before the command is answered would let others exceed a cap.
    pub(super) const fn holds_room(&self) -> bool {
        self.reservation.is_some()
    }
}

/// What a command adds, and to which organization.
fn added_by(command: &Command) -> Option<(&OrganizationId, Kind)> {
    Some(match command {
        Command::Key(_, KeyCommand::Create(key)) => (&key.organization_id, Kind::Key),
        Command::RootKey(_, RootKeyCommand::Create { organization_id, .. }) => {
            (organization_id.as_ref()?, Kind::RootKey)
        }
        Command::Application(_, ApplicationCommand::Create { organization_id, .. }) => {
            (organization_id.as_ref()?, Kind::Application)
        }
        Command::Webhook(_, WebhookCommand::Register { organization_id, .. }) => {
            (organization_id.as_ref()?, Kind::Webhook)
        }
        Command::PortalSession(_, PortalSessionCommand::Create { organization_id, .. }) => {
            (organization_id, Kind::PortalSession)
        }
        _ => return None,
    })
}

/// Reserves room for an object of an organization.
fn reserve(service: &Service, organization: &Organization, kind: Kind) -> Result<Reservation, Problem> {
    let organization_id = &organization.id;
    let capped = Capped::Objects(kind);
    let max = service.caps.max(organization.kind, capped);
    let reserved = service.holdings.reserve(organization_id, kind, max, service.now());
    reserved.map_err(|count| {
        service.metrics.refusals.note(Refusal::OrganizationCap);
        let (name, kind) = (capped.as_str(), organization.kind);
        let detail = format!(
            "the organization {organization_id} has {count} of at most {max} {name}; delete some that are \
             not needed, or ask the operator of the service to raise the cap (--organization-caps \
             {kind}:{name})"
        );
        let code = match capped {
            Capped::Objects(Kind::Webhook) => Code::TooManyWebhooks,
            _ => Code::OrganizationCapReached,
        };
        Problem::new(code, detail)
    })
}

/// Refuses an organization that has written as much today as it may. What is in the ledger's queue at that
/// moment may exceed the cap.
fn check_bytes(service: &Service, organization: &Organization) -> Result<(), Problem> {
    let organization_id = &organization.id;
    let (now, capped) = (service.now(), Capped::BytesPerDay);
    let max = service.caps.max(organization.kind, capped);
    let written = service.holdings.bytes_written(organization_id, now);
    if written < max {
        return Ok(());
    }
    service.metrics.refusals.note(Refusal::DailyBytes);
    let (name, kind, wait) = (capped.as_str(), organization.kind, until_midnight(now));
    let detail = format!(
        "the organization {organization_id} has written {written} of at most {max} bytes today (UTC); wait, \
         or ask the operator of the service to raise the cap (--organization-caps {kind}:{name})"
    );
    let value = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from(wait));
    Err(Problem::new(Code::DailyBytesReached, detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from(wait))
        .with_header(POLICY, value(format!("\"{name}\";q={max};qu=\"content-bytes\";w={SECONDS_PER_DAY}")))
        .with_header(LIMIT, value(format!("\"{name}\";r=0;t={wait}"))))
}

/// The seconds until the next day begins in UTC.
fn until_midnight(now: Timestamp) -> i64 {
    SECONDS_PER_DAY - now.millis().div_euclid(1_000).rem_euclid(SECONDS_PER_DAY)
}
