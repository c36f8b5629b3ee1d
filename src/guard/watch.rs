//! What one VM has seen of a guarded rollout and not yet told the others.

use crate::bucket::Bucket;
use crate::guard::Exposure;
use crate::guard::ended::Ended;
use crate::guard::evidence::{Sums, count};
use crate::guard::firsts::Firsts;
use crate::guard::histogram::Histogram;
use crate::guard::record::{Batch, Keyed, Tally};
use crate::guard::terms::{Guard, Latency, MAX_QUANTILES, TESTS, Unit};
use crate::schedule::{Schedule, VariantId};

/// So many requests close a window before its time.
const WINDOW_REQUESTS: u64 = 256;
/// How long a window waits for the side that has no requests, in milliseconds.
const PATIENCE_MS: i64 = 60_000;
/// How many of a variant's responses do not count at least, unless there is no warm-up.
const WARMUP_RESPONSES: u32 = 20;
/// How long thresholds of slowness are kept within a step, in milliseconds.
const THRESHOLDS_MS: i64 = 3_600_000;

/// What one VM has seen of a guarded rollout.
#[derive(Debug)]
pub struct Watch {
    /// Whether the next tick will look at it.
    pub is_queued: bool,
    default: VariantId,
    /// What the default has had, by comparison.
    tallies: [Tally; TESTS],
    /// How much of that was told.
    told: [Tally; TESTS],
    /// Those that are compared with the default.
    arms: Box<[Arm]>,
    slowness: Slowness,
    /// Copies of the process's bitmaps, by comparison.
    firsts: [Option<Firsts>; TESTS],
}

/// A variant that is compared with the default.
#[derive(Debug)]
struct Arm {
    variant: VariantId,
    /// What it has had, by comparison.
    tallies: [Tally; TESTS],
    warmup: Warmup,
    window: Window,
    /// What is to be told.
    pending: Batch,
}

/// What a variant that is compared takes.
#[cfg(test)]
pub(super) const ARM_BYTES: usize = size_of::<Arm>();

/// The first requests of a variant, which do not count.
#[derive(Debug, Default)]
struct Warmup {
    first_ms: Option<i64>,
    responses: u32,
    is_over: bool,
}

/// Requests that are gathered.
#[derive(Debug, Default)]
struct Window {
    since_ms: i64,
    /// What first bad events of keys have said.
    keyed: [Keyed; TESTS],
    own: [Tally; TESTS],
    default: [Tally; TESTS],
}

/// Which responses are slow.
#[derive(Debug, Default)]
struct Slowness {
    /// Of the default's responses since all thresholds were set.
    histogram: Histogram,
    thresholds: [Option<Threshold>; MAX_QUANTILES],
}

/// Above it a response is slow.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    us: u64,
    set_ms: i64,
    /// How many buckets the compared variants had then.
    width: u64,
}

impl Watch {
    /// Nothing was seen of a rollout, except that variants for which `is_known` holds have had requests before.
    pub fn new(
        guard: &Guard,
        default: VariantId,
        now_ms: i64,
        is_known: impl Fn(VariantId) -> bool,
    ) -> Watch {
        let arm = |variant: &VariantId| Arm {
            variant: *variant,
            tallies: Default::default(),
            warmup: Warmup { is_over: guard.warmup_ms == 0 || is_known(*variant), ..Warmup::default() },
            window: Window { since_ms: now_ms, ..Window::default() },
            pending: Batch::default(),
        };
        Watch {
            is_queued: false,
            default,
            tallies: Default::default(),
            told: Default::default(),
            arms: guard.compared.iter().map(arm).collect(),
            slowness: Slowness::default(),
            firsts: Default::default(),
        }
    }

