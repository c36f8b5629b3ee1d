//! What a process knows about a guarded rollout: the evidence against each of its variants, as it lies in shared data.
//!
//! Every VM that has something to add reads the record, adds it and writes the record back if nobody else has written
//! since. So a batch is judged whole or not at all, and exactly once.

use std::fmt;
use std::hash::Hasher;

use fnv::FnvHasher;

use crate::bucket::Seed;
use crate::guard::evidence::{BETS, Evidence, Sums, count, log_sum, read_number, stakes};
use crate::guard::terms::{Guard, TESTS};

/// How many words of eight bytes the evidence against one variant takes.
const WORDS: usize = 4 + (TESTS + 1) * (BETS + 3) + TESTS * 2 + 4 * TESTS;
/// The most records that are read: of all variants that a rollout may have.
const MAX_CASES: usize = 100;
/// Evidence, in nats, from which on a variant's share should not be raised: 10 to 1...
const HOLD: f64 = std::f64::consts::LN_10;
/// ...until there is less than half of that.
const LET_GO: f64 = HOLD - std::f64::consts::LN_2;

/// What has been found out about a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing speaks against it.
    #[default]
    Watching,
    /// There is some evidence against it.
    Hold,
    /// There is as much as the guard asks for.
    Breached,
}

impl State {
    /// Its name in logs and headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Watching => "watching",
            State::Hold => "hold",
            State::Breached => "breached",
        }
    }
}

/// Requests and bad events of one variant, for one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that count.
    pub requests: u64,
    /// Bad ones among them; of targeting keys each one's first.
    pub bad: u64,
}

impl Tally {
    /// Adds an outcome.
    pub fn count(&mut self, is_bad: bool) {
        self.requests = self.requests.saturating_add(1);
        self.bad = self.bad.saturating_add(u64::from(is_bad));
    }

    /// What was added since it was `earlier`.
    #[must_use]
    pub fn since(self, earlier: Tally) -> Tally {
        Tally {
            requests: self.requests.saturating_sub(earlier.requests),
            bad: self.bad.saturating_sub(earlier.bad),
        }
    }

    fn merge(&mut self, other: Tally) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bad = self.bad.saturating_add(other.bad);
    }
}

/// What bad events of one comparison say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Keyed {
    /// When the epoch began in which they are their keys' first, in unix milliseconds; 0 where no keys are counted.
    pub epoch_ms: i64,
    /// What they say.
    pub sums: Sums,
}

impl Keyed {
    /// Adds others; those of another epoch take the place of these.
    pub fn merge(&mut self, other: &Keyed) {
        if other.sums.is_empty() {
            return;
        }
        if self.epoch_ms != other.epoch_ms {
            *self = Keyed { epoch_ms: other.epoch_ms, sums: Sums::default() };
        }
        self.sums.merge(&other.sums);
    }
}

/// What a VM adds to the case against a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    /// For each comparison, the bad events of both sides.
    pub tests: [Keyed; TESTS],
    /// The variant's errors beside what is tolerated.
    pub floor: Sums,
    /// What the variant had, for each comparison.
    pub own: [Tally; TESTS],
    /// What the default had meanwhile.
    pub default: [Tally; TESTS],
}

impl Batch {
    /// Adds another.
    pub fn merge(&mut self, other: &Batch) {
        for (test, more) in self.tests.iter_mut().zip(&other.tests) {
            test.merge(more);
        }
        self.floor.merge(&other.floor);
        for (tally, more) in self.own.iter_mut().zip(other.own) {
            tally.merge(more);
        }
        for (tally, more) in self.default.iter_mut().zip(other.default) {
            tally.merge(more);
        }
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Batch::default()
    }
}

/// The evidence of one comparison with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Comparison {
    evidence: Evidence,
    /// The epoch whose keys it is about, as [`Keyed::epoch_ms`] has it.
    epoch_ms: i64,
    /// How many epochs there were.
    epochs: u64,
}

impl Comparison {
    /// Takes what has happened. Evidence is about the keys of one epoch.
    fn take(&mut self, keyed: &Keyed) {
        if keyed.sums.is_empty() {
            return;
        }
        if keyed.epoch_ms != self.epoch_ms {
            // How high it once was stays known.
            let highest = (self.evidence.highest - self.price()).max(0.0);
            let epochs = self.epochs.saturating_add(1);
            *self = Comparison { evidence: Evidence::default(), epoch_ms: keyed.epoch_ms, epochs };
            self.evidence.highest = highest + self.price();
        }
        self.evidence.take(&keyed.sums);
    }

