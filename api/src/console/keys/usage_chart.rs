//! How often a key was verified, as bars: what was good below, what was refused above.

use std::collections::{BTreeMap, HashMap};

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::console::parts::number::grouped;
use crate::console::parts::outcome::in_words;

const HOUR_MILLIS: i64 = 60 * 60 * 1_000;
/// The drawing's own measures.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 140;
const LEFT: u64 = 44;

/// Usage as the calls answer it.
#[derive(Debug, Deserialize)]
pub(crate) struct Usage {
    /// From where.
    pub last_verified_ip: Option<String>,
    /// All verifications there ever were.
    pub total: u64,
    /// The same by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Hours or days in which there was something.
    data: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    start: Timestamp,
    total: u64,
    outcomes: BTreeMap<String, u64>,
}

/// One bar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    /// Where it stands.
    pub x: u64,
    /// Its width.
    pub width: u64,
    /// Where the refused part begins, and its height.
    pub refused: (u64, u64),
    /// Where the good part begins, and its height.
    pub good: (u64, u64),
    /// What it says.
    pub title: String,
    /// What stands under it.
    pub label: Option<String>,
}

/// What verification answered in an hour or a day.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which.
    pub time: String,
    /// How often each of the chart's outcomes came.
    pub counts: Vec<String>,
}

/// A chart.
#[derive(Debug)]
pub(crate) struct Chart {
    /// The outcomes that came, the good one first, in words.
    pub outcomes: Vec<&'static str>,
    /// How often they came, the latest first, when anything did.
    pub rows: Vec<Row>,
    /// The bars.
    pub bars: Vec<Bar>,
    /// The number that the top stands for.
    pub top: String,
    /// Whether there is anything to see.
    pub is_empty: bool,
    /// What it says, for those who do not see it.
    pub summary: String,
}

impl Chart {
    /// The chart of the last day by the hour, or of the last 30 days.
    pub(crate) fn of(usage: &Usage, by_day: bool, now: Timestamp) -> Self {
        let (unit, count) = if by_day { (24 * HOUR_MILLIS, 30) } else { (HOUR_MILLIS, 24) };
        let parts: HashMap<i64, &Part> = usage.data.iter().map(|part| (part.start.millis(), part)).collect();
        let last = now.millis() - now.millis().rem_euclid(unit);
        let top = usage.data.iter().map(|part| part.total).max().unwrap_or(0).max(1);
        let slot = (WIDTH - LEFT) / count;
        let time_of = |start: i64| {
            let at = Timestamp::from_millis(start).to_datetime();
            at.format(if by_day { "%-d %b" } else { "%-d %b, %H:00 UTC" }).to_string()
        };
        let came = usage.data.iter().flat_map(|part| part.outcomes.iter());
        let mut codes: Vec<&str> =
            came.filter(|(_, count)| **count > 0).map(|(code, _)| code.as_str()).collect();
        codes.sort_unstable_by_key(|code| (*code != "VALID", *code));
        codes.dedup();
        let row = |part: &Part| Row {
            time: time_of(part.start.millis()),
            counts: codes
                .iter()
                .map(|code| grouped(part.outcomes.get(*code).copied().unwrap_or(0)))
                .collect(),
        };
        let bar = |index: u64| {
            let ago = i64::try_from(count - 1 - index).unwrap_or(0);
            let start = last - ago * unit;
            let part = parts.get(&start);
            let total = part.map_or(0, |part| part.total);
            let good = part.and_then(|part| part.outcomes.get("VALID")).copied().unwrap_or(0);
            let at = Timestamp::from_millis(start).to_datetime();
            let time = time_of(start);
            let height = |count: u64| (count * HEIGHT).div_ceil(top).min(HEIGHT);
            let (all, good_height) = (height(total), height(good));
            Bar {
                x: LEFT + index * slot,
                width: slot.saturating_sub(3),
                refused: (HEIGHT - all, all - good_height),
                good: (HEIGHT - good_height, good_height),
                title: format!("{time}: {} good, {} refused", grouped(good), grouped(total - good)),
                label: index
                    .is_multiple_of(6)
                    .then(|| at.format(if by_day { "%-d %b" } else { "%H:00" }).to_string()),
            }
        };
        let sum: u64 = usage.data.iter().map(|part| part.total).sum();
        let good: u64 = usage.data.iter().filter_map(|part| part.outcomes.get("VALID")).sum();
        let span = if by_day { "30 days" } else { "24 hours" };
        Self {
            outcomes: codes.iter().map(|code| in_words(code)).collect(),
            rows: usage.data.iter().rev().map(row).collect(),
            bars: (0..count).map(bar).collect(),
            top: grouped(top),
            is_empty: sum == 0,
            summary: format!(
                "{} {} in the last {span}: {} good, {} refused",
                grouped(sum),
                if sum == 1 { "verification" } else { "verifications" },
                grouped(good),
                grouped(sum - good)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_stand_where_their_hour_is() {
        let now: Timestamp = "2026-11-12T15:20:00Z".parse().unwrap();
        let usage: Usage = serde_json::from_value(json!({
            "last_verified_at": null, "last_verified_ip": null, "total": 7, "outcomes": {},
            "data": [{ "start": "2026-11-12T15:00:00.000Z", "total": 4, "outcomes": { "VALID": 3, "REVOKED": 1 } }],
        }))
        .unwrap();
        let chart = Chart::of(&usage, false, now);
        assert_eq!(chart.bars.len(), 24);
        assert_eq!(chart.summary, "4 verifications in the last 24 hours: 3 good, 1 refused");
        let last = chart.bars.last().unwrap();
        assert_eq!((last.refused, last.good), ((0, 35), (35, 105)));
        assert_eq!(last.title, "12 Nov, 15:00 UTC: 3 good, 1 refused");
        assert_eq!(chart.bars[0].good, (140, 0));
        assert_eq!(chart.outcomes, ["Good", "Revoked"]);
        let row = Row { time: "12 Nov, 15:00 UTC".into(), counts: vec!["3".into(), "1".into()] };
        assert_eq!(chart.rows, [row]);
    }
}