    /// Counts a request that has ended so. Of a key's bad events only those count for which `first` says in which epoch they
    /// are the first; it is given the copy of the process's bitmap for that comparison.
    pub fn count(
        &mut self,
        exposure: &Exposure,
        ended: &Ended,
        guard: &Guard,
        schedule: &Schedule,
        now_ms: i64,
        mut first: impl FnMut(usize, Bucket, &mut Option<Firsts>) -> Option<i64>,
    ) {
        let is_default = exposure.variant == self.default;
        if is_default && let Some(us) = ended.latency_us() {
            self.slowness.histogram.record(us);
        }
        let own = self.arms.iter_mut().find(|arm| arm.variant == exposure.variant);
        let is_warm = own.is_none_or(|arm| arm.is_warm(guard, &self.tallies, now_ms));
        let mut outcomes = self.outcomes(ended, guard);
        for (test, outcome) in outcomes.iter_mut().enumerate() {
            if *outcome != Some(true) || guard.unit == Unit::Request {
                continue;
            }
            // A request without bucket is not split by key; there is none.
            let (Some(bucket), Some(copy)) = (exposure.bucket, self.firsts.get_mut(test)) else { continue };
            match first(test, bucket, copy) {
                Some(epoch_ms) if is_warm => self.keyed(test, epoch_ms, exposure, guard),
                Some(_) => {}
                None => *outcome = Some(false),
            }
        }
        // Not before: keys that fail while a variant warms up have had their first bad event, as the default's have.
        if !is_warm {
            return;
        }
        let own = self.arms.iter_mut().find(|arm| arm.variant == exposure.variant);
        let tallies = match own {
            Some(arm) => &mut arm.tallies,
            None if is_default => &mut self.tallies,
            None => return,
        };
        for (tally, outcome) in tallies.iter_mut().zip(outcomes) {
            if let Some(is_bad) = outcome {
                tally.count(is_bad);
            }
        }
        self.close(guard, schedule, now_ms);
    }

    /// What a request that ended so says, for each comparison; nothing where it says nothing.
    fn outcomes(&self, ended: &Ended, guard: &Guard) -> [Option<bool>; TESTS] {
        let errors = guard.errors.as_ref().and_then(|errors| ended.is_error(&errors.failures));
        let [a, b] = self.slowness.thresholds.map(|it| it.and_then(|it| ended.is_slower(it.us)));
        [errors, a, b]
    }

    /// Notes a key's first bad event in an epoch, for every variant that it bears on: with the share that the variant has of
    /// its own and the default's keys.
    fn keyed(&mut self, test: usize, epoch_ms: i64, exposure: &Exposure, guard: &Guard) {
        for (arm, width) in self.arms.iter_mut().zip(exposure.widths.compared) {
            let is_own = arm.variant == exposure.variant;
            if !arm.warmup.is_over || !(is_own || exposure.variant == self.default) {
                continue;
            }
            let share = share(count(width), count(exposure.widths.default), guard.margin);
            if let Some(keyed) = arm.window.keyed.get_mut(test) {
                let mut sums = Sums::default();
                sums.add(u64::from(is_own), 1, share);
                keyed.merge(&Keyed { epoch_ms, sums });
            }
        }
    }

    /// Closes the windows that are full or old.
    pub fn close(&mut self, guard: &Guard, schedule: &Schedule, now_ms: i64) {
        let mut has_closed = false;
        for arm in self.arms.iter_mut().filter(|arm| arm.warmup.is_over) {
            has_closed |= arm.close(&self.tallies, guard, now_ms);
        }
        if has_closed && let Some(latency) = &guard.latency {
            let widths = guard.widths(schedule.at(now_ms), self.default);
            self.slowness.renew(latency, widths.compared.iter().sum(), now_ms);
        }
    }

    /// What the default has had since this was last asked.
    pub fn untold_default(&mut self) -> [Tally; TESTS] {
        since(self.tallies, std::mem::replace(&mut self.told, self.tallies))
    }

    /// Whether requests are gathered or something is to be told.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.arms.iter().any(|arm| {
            let (own, other) = arm.gathered(&self.tallies);
            let has_requests = |tallies: &[Tally; TESTS]| tallies.iter().any(|it| it.requests > 0);
            !arm.pending.is_empty() || (arm.warmup.is_over && (has_requests(&own) || has_requests(&other)))
        })
    }

    /// What there is to tell about variants.
    pub fn pending(&mut self) -> impl Iterator<Item = (VariantId, &mut Batch)> {
        let pending = self.arms.iter_mut().filter(|arm| !arm.pending.is_empty());
        pending.map(|arm| (arm.variant, &mut arm.pending))
    }
}

impl Arm {
    /// Whether this request of its counts. The one that ends the warm-up does not: that it is the variant's is no chance.
    fn is_warm(&mut self, guard: &Guard, default: &[Tally; TESTS], now_ms: i64) -> bool {
        if self.warmup.is_over {
            return true;
        }
        // A clock that was set back must not make it longer.
        let first_ms = self.warmup.first_ms.map_or(now_ms, |first_ms| first_ms.min(now_ms));
        self.warmup.first_ms = Some(first_ms);
        self.warmup.responses = self.warmup.responses.saturating_add(1);
        let has_lasted = now_ms.saturating_sub(first_ms) >= guard.warmup_ms;
        if has_lasted && self.warmup.responses >= WARMUP_RESPONSES {
            self.warmup.is_over = true;
            self.open(default, now_ms);
        }
        false
    }