    /// What it costs, in nats, that there was not only this epoch: each has its part of the probability of being wrong,
    /// because what was found out in one of them says something about the others.
    fn price(&self) -> f64 {
        if self.epochs == 0 { 0.0 } else { -stakes(self.epochs).0.ln() }
    }

    fn log_e(&self) -> f64 {
        self.evidence.log_e() - self.price()
    }

    fn p(&self) -> f64 {
        (self.price() - self.evidence.highest).exp().min(1.0)
    }
}

/// The case against one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Case {
    /// How far it has come. A breach stays.
    pub state: State,
    /// The guard's terms under which it was brought.
    terms: u64,
    /// For each comparison with the default, the evidence.
    tests: [Comparison; TESTS],
    /// The highest evidence so far that it is slower.
    slowest: f64,
    /// The evidence that there are more errors than are tolerated.
    floor: Evidence,
    /// What the variant had, for each comparison.
    pub own: [Tally; TESTS],
    /// What the default had meanwhile.
    pub default: [Tally; TESTS],
}

impl Case {
    /// Takes a batch, and says how far the case has come under these terms.
    pub fn take(&mut self, batch: &Batch, guard: &Guard) {
        for (test, keyed) in self.tests.iter_mut().zip(&batch.tests) {
            test.take(keyed);
        }
        self.floor.take(&batch.floor);
        self.slowest = self.latency(guard).map_or(self.slowest, |log_e| log_e.max(self.slowest));
        let mut totals = Batch { own: self.own, default: self.default, ..Batch::default() };
        totals.merge(&Batch { own: batch.own, default: batch.default, ..Batch::default() });
        (self.own, self.default) = (totals.own, totals.default);
        if self.state == State::Breached {
            return;
        }
        let has_breached = |log_e: Option<f64>, bad: u64, least: Option<u64>| {
            log_e.is_some_and(|log_e| log_e >= guard.breach) && least.is_some_and(|least| bad >= least)
        };
        let [errors, slow @ ..] = &self.own;
        let slow = slow.iter().map(|tally| tally.bad).max().unwrap_or(0);
        let hold = if self.state == State::Hold { LET_GO } else { HOLD };
        self.state =
            if has_breached(self.errors(guard), errors.bad, guard.errors.as_ref().map(|it| it.min_events))
                || has_breached(self.latency(guard), slow, guard.latency.as_ref().map(|it| it.min_events))
            {
                State::Breached
            } else if self.suspicion(guard) >= hold {
                State::Hold
            } else {
                State::Watching
            };
    }

    /// The logarithm of the evidence that the variant has more errors than the default and than are tolerated.
    #[must_use]
    pub fn errors(&self, guard: &Guard) -> Option<f64> {
        let errors = guard.errors.as_ref()?;
        let [relative, ..] = &self.tests;
        let floor = self.floor.log_e();
        Some(if errors.is_relative { relative.log_e().min(floor) } else { floor })
    }

    /// The logarithm of the evidence that it is slower: the mean of the evidence at each quantile.
    #[must_use]
    pub fn latency(&self, guard: &Guard) -> Option<f64> {
        let quantiles = guard.latency.as_ref()?.quantiles.len();
        let [_, slow @ ..] = &self.tests;
        let sum = slow.iter().take(quantiles).fold(f64::NEG_INFINITY, |sum, it| log_sum(sum, it.log_e()));
        Some(sum - count(u64::try_from(quantiles).unwrap_or(1)).ln())
    }

    /// The evidence at each comparison, for those who want to see it: errors, the floor, each quantile.
    #[must_use]
    pub fn log_e(&self) -> ([f64; TESTS], f64) {
        (self.tests.map(|test| test.log_e()), self.floor.log_e())
    }

    /// The probability that a variant that is no worse ever shows as much as this one has shown, in any of its comparisons.
    #[must_use]
    pub fn p(&self, guard: &Guard) -> f64 {
        let [relative, ..] = &self.tests;
        let floor = self.floor.p();
        let errors =
            guard.errors.as_ref().map(|it| if it.is_relative { relative.p().max(floor) } else { floor });
        let slow = guard.latency.as_ref().map(|_| (-self.slowest).exp());
        let comparisons = u64::from(guard.errors.is_some()) + u64::from(guard.latency.is_some());
        (errors.into_iter().chain(slow).fold(1.0, f64::min) * count(comparisons)).min(1.0)
    }

    /// What is suspicious enough to hold.
    fn suspicion(&self, guard: &Guard) -> f64 {
        let found = self.suspected_errors(guard).into_iter().chain(self.latency(guard));
        found.fold(f64::NEG_INFINITY, f64::max)
    }

