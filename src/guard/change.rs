//! What has changed for a guarded variant, in plain words with the figures.

use std::fmt;

use crate::guard::record::{Case, Odds, State, Tally};
use crate::guard::terms::{Guard, OnBreach, Unit};
use crate::guard::verdicts::Verdict;

/// What has changed for a guarded variant.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The case against it has come further, or less far.
    State {
        /// The rollout's name.
        rollout: Box<str>,
        /// The variant's.
        variant: Box<str>,
        /// The default's.
        default: Box<str>,
        /// How far it was.
        before: State,
        /// The case as it stands.
        case: Box<Case>,
        /// What it is judged by.
        guard: Box<Guard>,
    },
    /// The policy has the variant no longer under a guard that rolls back.
    Lapsed(Verdict),
}

impl Change {
    /// Whether somebody should be woken up.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        matches!(self, Change::State { case, .. } if case.state == State::Breached)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Lapsed(Verdict { rollout, variant, .. }) => {
                write!(f, "{rollout}: the verdict on {variant} has lapsed: the policy guards it no longer")
            }
            Change::State { rollout, variant, default, before, case, guard } => {
                let what = match (case.state, guard.on_breach) {
                    (State::Breached, OnBreach::Rollback) => "is rolled back",
                    (State::Breached, OnBreach::Report) => "should be rolled back",
                    (State::Hold, _) => "is suspicious, hold it",
                    (State::Watching, _) => "is not suspicious any more",
                };
                write!(f, "{rollout}: {variant} {what}: {}", Counts { variant, default, case, guard })?;
                debug_assert!(*before != case.state, "a change");
                Ok(())
            }
        }
    }
}

/// The figures of a case: `canary failed 4 of 17, default 2 of 331; a healthy canary would show this once in 2,310
/// rollouts`, or, where keys are counted, `canary failed for 4 keys in 17 requests, default 2 keys in 331 requests; …`.
struct Counts<'c> {
    variant: &'c str,
    default: &'c str,
    case: &'c Case,
    guard: &'c Guard,
}

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { variant, default, case, guard } = self;
        let errors = match case.state {
            State::Breached => case.errors(guard),
            State::Hold | State::Watching => case.suspected_errors(guard),
        };
        let latency = case.latency(guard);
        // What speaks louder.
        let is_slow = latency.unwrap_or(f64::NEG_INFINITY) > errors.unwrap_or(f64::NEG_INFINITY);
        let at = |tallies: &[Tally]| {
            let mut tallies = tallies.iter();
            let errors = tallies.next();
            let tally = if is_slow { tallies.max_by_key(|tally| tally.bad) } else { errors };
            tally.copied().unwrap_or_default()
        };
        let (own, other) = (at(&case.own), at(&case.default));
        let (verb, of, requests) = match (is_slow, guard.unit) {
            (false, Unit::Request) => ("failed", " of", ""),
            (true, Unit::Request) => ("was slow in", " of", ""),
            (false, Unit::Key) => ("failed for", " keys in", " requests"),
            (true, Unit::Key) => ("was slow for", " keys in", " requests"),
        };
        write!(f, "{variant} {verb} {}{of} {}{requests}", own.bad, own.requests)?;
        if other.requests > 0 {
            write!(f, ", {default} {}{of} {}{requests}", other.bad, other.requests)?;
        }
        let log_e = if is_slow { latency } else { errors }.unwrap_or(0.0);
        write!(f, "; a healthy {variant} would show this once in {} rollouts", Odds(log_e))
    }
}
