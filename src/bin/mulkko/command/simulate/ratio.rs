//! Whether a split is as intended.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::Share;

/// Whether a split is as intended, by a χ² test.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleRatio {
    pub chi_squared: f64,
    /// How likely a deviation as large is by chance.
    pub p: f64,
    pub as_intended: bool,
}

impl SampleRatio {
    /// Compares a split with what was intended; one that is no likelier than `likely` is not as intended.
    pub fn of(variants: &[Share], likely: f64) -> Option<SampleRatio> {
        let total: u64 = variants.iter().map(|it| it.split).sum();
        let intended: Vec<&Share> = variants.iter().filter(|it| it.intended > 0.0).collect();
        if total == 0 || intended.len() < 2 {
            return None;
        }
        let deviation = |it: &&Share| {
            let expected = it.intended * total as f64;
            (it.split as f64 - expected).powi(2) / expected
        };
        let chi_squared: f64 = intended.iter().map(deviation).sum();
        let p = chi_squared_tail(chi_squared, intended.len() - 1);
        Some(SampleRatio { chi_squared, p, as_intended: p >= likely })
    }
}

/// How likely χ² is as large, or larger.
fn chi_squared_tail(chi_squared: f64, degrees: usize) -> f64 {
    ChiSquared::new(degrees as f64).map_or(1.0, |distribution| distribution.sf(chi_squared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_tables() {
        for (chi_squared, degrees, p) in
            [(3.841, 1, 0.05), (10.828, 1, 0.001), (5.991, 2, 0.05), (29.588, 10, 0.001)]
        {
            assert!((chi_squared_tail(chi_squared, degrees) - p).abs() < p / 1_000.0);
        }
    }
}