    /// The logarithm of the evidence that the variant has more errors than the default, whatever is tolerated.
    #[must_use]
    pub fn suspected_errors(&self, guard: &Guard) -> Option<f64> {
        let [relative, ..] = &self.tests;
        let errors = guard.errors.as_ref()?;
        Some(if errors.is_relative { relative.log_e() } else { self.floor.log_e() })
    }
}

/// All cases of a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    cases: Vec<(u64, Case)>,
}

impl Record {
    /// Reads what lies in shared data; of another seed, or damaged, it is empty.
    #[must_use]
    pub fn read(seed: Seed, bytes: &[u8]) -> Record {
        let (words, rest) = bytes.as_chunks::<8>();
        let Some((head, words)) = words.split_first() else { return Record::default() };
        let (cases, more) = words.as_chunks::<WORDS>();
        if *head != seed.0.to_le_bytes() || !rest.is_empty() || !more.is_empty() || cases.len() > MAX_CASES {
            return Record::default();
        }
        let cases = cases.iter().map(read_case).collect::<Option<_>>();
        Record { cases: cases.unwrap_or_default() }
    }

    /// What lies in shared data.
    #[must_use]
    pub fn bytes(&self, seed: Seed) -> Vec<u8> {
        let mut bytes = seed.0.to_le_bytes().to_vec();
        for (variant, case) in &self.cases {
            write_case(*variant, case, &mut bytes);
        }
        bytes
    }

    /// The case against a variant.
    #[must_use]
    pub fn case(&self, variant: &str) -> Option<&Case> {
        let variant = hashed(variant);
        self.cases.iter().find(|(it, _)| *it == variant).map(|(_, case)| case)
    }

    /// The case against a variant, opened now if there is none, or none under these terms.
    pub fn case_mut(&mut self, variant: &str, terms: u64) -> &mut Case {
        let variant = hashed(variant);
        let at = self.cases.iter().position(|(it, _)| *it == variant);
        let at = at.unwrap_or_else(|| {
            if self.cases.len() >= MAX_CASES {
                self.cases.remove(0);
            }
            self.cases.push((variant, Case::default()));
            self.cases.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it was found, or pushed")]
        let case = &mut self.cases[at].1;
        if case.terms != terms {
            *case = Case { terms, ..Case::default() };
        }
        case
    }

    /// Drops the case against a variant.
    pub fn drop_case(&mut self, variant: &str) {
        let variant = hashed(variant);
        self.cases.retain(|(it, _)| *it != variant);
    }
}

fn hashed(variant: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(variant.as_bytes());
    hasher.finish()
}

fn read_case(words: &[[u8; 8]; WORDS]) -> Option<(u64, Case)> {
    let mut words = words.iter();
    let mut integer = || words.next().copied().map(u64::from_le_bytes);
    let variant = integer()?;
    let state = match integer()? {
        0 => State::Watching,
        1 => State::Hold,
        2 => State::Breached,
        _ => return None,
    };
    let mut case = Case { state, terms: integer()?, ..Case::default() };
    case.slowest = read_number(integer()?)?;
    for test in &mut case.tests {
        test.evidence = Evidence::read(&mut integer)?;
        (test.epoch_ms, test.epochs) = (integer()?.cast_signed(), integer()?);
    }
    case.floor = Evidence::read(&mut integer)?;
    for tally in case.own.iter_mut().chain(&mut case.default) {
        *tally = Tally { requests: integer()?, bad: integer()? };
    }
    Some((variant, case))
}

fn write_case(variant: u64, case: &Case, bytes: &mut Vec<u8>) {
    let mut integer = |n: u64| bytes.extend(n.to_le_bytes());
    integer(variant);
    integer(match case.state {
        State::Watching => 0,
        State::Hold => 1,
        State::Breached => 2,
    });
    integer(case.terms);
    integer(case.slowest.to_bits());
    for test in &case.tests {
        test.evidence.write(&mut integer);
        integer(test.epoch_ms.cast_unsigned());
        integer(test.epochs);
    }
    case.floor.write(&mut integer);
    for tally in case.own.iter().chain(&case.default) {
        integer(tally.requests);
        integer(tally.bad);
    }
}

/// Evidence as odds, in plain words: `1 in 2,310`.
pub(crate) struct Odds(pub f64);

impl fmt::Display for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odds = self.0.exp();
        if odds < 1e15 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "below 10¹⁵, and positive"
            )]
            let odds = odds.max(1.0).round() as u64;
            let digits = odds.to_string();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i).is_multiple_of(3) {
                    f.write_str(",")?;
                }
                write!(f, "{digit}")?;
            }
            Ok(())
        } else {
            write!(f, "10^{:.0}", self.0 / std::f64::consts::LN_10)
        }
    }
}
