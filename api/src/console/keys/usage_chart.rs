//! A key's verifications as a bar chart: valid ones below, refused ones stacked above.

use std::collections::{BTreeMap, HashMap};

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::console::parts::number::grouped;
use crate::console::parts::outcome::in_words;

const HOUR_MILLIS: i64 = 60 * 60 * 1_000;
/// Dimensions in units of the SVG view box.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 140;
const LEFT: u64 = 44;

/// A key's usage as the API returns it.
#[derive(Debug, Deserialize)]
pub(crate) struct Usage {
    pub last_verified_ip: Option<String>,
    /// All verifications of the key.
    pub total: u64,
    /// All verifications by code.
    pub outcomes: BTreeMap<String, u64>,
    /// The hours or days with at least one verification.
    data: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    start: Timestamp,
    total: u64,
    outcomes: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    pub x: u64,
    pub width: u64,
    /// Top and height of the refused part.
    pub refused: (u64, u64),
    /// Top and height of the valid part.
    pub valid: (u64, u64),
    /// The text on hover.
    pub title: String,
    /// The label under the bar.
    pub label: Option<String>,
}

/// A row of the table: an hour or a day.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub time: String,
    /// The count of each of the chart's outcomes.
    pub counts: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Chart {
    /// The outcomes that occurred, in words, valid first.
    pub outcomes: Vec<&'static str>,
    /// The counts of each period with verifications, latest first.
    pub rows: Vec<Row>,
    pub bars: Vec<Bar>,
    /// The label of the top of the axis.
    pub top: String,
    pub is_empty: bool,
    /// A summary for screen readers.
    pub summary: String,
}

impl Chart {
    /// The chart of the last 24 hours, or of the last 30 days.
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
        let occurred = usage.data.iter().flat_map(|part| part.outcomes.iter());
        let mut codes: Vec<&str> =
            occurred.filter(|(_, count)| **count > 0).map(|(code, _)| code.as_str()).collect();
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
            let valid = part.and_then(|part| part.outcomes.get("VALID")).copied().unwrap_or(0);
            let at = Timestamp::from_millis(start).to_datetime();
            let time = time_of(start);
            let height = |count: u64| (count * HEIGHT).div_ceil(top).min(HEIGHT);
            let (all, valid_height) = (height(total), height(valid));
            Bar {
                x: LEFT + index * slot,
                width: slot.saturating_sub(3),
                refused: (HEIGHT - all, all - valid_height),
                valid: (HEIGHT - valid_height, valid_height),
                title: format!("{time}: {} valid, {} refused", grouped(valid), grouped(total - valid)),
                label: index
                    .is_multiple_of(6)
                    .then(|| at.format(if by_day { "%-d %b" } else { "%H:00" }).to_string()),
            }
        };
        let sum: u64 = usage.data.iter().map(|part| part.total).sum();
        let valid: u64 = usage.data.iter().filter_map(|part| part.outcomes.get("VALID")).sum();
        let span = if by_day { "30 days" } else { "24 hours" };
        Self {
            outcomes: codes.iter().map(|code| in_words(code)).collect(),
            rows: usage.data.iter().rev().map(row).collect(),
            bars: (0..count).map(bar).collect(),
            top: grouped(top),
            is_empty: sum == 0,
            summary: format!(
                "{} {} in the last {span}: {} valid, {} refused",
                grouped(sum),
                if sum == 1 { "verification" } else { "verifications" },
                grouped(valid),
                grouped(sum - valid)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_are_placed_by_hour() {
        let now: Timestamp = "2026-11-12T15:20:00Z".parse().unwrap();
        let usage: Usage = serde_json::from_value(json!({
            "last_verified_at": null, "last_verified_ip": null, "total": 7, "outcomes": {},
            "data": [
                { "start": "2026-11-12T15:00:00.000Z", "total": 4, "outcomes": { "VALID": 3, "REVOKED": 1 } },
            ],
        }))
        .unwrap();
        let chart = Chart::of(&usage, false, now);
        assert_eq!(chart.bars.len(), 24);
        assert_eq!(chart.summary, "4 verifications in the last 24 hours: 3 valid, 1 refused");
        let last = chart.bars.last().unwrap();
        assert_eq!((last.refused, last.valid), ((0, 35), (35, 105)));
        assert_eq!(last.title, "12 Nov, 15:00 UTC: 3 valid, 1 refused");
        assert_eq!(chart.bars[0].valid, (140, 0));
        assert_eq!(chart.outcomes, ["Valid", "Revoked"]);
        let row = Row { time: "12 Nov, 15:00 UTC".into(), counts: vec!["3".into(), "1".into()] };
        assert_eq!(chart.rows, [row]);
    }
}
