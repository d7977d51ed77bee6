//! Progress on standard error: a bar on a terminal, a line every few seconds elsewhere. Standard output stays
//! free for the report.

use std::fmt::Write;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use keyledger_engine::value::position::Position;

use crate::output::report::grouped;

/// Time between two progress lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const BAR: &str = "{msg} {bar:30} {human_pos} of {human_len} events, {rate} events/s, {eta} left";

/// The progress of one pass over the log.
pub(crate) struct Progress {
    label: String,
    end: Position,
    started: Instant,
    line_due: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts a pass called `label` that ends at position `end`.
    pub(crate) fn start(label: impl Into<String>, end: Position) -> Self {
        let (label, started) = (label.into(), Instant::now());
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(end.get()), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{}", grouped(state.per_sec() as u64));
            };
            bar.with_style(style.with_key("rate", rate)).with_message(label.clone())
        });
        Self { label, end, started, line_due: started + LINE_INTERVAL, bar }
    }

    /// Records that the pass has reached `position`.
    pub(crate) fn reached(&mut self, position: Position) {
        if let Some(bar) = &self.bar {
            bar.set_position(position.get());
        } else if Instant::now() >= self.line_due {
            self.line_due = Instant::now() + LINE_INTERVAL;
            let pace = self.pace(position);
            let (done, all) = (grouped(position.get()), grouped(self.end.get()));
            let rate = grouped(pace.events_per_second());
            let _ = writeln!(io::stderr().lock(), "{}: {done} of {all} events, {rate} events/s", self.label);
        }
    }

    /// Corrects the end position.
    pub(crate) fn set_end(&mut self, end: Position) {
        if self.end != end {
            self.end = end;
            if let Some(bar) = &self.bar {
                bar.set_length(end.get());
            }
        }
    }

    /// Ends the pass at `position` and returns its pace.
    pub(crate) fn finish(self, position: Position) -> Pace {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.pace(position)
    }

    fn pace(&self, position: Position) -> Pace {
        Pace { events: position.get(), elapsed: self.started.elapsed() }
    }
}

/// The number of events of a pass and the time it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    events: u64,
    elapsed: Duration,
}

impl Pace {
    /// The duration in seconds, to the millisecond.
    pub(crate) fn seconds(self) -> f64 {
        self.elapsed.as_millis() as f64 / 1_000.0
    }

    pub(crate) fn events_per_second(self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.events) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} s, {} events/s", self.seconds(), grouped(self.events_per_second()))
    }
}