    fn open(&mut self, default: &[Tally; TESTS], now_ms: i64) {
        self.window = Window { since_ms: now_ms, own: self.tallies, default: *default, ..Window::default() };
    }

    /// What the variant and the default have had since the window was opened.
    fn gathered(&self, default: &[Tally; TESTS]) -> ([Tally; TESTS], [Tally; TESTS]) {
        (since(self.tallies, self.window.own), since(*default, self.window.default))
    }

    /// Closes the window, if it is full or old; whether it was.
    fn close(&mut self, default: &[Tally; TESTS], guard: &Guard, now_ms: i64) -> bool {
        let (own, other) = self.gathered(default);
        let age_ms = now_ms.saturating_sub(self.window.since_ms);
        let Some(mut batch) = Batch::of_window(&own, &other, age_ms, guard) else { return false };
        if guard.unit == Unit::Key {
            batch.tests = self.window.keyed;
        }
        self.pending.merge(&batch);
        self.open(default, now_ms);
        true
    }
}

impl Batch {
    /// What a window of so many milliseconds says; nothing while it is to stay open. It is closed by time or by the
    /// number of its requests, never by how they ended.
    #[must_use]
    pub fn of_window(
        own: &[Tally; TESTS],
        default: &[Tally; TESTS],
        age_ms: i64,
        guard: &Guard,
    ) -> Option<Batch> {
        let most = |tallies: &[Tally; TESTS]| tallies.iter().map(|it| it.requests).max().unwrap_or(0);
        let (own_requests, default_requests) = (most(own), most(default));
        let requests = own_requests + default_requests;
        // A clock that was set back must not hold a window open.
        let is_old = age_ms >= guard.window_ms || age_ms < 0;
        if !(is_old || requests >= WINDOW_REQUESTS) {
            return None;
        }
        // One in which nothing could be judged says nothing, and ends: as long as no response is slow or fast, because
        // nothing is known of the default's, there are no others.
        let is_one_sided = (own_requests == 0) != (default_requests == 0);
        if guard.compares_requests() && is_one_sided && (0..PATIENCE_MS).contains(&age_ms) {
            return None;
        }
        let mut batch = Batch { own: *own, default: *default, ..Batch::default() };
        if guard.unit == Unit::Request && !is_one_sided {
            for ((test, own), other) in batch.tests.iter_mut().zip(own).zip(default) {
                let share = share(count(own.requests), count(other.requests), guard.margin);
                test.sums.add(own.bad, own.bad.saturating_add(other.bad), share);
            }
        }
        let [errors, ..] = own;
        if let Some(terms) = &guard.errors {
            batch.floor.add(errors.bad, errors.requests, terms.floor);
        }
        Some(batch)
    }
}

impl Slowness {
    /// Sets thresholds that are not set yet, or anew where the step is another one or some time has passed: from the
    /// past, so that they owe nothing to the requests that they will judge.
    fn renew(&mut self, latency: &Latency, width: u64, now_ms: i64) {
        let (mut is_new, mut all_stand) = (false, true);
        for (threshold, millionths) in self.thresholds.iter_mut().zip(&latency.quantiles) {
            if threshold.is_some_and(|it| it.stands(width, now_ms)) {
                continue;
            }
            let has_baseline = self.histogram.count() >= latency.baseline(*millionths);
            match self.histogram.above(*millionths, latency.min_delta_us).filter(|_| has_baseline) {
                Some(us) => {
                    *threshold = Some(Threshold { us, set_ms: now_ms, width });
                    is_new = true;
                }
                None => all_stand = false,
            }
        }
        if is_new && all_stand {
            self.histogram.clear();
        }
    }
}

impl Threshold {
    fn stands(&self, width: u64, now_ms: i64) -> bool {
        self.width == width && (0..THRESHOLDS_MS).contains(&now_ms.saturating_sub(self.set_ms))
    }
}

fn since(mut now: [Tally; TESTS], then: [Tally; TESTS]) -> [Tally; TESTS] {
    now.iter_mut().zip(then).for_each(|(now, then)| *now = now.since(then));
    now
}

/// The share of the bad events that a variant has if its odds of one are `margin` times the default's.
fn share(own: f64, other: f64, margin: f64) -> f64 {
    margin * own / (margin * own + other)
}
