//! Keys created and ended per day as a bar chart: created above the line, revoked, expired and deleted below
//! it.

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::console::parts::number::grouped;

/// Height in units of the SVG view box, which is stretched to the available width.
const HEIGHT: u64 = 160;
/// Width of a day.
pub(crate) const SLOT: u64 = 10;
/// Width of a bar.
pub(crate) const BAR: u64 = 8;

/// A day as the API returns it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Day {
    /// The start of the day in UTC.
    pub start: Timestamp,
    pub created: u64,
    /// The number of revocations.
    pub revoked: u64,
    pub expired: u64,
    pub deleted: u64,
}

impl Day {
    /// The date: `12 Nov`.
    pub(crate) fn date(&self) -> String {
        self.start.to_datetime().format("%-d %b").to_string()
    }

    /// The number of keys that expired or were deleted.
    pub(crate) const fn ended(&self) -> u64 {
        self.expired + self.deleted
    }

    const fn below_line(&self) -> u64 {
        self.revoked + self.ended()
    }
}

/// A day's bars, each with its top and height.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bars {
    pub x: u64,
    pub created: (u64, u64),
    pub revoked: (u64, u64),
    /// Expired and deleted keys.
    pub ended: (u64, u64),
    /// The text on hover.
    pub title: String,
}

#[derive(Debug)]
pub(crate) struct DailyChart {
    /// Oldest first.
    pub days: Vec<Day>,
    pub bars: Vec<Bars>,
    /// The vertical position of the line.
    pub line: u64,
    pub width: u64,
    pub height: u64,
    pub is_empty: bool,
    /// A summary for screen readers.
    pub summary: String,
}

impl DailyChart {
    /// The chart of `days`, which are oldest first.
    pub(crate) fn of(days: Vec<Day>) -> Self {
        let most = |count: fn(&Day) -> u64| days.iter().map(count).max().unwrap_or(0);
        let (above, below) = (most(|day| day.created), most(Day::below_line));
        // Both sides share one scale, so that bars can be compared across the line.
        let whole = (above + below).max(1);
        let scaled = |count: u64| (count * HEIGHT).div_ceil(whole);
        let line = if below == 0 { HEIGHT } else { (above * HEIGHT) / whole };
        let bars = days.iter().zip(0..).map(|(day, index)| {
            let created = scaled(day.created).min(line);
            let all_below = scaled(day.below_line()).min(HEIGHT - line);
            let revoked = scaled(day.revoked).min(all_below);
            Bars {
                x: index * SLOT,
                created: (line - created, created),
                revoked: (line, revoked),
                ended: (line + revoked, all_below - revoked),
                title: format!(
                    "{}: {} created, {} revoked, {} expired, {} deleted",
                    day.date(),
                    grouped(day.created),
                    grouped(day.revoked),
                    grouped(day.expired),
                    grouped(day.deleted)
                ),
            }
        });
        let bars = bars.collect();
        let sum = |count: fn(&Day) -> u64| days.iter().map(count).sum::<u64>();
        let created = sum(|day| day.created);
        let summary = format!(
            "Last {} days: {} created, {} revoked, {} expired, {} deleted",
            days.len(),
            grouped(created),
            grouped(sum(|day| day.revoked)),
            grouped(sum(|day| day.expired)),
            grouped(sum(|day| day.deleted))
        );
        let is_empty = created + sum(Day::below_line) == 0;
        let width = (days.len() as u64 * SLOT).max(1);
        Self { days, bars, line, width, height: HEIGHT, is_empty, summary }
    }

    pub(crate) fn first(&self) -> String {
        self.days.first().map(Day::date).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(created: u64, revoked: u64, deleted: u64) -> Day {
        let start = Timestamp::from_millis(1_700_000_000_000);
        Day { start, created, revoked, expired: 0, deleted }
    }

    #[test]
    fn bars_start_at_the_line() {
        let chart = DailyChart::of(vec![day(6, 0, 0), day(0, 1, 1), day(0, 0, 0)]);
        assert_eq!((chart.line, chart.width, chart.is_empty), (120, 30, false));
        let bars: Vec<_> = chart.bars.iter().map(|bars| (bars.created, bars.revoked, bars.ended)).collect();
        assert_eq!(
            bars,
            [
                ((0, 120), (120, 0), (120, 0)),
                ((120, 0), (120, 20), (140, 20)),
                ((120, 0), (120, 0), (120, 0))
            ]
        );
        assert_eq!(chart.summary, "Last 3 days: 6 created, 1 revoked, 0 expired, 1 deleted");
        assert!(DailyChart::of(vec![day(0, 0, 0)]).is_empty);
        // A small count stays visible beside a large one, and no bar leaves the drawing.
        for chart in [DailyChart::of(vec![day(1, 0, 999)]), DailyChart::of(vec![day(999, 1, 0)])] {
            let bars = &chart.bars[0];
            assert!(bars.ended.0 + bars.ended.1 <= HEIGHT && bars.created.0 <= chart.line, "{bars:?}");
        }
    }
}
