//! What a guard shows: counters and gauges.

use crate::guard::Process;
use crate::guard::evidence::{BETS, ODDS};
use crate::guard::record::{Batch, Case, Keyed, State, Tally};
use crate::guard::terms::{Guard, TESTS};
use crate::policy::Rollout;

/// How many series a variant has at most for one comparison, or beside all of them.
pub const PLACES: usize = 3 + BETS;

/// The names of a variant's gauges.
const GAUGES: [&str; 6] = [
    "guard_errors_evidence_millibans",
    "guard_latency_evidence_millibans",
    P,
    "guard_hold",
    "guard_breached",
    ROLLED_BACK,
];
/// How likely a variant that is no worse would ever have shown as much.
const P: &str = "guard_p_millionths";
/// Whether the variant is given up.
const ROLLED_BACK: &str = "guard_rolled_back";

/// A counter or a gauge of a guarded variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series<'a> {
    /// The rollout.
    pub rollout: &'a str,
    /// The variant.
    pub variant: &'a str,
    /// Which comparison, where it is one's.
    pub test: Option<Test>,
    /// The odds of the bet, where it is one's.
    pub odds: Option<f64>,
    /// What is shown.
    pub metric: &'static str,
    /// Where it stands among the series of the variant and the comparison, below [`PLACES`].
    pub place: usize,
    /// Whether it only ever grows.
    pub is_counter: bool,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// Of errors.
    Errors,
    /// Of responses slower than a quantile of the default's, in millionths.
    Slow(u32),
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Test::Errors => f.write_str("errors"),
            Test::Slow(millionths) => write!(f, "p{}", f64::from(*millionths) / 1e4),
        }
    }
}

/// The counters of one comparison, by variant.
#[derive(Clone, Copy)]
enum Counter {
    Requests,
    BadRequests,
    Events,
    Cost(usize),
}

fn counter<'a>(rollout: &'a str, variant: &'a str, test: Test, counter: Counter) -> Series<'a> {
    let (place, metric, odds) = match counter {
        Counter::Requests => (0, "guard_requests", None),
        Counter::BadRequests => (1, "guard_bad_requests", None),
        Counter::Events => (2, "guard_events", None),
        Counter::Cost(bet) => (3 + bet, "guard_cost_micronats", ODDS.get(bet).copied()),
    };
    Series { rollout, variant, test: Some(test), odds, metric, place, is_counter: true }
}

fn gauges<'a>(rollout: &'a str, variant: &'a str) -> impl Iterator<Item = Series<'a>> {
    GAUGES.iter().enumerate().map(move |(i, metric)| Series {
        rollout,
        variant,
        test: None,
        odds: None,
        metric,
        place: i,
        is_counter: false,
    })
}

/// The gauge that shows whether a variant is given up.
pub fn rolled_back<'a>(rollout: &'a str, variant: &'a str) -> Option<Series<'a>> {
    gauges(rollout, variant).find(|series| series.metric == ROLLED_BACK)
}

/// The comparisons of a guard, by their places.
fn tests(guard: &Guard) -> impl Iterator<Item = (usize, Test)> {
    let errors = guard.errors.iter().map(|_| (0, Test::Errors));
    let quantiles = guard.latency.iter().flat_map(|latency| &latency.quantiles);
    errors.chain((1..).zip(quantiles.map(|millionths| Test::Slow(*millionths))))
}

/// Everything that a guarded rollout shows.
pub fn all(rollout: &Rollout) -> Vec<Series<'_>> {
    let mut all = Vec::new();
    let Some(guard) = &rollout.guard else { return all };
    let names = |id| rollout.variant(id).map(|variant| &*variant.name);
    for variant in guard.compared.iter().filter_map(|id| names(*id)) {
        // Before anything is judged the one would show as 0, which is the strongest evidence.
        all.extend(gauges(&rollout.name, variant).filter(|gauge| gauge.metric != P));
        for (_, test) in tests(guard) {
            let counters = [Counter::Requests, Counter::BadRequests, Counter::Events];
            let counters = counters.into_iter().chain((0..BETS).map(Counter::Cost));
            all.extend(counters.map(|it| counter(&rollout.name, variant, test, it)));
        }
    }
    if let Some(default) = names(rollout.default) {
        for (_, test) in tests(guard) {
            let counters = [Counter::Requests, Counter::BadRequests];
            all.extend(counters.map(|it| counter(&rollout.name, default, test, it)));
        }
    }
    all
}

/// Publishes a batch that was added to a case, and how the case stands.
pub fn publish(
    rollout: &Rollout,
    variant: &str,
    batch: &Batch,
    case: &Case,
    guard: &Guard,
    process: &dyn Process,
) {
    publish_tallies(rollout, variant, guard, batch.own, process);
    for (i, test) in tests(guard) {
        let Keyed { sums, .. } = batch.tests.get(i).copied().unwrap_or_default();
        let add = |it, by| process.add(&counter(&rollout.name, variant, test, it), by);
        add(Counter::Events, sums.events);
        for (bet, cost) in sums.costs.into_iter().enumerate() {
            add(Counter::Cost(bet), micronats(cost));
        }
    }
    let values = [
        case.errors(guard).map(millibans),
        case.latency(guard).map(millibans),
        Some(rounded((case.p(guard) * 1e6).ceil())),
        Some(u64::from(case.state == State::Hold)),
        Some(u64::from(case.state == State::Breached)),
    ];
    for (gauge, value) in gauges(&rollout.name, variant).zip(values) {
        if let Some(value) = value {
            process.show(&gauge, value);
        }
    }
}

/// Publishes what the default has had.
pub fn publish_default(rollout: &Rollout, guard: &Guard, tallies: [Tally; TESTS], process: &dyn Process) {
    if let Some(default) = rollout.variant(rollout.default) {
        publish_tallies(rollout, &default.name, guard, tallies, process);
    }
}

fn publish_tallies(
    rollout: &Rollout,
    variant: &str,
    guard: &Guard,
    tallies: [Tally; TESTS],
    process: &dyn Process,
) {
    for (i, test) in tests(guard) {
        let tally = tallies.get(i).copied().unwrap_or_default();
        let add = |it, by| process.add(&counter(&rollout.name, variant, test, it), by);
        add(Counter::Requests, tally.requests);
        add(Counter::BadRequests, tally.bad);
    }
}

/// Shows a variant that is judged no more, or anew: nothing speaks against it.
pub fn clear(rollout: &str, variant: &str, process: &dyn Process) {
    for gauge in gauges(rollout, variant) {
        process.show(&gauge, if gauge.metric == P { 1_000_000 } else { 0 });
    }
}

/// Nats in millionths, rounded up: evidence that is judged from counters is never higher than it was.
fn micronats(nats: f64) -> u64 {
    rounded((nats * 1e6).ceil())
}

/// Evidence as thousandths of its decimal logarithm. Gauges have no sign: evidence below 1, which says nothing against a
/// variant, shows as 0.
fn millibans(log_e: f64) -> u64 {
    rounded((log_e / std::f64::consts::LN_10 * 1e3).round())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is negative becomes 0")]
fn rounded(number: f64) -> u64 {
    number.max(0.0) as u64
}
