//! Figures and tables of the report.

use std::fmt::Write;

/// The report, and what in it differs from the statistics page by more than chance.
#[derive(Default)]
pub struct Report {
    pub text: String,
    pub compared: usize,
    pub differing: Vec<String>,
}

impl Report {
    pub fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push_str("\n\n");
    }

    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        self.text += &line(&head.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        self.text += &line(&vec!["---".to_owned(); head.len()]);
        rows.iter().for_each(|row| self.text += &line(row));
        self.text.push('\n');
    }

    /// A share of runs, in percent, with the page's figure beside it.
    pub fn share(&mut self, found: Share, page: Option<(f64, usize)>, what: &str) -> String {
        let mut cell = format!("{:.1}", found.percent());
        if let Some((percent, runs)) = page {
            write!(cell, " ({percent:.1})").expect("strings take all");
            self.compared += 1;
            if found.differs(percent, runs) {
                self.differing.push(format!(
                    "{what}: {:.1} % of {} runs, the page has {percent:.1} %",
                    found.percent(),
                    found.of
                ));
            }
        }
        cell
    }

    /// Compares a median with the page's, which may be missing. `grain` is the least by which it can differ.
    pub fn median(&mut self, found: &Sample, page: &str, grain: f64, what: &str) {
        self.compared += 1;
        let number: String = page.chars().take_while(char::is_ascii_digit).collect();
        let number: f64 = number.parse().unwrap_or(f64::INFINITY);
        // The page's has an error like ours: some 4.2 standard deviations of ours, 3 of the difference.
        let (low, high) = found.median_between(4.2);
        if number < low - grain || number > high + grain {
            let found = found.show();
            self.differing.push(format!("{what}: {found}, the page has {page}"));
        }
    }
}

/// How many runs of how many.
#[derive(Clone, Copy)]
pub struct Share {
    pub hits: usize,
    pub of: usize,
}

impl Share {
    pub fn of(hits: impl Iterator<Item = bool>) -> Share {
        hits.fold(Share { hits: 0, of: 0 }, |Share { hits, of }, hit| Share {
            hits: hits + usize::from(hit),
            of: of + 1,
        })
    }

    pub fn percent(self) -> f64 {
        100.0 * self.hits as f64 / self.of as f64
    }

    /// Whether it and another share, in percent, of so many runs are more than three standard deviations apart, and
    /// more than a run of both.
    fn differs(self, percent: f64, runs: usize) -> bool {
        let (ours, theirs) = (self.of as f64, runs as f64);
        let pooled = (self.hits as f64 + percent / 100.0 * theirs) / (ours + theirs);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / ours + 1.0 / theirs)).sqrt();
        let apart = (self.hits as f64 / ours - percent / 100.0).abs();
        apart > 3.0 * deviation && apart > 1.5 / ours + 1.5 / theirs
    }
}

/// Figures of runs; those in which nothing happened are infinite.
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn of(figures: impl Iterator<Item = Option<f64>>) -> Sample {
        let mut figures: Vec<f64> = figures.map(|it| it.unwrap_or(f64::INFINITY)).collect();
        figures.sort_unstable_by(f64::total_cmp);
        Sample(figures)
    }

    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.0.get(at.min(last)).copied().unwrap_or(f64::INFINITY)
    }

    /// Between what the median of infinitely many runs lies, within so many standard deviations.
    pub fn median_between(&self, deviations: f64) -> (f64, f64) {
        let by = deviations * 0.5 / (self.0.len() as f64).sqrt();
        (self.quantile((0.5 - by).max(0.0)), self.quantile((0.5 + by).min(1.0)))
    }

    /// The median and the 90th percentile.
    pub fn show(&self) -> String {
        let median = self.quantile(0.5);
        if median.is_finite() {
            format!("{median:.0} ({})", figure(self.quantile(0.9)))
        } else {
            let ended = self.0.iter().filter(|it| it.is_finite()).count();
            format!("— ({:.0} % det.)", 100.0 * ended as f64 / self.0.len() as f64)
        }
    }

    /// Between what the median lies with 95 %.
    pub fn show_error(&self) -> String {
        let (low, high) = self.median_between(1.96);
        format!("{}–{}", figure(low), figure(high))
    }
}

/// A figure without decimals.
pub fn figure(figure: f64) -> String {
    if figure.is_finite() { format!("{figure:.0}") } else { "∞".to_owned() }
}
