//! What is counted: keys by instant, rollout, variant and reason, and those that are away from the default in two rollouts.

use std::collections::{BTreeMap, HashMap};

use mulkko::decide::{Decision, Reason};
use mulkko::flag::{FlagId, Resolution};
use mulkko::policy::{Policy, RolloutId};
use mulkko::schedule::VariantId;

/// The most rollouts of which overlaps are counted: there are as many pairs as their square.
const MOST_OVERLAPPING: RolloutId = 200;

/// Counts. Their size depends on the policy and the instants, not on the keys.
#[derive(Debug, Default)]
pub struct Counts {
    pub keys: u64,
    /// Where the counts of each rollout begin.
    starts: Vec<usize>,
    /// For each instant, for each rollout and variant, by reason.
    by_instant: Vec<Vec<[u64; Reason::ALL.len()]>>,
    /// Keys that are away from the default.
    away: BTreeMap<RolloutId, u64>,
    both: BTreeMap<(RolloutId, RolloutId), u64>,
    /// What flags resolve to.
    pub flags: HashMap<(FlagId, Resolution), u64>,
}

impl Counts {
    pub fn new(policy: &Policy, instants: usize) -> Counts {
        let mut end = 0;
        let starts = policy.rollouts.iter().map(|rollout| {
            let start = end;
            end += rollout.variants.len();
            start
        });
        let starts = starts.collect();
        let by_instant = vec![vec![[0; Reason::ALL.len()]; end]; instants];
        Counts { starts, by_instant, ..Counts::default() }
    }

    pub fn add(&mut self, instant: usize, decision: &Decision) {
        let Some(at) = self.at(decision.rollout, decision.variant) else { return };
        let counts = self.by_instant.get_mut(instant).and_then(|it| it.get_mut(at));
        if let Some(count) = counts.and_then(|it| it.get_mut(decision.reason as usize)) {
            *count += 1;
        }
    }

    /// Counts a key that is away from the default in these rollouts.
    pub fn meet(&mut self, away: &mut Vec<RolloutId>) {
        away.retain(|id| *id < MOST_OVERLAPPING);
        away.sort_unstable();
        for (i, a) in away.iter().enumerate() {
            *self.away.entry(*a).or_default() += 1;
            for b in away.iter().skip(i + 1) {
                *self.both.entry((*a, *b)).or_default() += 1;
            }
        }
    }

    fn at(&self, rollout: RolloutId, variant: VariantId) -> Option<usize> {
        let start = self.starts.get(usize::try_from(rollout).ok()?)?;
        Some(start + usize::from(variant.0))
    }

    /// How many keys had a variant at an instant, for one of these reasons.
    pub fn of(&self, instant: usize, rollout: RolloutId, variant: VariantId, reasons: &[Reason]) -> u64 {
        let at = self.at(rollout, variant);
        let counts = at.and_then(|at| self.by_instant.get(instant)?.get(at));
        let of = |reason: &Reason| counts.and_then(|it| it.get(*reason as usize)).copied().unwrap_or(0);
        reasons.iter().map(of).sum()
    }

    /// Two rollouts that keys are away in, how many in both, and how many there would be by chance.
    pub fn pairs(&self) -> impl Iterator<Item = (RolloutId, RolloutId, u64, f64)> {
        let away: Vec<_> = self.away.iter().collect();
        let mut pairs = Vec::new();
        for (i, (a, of_a)) in away.iter().enumerate() {
            for (b, of_b) in away.iter().skip(i + 1) {
                let both = self.both.get(&(**a, **b)).copied().unwrap_or(0);
                pairs.push((**a, **b, both, **of_a as f64 * **of_b as f64 / self.keys as f64));
            }
        }
        pairs.into_iter()
    }

    /// Adds others of the same policy and instants.
    pub fn merge(&mut self, other: Counts) {
        self.keys += other.keys;
        for (ours, theirs) in self.by_instant.iter_mut().flatten().zip(other.by_instant.iter().flatten()) {
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours += theirs;
            }
        }
        for (id, keys) in other.away {
            *self.away.entry(id).or_default() += keys;
        }
        for (pair, keys) in other.both {
            *self.both.entry(pair).or_default() += keys;
        }
        for (resolved, keys) in other.flags {
            *self.flags.entry(resolved).or_default() += keys;
        }
    }
}
