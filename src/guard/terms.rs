//! What a policy's guard says, compiled.

use crate::bucket::Seed;
use crate::guard::ended::Failures;
use crate::schedule::{Split, VariantId};

/// The most variants that a guard compares with the default: what it keeps must stay small.
pub const MAX_COMPARED: usize = 3;
/// The most quantiles at which it compares latencies.
pub const MAX_QUANTILES: usize = 2;
/// How many comparisons a guard makes at most: errors, and one for each quantile.
pub const TESTS: usize = 1 + MAX_QUANTILES;

/// A rollout's guard.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// The variants that are compared with the default.
    pub compared: Box<[VariantId]>,
    /// The logarithm of the evidence at which a variant is given up, for each of the comparisons.
    pub breach: f64,
    /// How many times the default's odds of a bad event are tolerated.
    pub margin: f64,
    /// What counts once.
    pub unit: Unit,
    /// Errors, where they are compared.
    pub errors: Option<Errors>,
    /// Latency, where it is compared.
    pub latency: Option<Latency>,
    /// How long requests are gathered before they are judged, in milliseconds.
    pub window_ms: i64,
    /// How long a variant's first requests do not count, in milliseconds.
    pub warmup_ms: i64,
    /// What a breach leads to.
    pub on_breach: OnBreach,
    /// What is asked, hashed: evidence for the answer to another question says nothing.
    pub terms: u64,
    /// The guard and its rollout, hashed: what was seen under another policy is of use under this one where they agree.
    pub identity: u64,
}

/// How many of the buckets the variants had that a guard compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Widths {
    /// The default.
    pub default: u64,
    /// The others, in the order of [`Guard::compared`].
    pub compared: [u64; MAX_COMPARED],
}

/// What counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A request: each is bucketed for itself.
    Request,
    /// A targeting key, by its first bad event.
    Key,
}

/// What a breach leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBreach {
    /// The variant gives way to the default.
    Rollback,
    /// It is told.
    Report,
}

/// How errors are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// The share of errors that is tolerated whatever the default's is.
    pub floor: f64,
    /// Whether they are compared with the default's, too.
    pub is_relative: bool,
    /// Which outcomes are errors.
    pub failures: Failures,
    /// How many a variant must have had.
    pub min_events: u64,
}

/// How latencies are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// The quantiles of the default's latencies above which a response is slow, in millionths.
    pub quantiles: Box<[u32]>,
    /// How much slower than the default's median a slow response is at least, in microseconds.
    pub min_delta_us: u64,
    /// How many responses of the default the 99th percentile needs; other quantiles need as many as have as many
    /// slower ones.
    pub min_baseline: u64,
    /// How many slow responses a variant must have had.
    pub min_events: u64,
}

impl Guard {
    /// Tells this guard's question about a rollout with that seed from others.
    #[must_use]
    pub fn asked(&self, seed: Seed) -> Seed {
        Seed(seed.0 ^ self.terms)
    }

    /// How many buckets each of the variants has under a split.
    #[must_use]
    pub fn widths(&self, split: Split<'_>, default: VariantId) -> Widths {
        let mut widths = Widths { default: split.width(default), ..Widths::default() };
        for (width, variant) in widths.compared.iter_mut().zip(&self.compared) {
            *width = split.width(*variant);
        }
        widths
    }

    /// Whether anything is compared with the default.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        self.errors.as_ref().is_some_and(|errors| errors.is_relative) || self.latency.is_some()
    }

    /// Whether requests of both sides must be there before either can be judged.
    #[must_use]
    pub fn compares_requests(&self) -> bool {
        self.unit == Unit::Request && self.is_relative()
    }
}

impl Latency {
    /// How many responses of the default a quantile needs.
    #[must_use]
    pub fn baseline(&self, millionths: u32) -> u64 {
        let slower = u64::from(1_000_000_u32.saturating_sub(millionths)).max(1);
        self.min_baseline.saturating_mul(10_000).div_ceil(slower)
    }
}
