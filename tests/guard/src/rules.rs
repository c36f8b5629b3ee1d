//! The rules that are compared, second by second over the same requests: the engine's guard, and those of Flagger and
//! Argo Rollouts as section 1.5 of the statistics page describes them.

use mulkko::guard::{Batch, Case, Guard, State, TESTS, Tally};

/// The rules' names.
pub const NAMES: [&str; RULES] = [
    "mulkko, α = 0.01",
    "mulkko, α = 0.001",
    "Flagger 99 %/1 m ×5",
    "Argo 95 %/5 m, limit 3",
    "Argo 99 %/1 m, limit 3",
];
/// How many they are.
pub const RULES: usize = 5;
/// How many of them are guards of the engine's, which come first.
pub const OURS: usize = 2;

/// What both sides had in a second.
#[derive(Clone, Copy, Default)]
pub struct Second {
    pub canary: Tally,
    pub default: Tally,
}

/// When a rule rolled back, and what the canary had served by then.
#[derive(Clone, Copy, Default)]
pub struct Ended {
    pub seconds: i64,
    pub requests: u64,
    pub errors: u64,
}

/// All rules, looking at one canary.
#[derive(Clone)]
pub struct Jury<'g> {
    guards: &'g [Guard; OURS],
    windows: Windows,
    checks: [Checks; RULES - OURS],
    seen: Ended,
    /// When each rolled back.
    pub ended: [Option<Ended>; RULES],
}

impl<'g> Jury<'g> {
    /// Nothing was seen yet. The guards differ only in how much evidence they ask for.
    pub fn new(guards: &'g [Guard; OURS]) -> Jury<'g> {
        Jury {
            guards,
            windows: Windows::default(),
            checks: checks(),
            seen: Ended::default(),
            ended: [None; RULES],
        }
    }

    /// Takes a second.
    pub fn take(&mut self, second: Second) {
        self.seen.seconds += 1;
        self.seen.requests += second.canary.requests;
        self.seen.errors += second.canary.bad;
        let [loose, _] = self.guards;
        self.windows.take(self.seen.seconds, second, loose);
        for (ended, guard) in self.ended.iter_mut().zip(self.guards) {
            if ended.is_none() && is_breach(&self.windows.case, guard) {
                *ended = Some(self.seen);
            }
        }
        for (ended, checks) in self.ended.iter_mut().skip(OURS).zip(&mut self.checks) {
            if checks.take(self.seen.seconds, second.canary) && ended.is_none() {
                *ended = Some(self.seen);
            }
        }
    }

    /// Whether all have rolled back.
    pub fn has_ended(&self) -> bool {
        self.ended.iter().all(Option::is_some)
    }

    /// From now on everything is counted anew, except what the rules know.
    pub fn restart(&mut self) {
        self.windows.since_s -= self.seen.seconds;
        self.seen = Ended::default();
        self.ended = [None; RULES];
    }
}

/// The windows of one VM and the case that it builds, for the request unit: a second's requests at once, where
/// [`mulkko::guard::Watch`] counts one by one.
#[derive(Clone, Default)]
struct Windows {
    case: Case,
    canary: [Tally; TESTS],
    default: [Tally; TESTS],
    since_s: i64,
}

impl Windows {
    fn take(&mut self, now_s: i64, second: Second, guard: &Guard) {
        add(&mut self.canary, second.canary);
        add(&mut self.default, second.default);
        let age_ms = (now_s - self.since_s) * 1_000;
        if let Some(batch) = Batch::of_window(&self.canary, &self.default, age_ms, guard) {
            self.case.take(&batch, guard);
            *self = Windows { case: self.case, since_s: now_s, ..Windows::default() };
        }
    }
}

/// Adds to the tally of errors, the first.
fn add([tally, ..]: &mut [Tally; TESTS], more: Tally) {
    tally.requests += more.requests;
    tally.bad += more.bad;
}

/// Whether the guard would give up a variant on a case that was built under other terms of the same comparisons.
pub fn is_breach(case: &Case, guard: &Guard) -> bool {
    let mut case = *case;
    case.state = State::Watching;
    // A batch that says nothing: only the terms are looked at.
    case.take(&Batch::default(), guard);
    case.state == State::Breached
}

/// The other tools' rules alone.
#[derive(Clone)]
pub struct Checked {
    checks: [Checks; RULES - OURS],
    now_s: i64,
    /// Which of them have rolled back.
    pub rolled_back: [bool; RULES - OURS],
}

impl Default for Checked {
    fn default() -> Self {
        Checked { checks: checks(), now_s: 0, rolled_back: [false; RULES - OURS] }
    }
}

impl Checked {
    /// Takes a second.
    pub fn take(&mut self, second: Second) {
        self.now_s += 1;
        for (rolled_back, checks) in self.rolled_back.iter_mut().zip(&mut self.checks) {
            *rolled_back |= checks.take(self.now_s, second.canary);
        }
    }
}

/// A rule that looks at the canary's success rate from time to time.
#[derive(Clone)]
pub struct Checks {
    period_s: i64,
    /// The highest share of errors that passes.
    tolerated: f64,
    tool: Tool,
    seen: Tally,
    failed: u32,
}

#[derive(Clone, Copy)]
enum Tool {
    /// Rolls back one check after five have failed; no requests are a failure, too.
    Flagger,
    /// Fails at the fourth failed measurement.
    Argo,
}

/// Flagger's rule and Argo's, in the order of [`NAMES`].
fn checks() -> [Checks; RULES - OURS] {
    let checks =
        |tool, tolerated, period_s| Checks { period_s, tolerated, tool, seen: Tally::default(), failed: 0 };
    [checks(Tool::Flagger, 0.01, 60), checks(Tool::Argo, 0.05, 300), checks(Tool::Argo, 0.01, 60)]
}

impl Checks {
    /// Flagger's, of requests that take too long: 99 % within a minute must not.
    pub fn of_latency() -> Checks {
        let [flagger, ..] = checks();
        flagger
    }

    /// Takes the canary's requests of a second; whether it is rolled back at its end. What was decided once is decided
    /// again at later checks.
    pub fn take(&mut self, now_s: i64, canary: Tally) -> bool {
        self.seen.requests += canary.requests;
        self.seen.bad += canary.bad;
        if now_s % self.period_s != 0 {
            return false;
        }
        let seen = std::mem::take(&mut self.seen);
        let has_failed = seen.bad as f64 > self.tolerated * seen.requests as f64;
        match self.tool {
            Tool::Flagger => {
                let is_over = self.failed >= 5;
                self.failed += u32::from(has_failed || seen.requests == 0);
                is_over
            }
            Tool::Argo => {
                self.failed += u32::from(has_failed);
                self.failed > 3
            }
        }
    }
}
