//! The health of the service, in words.

use std::fmt;

use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::parts::icon::Icon;
use crate::console::parts::number::grouped;
use crate::console::visit::visitor::Visitor;

/// Readiness as the API returns it.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    position: u64,
    projections: Vec<Projection>,
    signing_refused: Option<String>,
    disk_space_low: Option<String>,
}

#[derive(Deserialize)]
struct Projection {
    name: String,
    status: String,
    position: u64,
    reason: Option<String>,
    rebuild: Option<Rebuild>,
}

#[derive(Deserialize)]
struct Rebuild {
    position: u64,
    head: u64,
}

/// A part of the service and its state.
pub(crate) struct Part {
    pub name: &'static str,
    /// The part's purpose, as a verb phrase.
    pub purpose: &'static str,
    pub state: State,
    pub detail: Option<String>,
}

/// The state of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Well,
    Busy,
    Bad,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, icon, word) = match self {
            Self::Well => ("good", Icon::TICK, "Up to date"),
            Self::Busy => ("warn", Icon::CLOCK, "Catching up"),
            Self::Bad => ("bad", Icon::WARNING, "Stopped"),
        };
        write!(f, r#"<span class="badge {class}">{icon}{word}</span>"#)
    }
}

/// Display writes fixed words only.
impl askama::filters::HtmlSafe for State {}

pub(crate) struct Health {
    pub is_well: bool,
    /// The number of events in the log.
    pub events: String,
    /// The projections of the log.
    pub parts: Vec<Part>,
    /// Why checkpoints are not signed, if they are not.
    pub signing_refused: Option<String>,
    /// Why commands are refused for want of disk space, if they are.
    pub disk_space_low: Option<String>,
}

impl Health {
    /// Reads the readiness of the service.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        let readiness: Readiness = visitor.call(http::Method::GET, "/readyz").report().await?;
        let head = readiness.position;
        Ok(Self {
            is_well: readiness.ready
                && readiness.signing_refused.is_none()
                && readiness.disk_space_low.is_none(),
            events: grouped(head),
            parts: readiness.projections.into_iter().map(|it| part(it, head)).collect(),
            signing_refused: readiness.signing_refused,
            disk_space_low: readiness.disk_space_low,
        })
    }
}

fn part(projection: Projection, head: u64) -> Part {
    let (name, purpose) = match projection.name.as_str() {
        "verification-index" => ("Verification", "verifies tokens"),
        "key-list" => ("Key list", "searches and sorts keys"),
        "audit-trail" => ("Audit trail", "finds events"),
        _ => ("Other projection", "is built from the log"),
    };
    let state = match projection.status.as_str() {
        "live" => State::Well,
        "catching_up" => State::Busy,
        _ => State::Bad,
    };
    let of = |position: u64, head: u64| format!("{} of {} events", grouped(position), grouped(head));
    let detail = match (projection.reason, projection.rebuild) {
        (Some(reason), _) => Some(format!("{reason}. Run `replay-tool verify` to check the log.")),
        (None, Some(rebuild)) => {
            let how_far = of(rebuild.position, rebuild.head);
            Some(format!("Rebuilding while the current one stays in use: {how_far}"))
        }
        (None, None) if state == State::Busy => Some(of(projection.position, head)),
        (None, None) => None,
    };
    Part { name, purpose, state, detail }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_read_as_words() {
        let check = |status: &str, reason: Option<&str>, rebuild, expected: (State, Option<&str>)| {
            let projection = json!({
                "name": "key-list", "status": status, "position": 1_200, "reason": reason, "rebuild": rebuild,
            });
            let part = part(serde_json::from_value(projection).unwrap(), 3_000);
            assert_eq!((part.name, part.state, part.detail.as_deref()), ("Key list", expected.0, expected.1));
        };
        check("live", None, json!(null), (State::Well, None));
        check("catching_up", None, json!(null), (State::Busy, Some("1,200 of 3,000 events")));
        check(
            "live",
            None,
            json!({ "position": 5, "head": 9 }),
            (State::Well, Some("Rebuilding while the current one stays in use: 5 of 9 events")),
        );
        check(
            "stopped",
            Some("at position 7: no"),
            json!(null),
            (State::Bad, Some("at position 7: no. Run `replay-tool verify` to check the log.")),
        );
    }
}
