//! What strategies intend, as gauges: the share of each variant of the rollouts that have had requests.

use std::collections::HashSet;

use crate::plugin::host;
use crate::plugin::metrics::Metrics;
use crate::policy::Policy;

/// How long a gauge may lag behind its schedule, in milliseconds.
pub const PERIOD_MS: u32 = 5_000;

/// The rollouts whose shares are shown.
#[derive(Default)]
pub struct Shares {
    shown: Vec<Shown>,
    names: HashSet<Box<str>>,
    /// How far the pass has come that is under way.
    next: usize,
    /// When the next pass is due, in unix milliseconds.
    due_ms: i64,
    /// Whether a strategy that is shown moves with time.
    is_moving: bool,
}

/// A rollout whose shares are shown.
struct Shown {
    rollout: Box<str>,
    /// The policy by which they were last shown.
    generation: u64,
    /// The ids of its gauges.
    ids: Vec<u32>,
}

impl Shares {
    /// Notes that a rollout has had a request.
    pub fn meet(&mut self, rollout: &str) {
        if !self.names.contains(rollout) {
            self.names.insert(rollout.into());
            // Below any policy's: it is shown by the next pass.
            self.shown.push(Shown { rollout: rollout.into(), generation: 0, ids: Vec::new() });
            self.due_ms = 0;
        }
    }

    /// Another policy is in force: the next pass is due.
    pub fn renew(&mut self) {
        (self.next, self.due_ms) = (0, 0);
    }

    /// Sets what has changed by `policy`, the one in force of so many, at `now_ms`. Ends when `is_time_up`, and goes on from
    /// there when it is next called.
    pub fn show(
        &mut self,
        policy: &Policy,
        generation: u64,
        metrics: &Metrics,
        now_ms: i64,
        mut is_time_up: impl FnMut() -> bool,
    ) {
        if self.next == 0 {
            if now_ms < self.due_ms && self.due_ms - now_ms <= i64::from(PERIOD_MS) {
                return;
            }
            self.is_moving = false;
        }
        while let Some(shown) = self.shown.get_mut(self.next) {
            if is_time_up() {
                return;
            }
            self.is_moving |= shown.show(policy, generation, metrics, now_ms);
            self.next += 1;
        }
        self.next = 0;
        self.due_ms = now_ms.saturating_add(i64::from(PERIOD_MS));
        // Those that the policy does not have any more.
        let names = &mut self.names;
        self.shown.retain(|shown| !shown.ids.is_empty() || !names.remove(&shown.rollout));
    }

    /// The time within which this must be called again, in milliseconds; nothing where nothing is to be shown.
    pub fn period_ms(&self, soon_ms: u32) -> Option<u32> {
        let is_due = self.next > 0 || (self.due_ms == 0 && !self.shown.is_empty());
        if is_due { Some(soon_ms) } else { self.is_moving.then_some(PERIOD_MS) }
    }
}

impl Shown {
    /// Sets its gauges; whether they move with time. Those of variants that are gone go to 0.
    fn show(&mut self, policy: &Policy, generation: u64, metrics: &Metrics, now_ms: i64) -> bool {
        let rollout = policy.rollout_named(&self.rollout).map(|(_, rollout)| rollout);
        let is_moving = rollout.is_some_and(|it| it.enabled && !it.schedule.is_timeless());
        if self.generation == generation && !is_moving {
            return false;
        }
        self.generation = generation;
        let former = std::mem::take(&mut self.ids);
        for (variant, millionths) in rollout.map(|it| it.shares(now_ms)).unwrap_or_default() {
            if let Some(id) = metrics.intended_share(&self.rollout, variant) {
                let _ = host::record_metric(id, millionths);
                self.ids.push(id);
            }
        }
        for id in former.into_iter().filter(|id| !self.ids.contains(id)) {
            let _ = host::record_metric(id, 0);
        }
        is_moving
    }
}
