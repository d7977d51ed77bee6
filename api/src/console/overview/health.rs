//! How the service is doing, in words.

use std::fmt;

use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::parts::icon::Icon;
use crate::console::parts::number::grouped;
use crate::console::visit::visitor::Visitor;

/// Readiness as the calls answer it.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    position: u64,
    projections: Vec<Projection>,
    signing_refused: Option<String>,
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

/// A part of the service, and how it is doing.
pub(crate) struct Part {
    /// What people call it.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// How it is doing.
    pub state: State,
    /// What there is to say of it.
    pub detail: Option<String>,
}

/// How a part is doing: a word and a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// As it should.
    Well,
    /// Not yet.
    Busy,
    /// Not at all.
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

/// Its own words only.
impl askama::filters::HtmlSafe for State {}

/// How the service is doing.
pub(crate) struct Health {
    /// Whether all is well.
    pub is_well: bool,
    /// Events in the log.
    pub events: String,
    /// What is made from the log.
    pub parts: Vec<Part>,
    /// Why no checkpoint is signed, if none is.
    pub signing_refused: Option<String>,
}

impl Health {
    /// Asks.
    ///
    /// # Errors
    /// What the call answers.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        let readiness: Readiness = visitor.call(http::Method::GET, "/readyz").report().await?;
        let head = readiness.position;
        Ok(Self {
            is_well: readiness.ready && readiness.signing_refused.is_none(),
            events: grouped(head),
            parts: readiness.projections.into_iter().map(|it| part(it, head)).collect(),
            signing_refused: readiness.signing_refused,
        })
    }
}

fn part(projection: Projection, head: u64) -> Part {
    let (name, purpose) = match projection.name.as_str() {
        "verification-index" => ("Verification", "decides whether tokens are good"),
        "key-list" => ("Key list", "searches and sorts keys"),
        "audit-trail" => ("Audit trail", "finds events"),
        _ => ("Another projection", "made from the log"),
    };
    let state = match projection.status.as_str() {
        "live" => State::Well,
        "catching_up" => State::Busy,
        _ => State::Bad,
    };
    let of = |position: u64, head: u64| format!("{} of {} events", grouped(position), grouped(head));
    let detail = match (projection.reason, projection.rebuild) {
        (Some(reason), _) => Some(format!("{reason}; `replay-tool verify` says whether the log is whole")),
        (None, Some(rebuild)) => {
            let how_far = of(rebuild.position, rebuild.head);
            Some(format!("is being made anew beside the present one: {how_far}"))
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
    fn parts_are_told_in_words() {
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
            (State::Well, Some("is being made anew beside the present one: 5 of 9 events")),
        );
        check(
            "stopped",
            Some("at position 7: no"),
            json!(null),
            (State::Bad, Some("at position 7: no; `replay-tool verify` says whether the log is whole")),
        );
    }
}
