//! Figures per round, and the table of their ratios.

use std::fmt;

/// The operations per second of one contestant in each round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(pub(crate) Vec<f64>);

impl Figures {
    /// The median over all rounds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The ratio to `other`, round by round.
    fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, other)| own / other).collect())
    }

    fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

/// The processor time of a process, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may contain spaces. User and system time are fields 14 and 15, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

struct Row {
    what: String,
    own: Figures,
    other: Figures,
    target: Option<f64>,
}

/// All comparisons of a run.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a comparison that passes if its median reaches `target`.
    pub(crate) fn compare(&mut self, what: &str, own: &Figures, other: &Figures, target: f64) {
        self.push(what, own, other, Some(target));
    }

    /// Adds a comparison without a target.
    pub(crate) fn show(&mut self, what: &str, own: &Figures, other: &Figures) {
        self.push(what, own, other, None);
    }

    fn push(&mut self, what: &str, own: &Figures, other: &Figures, target: Option<f64>) {
        self.rows.push(Row { what: what.into(), own: own.clone(), other: other.clone(), target });
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(
            f,
            "{:<60} {:>11} {:>11} {:>7} {:>15} {:>7}",
            "comparison", "Keyledger/s", "other/s", "ratio", "(min-max)", "target"
        )?;
        for Row { what, own, other, target } in &self.rows {
            let ratios = own.over(other);
            let verdict = target.map_or(String::new(), |target| {
                format!("{target:>7.2} {}", if ratios.median() >= target { "PASS" } else { "FAIL" })
            });
            let range = format!("({:.2}-{:.2})", ratios.min(), ratios.max());
            writeln!(
                f,
                "{what:<60} {:>11.0} {:>11.0} {:>7.2} {range:>15} {verdict}",
                own.median(),
                other.median(),
                ratios.median()
            )?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
