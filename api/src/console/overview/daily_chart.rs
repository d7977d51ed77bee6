//! What happened to keys on each of the last days, as bars: what came stands above the line, what went hangs below it.

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::console::parts::number::grouped;

/// The drawing's own measures: it is stretched to the width that there is.
const HEIGHT: u64 = 160;
/// Room for one day.
pub(crate) const SLOT: u64 = 10;
/// What of it a bar takes.
pub(crate) const BAR: u64 = 8;

/// A day as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Day {
    /// When it begins.
    pub start: Timestamp,
    /// How many keys were created.
    pub created: u64,
    /// How many times one was revoked.
    pub revoked: u64,
    /// How many came to the end of their time.
    pub expired: u64,
    /// How many were deleted.
    pub deleted: u64,
}

impl Day {
    /// The day as its date: `12 Nov`.
    pub(crate) fn date(&self) -> String {
        self.start.to_datetime().format("%-d %b").to_string()
    }

    /// How many ended, one way or the other.
    pub(crate) const fn ended(&self) -> u64 {
        self.expired + self.deleted
    }

    const fn went(&self) -> u64 {
        self.revoked + self.ended()
    }
}

/// One day's bars: where they begin, and their heights.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bars {
    /// Where they stand.
    pub x: u64,
    /// What was created.
    pub created: (u64, u64),
    /// What was revoked.
    pub revoked: (u64, u64),
    /// What ended.
    pub ended: (u64, u64),
    /// What they say.
    pub title: String,
}

/// The chart.
#[derive(Debug)]
pub(crate) struct DailyChart {
    /// The days, oldest first.
    pub days: Vec<Day>,
    /// Their bars.
    pub bars: Vec<Bars>,
    /// Where the line is.
    pub line: u64,
    /// Its width.
    pub width: u64,
    /// Its height.
    pub height: u64,
    /// Whether anything happened.
    pub is_empty: bool,
    /// What it says, for those who do not see it.
    pub summary: String,
}

impl DailyChart {
    /// The chart of some days, oldest first.
    pub(crate) fn of(days: Vec<Day>) -> Self {
        let most = |count: fn(&Day) -> u64| days.iter().map(count).max().unwrap_or(0);
        let (above, below) = (most(|day| day.created), most(Day::went));
        // Both sides have one scale, so that bars can be compared across the line.
        let whole = (above + below).max(1);
        let scaled = |count: u64| (count * HEIGHT).div_ceil(whole);
        let line = if below == 0 { HEIGHT } else { (above * HEIGHT) / whole };
        let bars = days.iter().zip(0..).map(|(day, index)| {
            let created = scaled(day.created).min(line);
            let went = scaled(day.went()).min(HEIGHT - line);
            let revoked = scaled(day.revoked).min(went);
            Bars {
                x: index * SLOT,
                created: (line - created, created),
                revoked: (line, revoked),
                ended: (line + revoked, went - revoked),
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
            "In {} days, {} were created, {} revoked, {} expired and {} deleted",
            days.len(),
            grouped(created),
            grouped(sum(|day| day.revoked)),
            grouped(sum(|day| day.expired)),
            grouped(sum(|day| day.deleted))
        );
        let is_empty = created + sum(Day::went) == 0;
        let width = (days.len() as u64 * SLOT).max(1);
        Self { days, bars, line, width, height: HEIGHT, is_empty, summary }
    }

    /// The first day's date.
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
    fn bars_stand_on_the_line_and_hang_from_it() {
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
        assert_eq!(chart.summary, "In 3 days, 6 were created, 1 revoked, 0 expired and 1 deleted");
        assert!(DailyChart::of(vec![day(0, 0, 0)]).is_empty);
        // What there is little of is seen beside what there is much of, and nothing leaves the drawing.
        for chart in [DailyChart::of(vec![day(1, 0, 999)]), DailyChart::of(vec![day(999, 1, 0)])] {
            let bars = &chart.bars[0];
            assert!(bars.ended.0 + bars.ended.1 <= HEIGHT && bars.created.0 <= chart.line, "{bars:?}");
        }
    }
}
