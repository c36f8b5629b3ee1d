//! The guard: takes the traffic back from a variant that is worse than the default, on evidence.
//!
//! A request that counts becomes an [`Exposure`] when it is decided, and is counted when it has ended ([`Guards::count`]).
//! Each VM gathers what it sees in windows ([`Watch`]), and at its tick adds closed windows to the process's case
//! against the variant, in shared data ([`Record`]); whoever brings a case to the point gives the verdict, which all VMs
//! find at their next tick ([`Verdicts`]). The mathematics stands in [`evidence`].
//!
//! No I/O and no clock: memory and metrics of the process are reached through [`Process`], time goes in.

mod change;
mod ended;
pub mod evidence;
mod explain;
mod firsts;
mod histogram;
mod memory;
mod record;
mod series;
mod shared;
mod terms;
mod verdicts;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use fnv::FnvHasher;

use crate::bucket::Bucket;
use crate::policy::{Policy, Rollout, RolloutId};
use crate::schedule::VariantId;

pub use change::Change;
pub use ended::{Ended, Failures, Nature};
pub use histogram::Histogram;
pub use memory::Memory;
pub use record::{Batch, Case, Record, State, Tally};
pub use series::{PLACES, Series, Test, all as series};
pub use shared::Process;
pub use terms::{Errors, Guard, Latency, MAX_COMPARED, MAX_QUANTILES, OnBreach, TESTS, Unit};
pub use verdicts::{RolledBack, Verdict, Verdicts};
pub use watch::{Seen, Watch};

use shared::{Shared, is_judged};

/// A decision that counts for a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The rollout.
    pub rollout: RolloutId,
    /// The variant.
    pub variant: VariantId,
    /// The bucket of the targeting key; a blue-green switch has none.
    pub bucket: Option<Bucket>,
    /// When it was decided, in unix milliseconds; 0 where the split never changes.
    pub now_ms: i64,
}

/// The guards of one policy name, in one VM.
#[derive(Debug)]
pub struct Guards {
    /// `mulkko/1/<policy name>/`
    place: String,
    policy: Rc<Policy>,
    watches: HashMap<RolloutId, Watch, BuildHasherDefault<FnvHasher>>,
    /// The rollouts whose watches have something to close or to tell: others cost a tick nothing.
    busy: VecDeque<RolloutId>,
    /// Whether the policy is one for which nobody has looked yet whether it makes verdicts lapse.
    is_replaced: bool,
    /// The verdicts as they were found last, and what they mean.
    found: Vec<u8>,
    verdicts: Verdicts,
    rolled_back: Rc<RolledBack>,
    /// Which guarded rollout is looked at next for whether it is idle.
    next: usize,
    idle: HashMap<RolloutId, bool, BuildHasherDefault<FnvHasher>>,
}

impl Guards {
    /// The guards of a policy that the plugin calls `name`.
    #[must_use]
    pub fn new(name: &str, policy: Rc<Policy>) -> Guards {
        Guards {
            place: format!("mulkko/1/{name}/"),
            policy,
            watches: HashMap::default(),
            busy: VecDeque::new(),
            is_replaced: true,
            found: Vec::new(),
            verdicts: Verdicts::default(),
            rolled_back: Rc::default(),
            next: 0,
            idle: HashMap::default(),
        }
    }

    /// Puts another policy in the place of this one. What was seen of rollouts that stay as they are is kept.
    pub fn replace(&mut self, policy: Rc<Policy>, process: &dyn Process) {
        let old = std::mem::replace(&mut self.policy, policy);
        self.busy.clear();
        for (id, watch) in std::mem::take(&mut self.watches) {
            let Some(before) = old.rollout(id) else { continue };
            for variant in before.guard.iter().flat_map(|guard| &guard.compared) {
                let variant = before.variant(*variant).map_or("", |variant| &*variant.name);
                if !is_judged(&self.policy, &before.name, before.seed, variant) {
                    series::clear(&before.name, variant, process);
                }
            }
            let Some((id, now)) = self.policy.rollout_named(&before.name) else { continue };
            if is_same(before, now) {
                if watch.is_queued {
                    self.busy.push_back(id);
                }
                self.watches.insert(id, watch);
            }
        }
        self.idle.clear();
        self.next = 0;
        self.is_replaced = true;
        self.rolled_back = Rc::new(self.verdicts.under(&self.policy));
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Rc<Policy> {
        &self.policy
    }

    /// The variants that have been given up.
    #[must_use]
    pub fn rolled_back(&self) -> &Rc<RolledBack> {
        &self.rolled_back
    }

    /// Whether anything is guarded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.guarded.is_empty()
    }

    /// Counts a request that has ended, and was decided under `decided`.
    pub fn count(
        &mut self,
        decided: &Policy,
        exposure: &Exposure,
        ended: Ended,
        now_ms: i64,
        process: &dyn Process,
    ) {
        let Some((id, before)) = decided.rollout(exposure.rollout).map(|it| (exposure.rollout, it)) else {
            return;
        };
        // A policy may have come since.
        let id = if std::ptr::eq(decided, &*self.policy) {
            id
        } else {
            match self.policy.rollout_named(&before.name) {
                Some((id, now)) if is_same(before, now) => id,
                _ => return,
            }
        };
        let Some(rollout) = self.policy.rollout(id) else { return };
        let Some(guard) = &rollout.guard else { return };
        let shared = Shared { place: &self.place, process };
        let watch = self.watches.entry(id).or_insert_with(|| shared.watch(rollout, guard, now_ms));
        if !std::mem::replace(&mut watch.is_queued, true) {
            self.busy.push_back(id);
        }
        let seen = Seen {
            variant: exposure.variant,
            bucket: exposure.bucket,
            split: before.schedule.at(exposure.now_ms),
            ended,
        };
        watch.count(&seen, guard, now_ms, |test, bucket, copy| {
            shared.is_first(rollout, guard, test, bucket, copy)
        });
    }

    /// Tells the process what was gathered, gives verdicts, and finds those of others; what has changed. Ends early
    /// when `is_time_up`; the rest is done at the next tick.
    pub fn tick(
        &mut self,
        now_ms: i64,
        process: &dyn Process,
        mut is_time_up: impl FnMut() -> bool,
    ) -> Vec<Change> {
        let shared = Shared { place: &self.place, process };
        let mut changes = Vec::new();
        for _ in 0..self.busy.len() {
            let Some(id) = self.busy.pop_front() else { break };
            let Some(rollout) = self.policy.rollout(id) else { continue };
            let (Some(guard), Some(watch)) = (&rollout.guard, self.watches.get_mut(&id)) else { continue };
            watch.close(guard, rollout.schedule.at(now_ms), now_ms);
            for (variant, pending) in watch.pending() {
                if self.rolled_back.has(id, variant) {
                    // There is nothing left to find out.
                    *pending = Batch::default();
                    continue;
                }
                if let Some(change) = shared.tell(&self.policy, rollout, variant, pending) {
                    changes.extend(change);
                    *pending = Batch::default();
                }
            }
            watch.is_queued = watch.is_busy();
            if watch.is_queued {
                self.busy.push_back(id);
            }
            if is_time_up() {
                break;
            }
        }
        changes.extend(self.lapse(process));
        self.find_verdicts(process);
        self.show_idle(now_ms, process, is_time_up);
        changes
    }

    /// Lets verdicts lapse that the policy has made so. Not where a policy has just come: a root context may be there
    /// only to see whether a configuration is taken.
    fn lapse(&mut self, process: &dyn Process) -> Vec<Change> {
        let shared = Shared { place: &self.place, process };
        let key = shared.verdicts_key();
        if !self.is_replaced && process.read(&key).is_none_or(|(bytes, _)| bytes == self.found) {
            return Vec::new();
        }
        self.is_replaced = false;
        let policy = &self.policy;
        let lapsed = shared.update(&key, |bytes| {
            let mut verdicts = Verdicts::read(bytes);
            let lapsed = verdicts.lapse(policy);
            (!lapsed.is_empty()).then(|| (verdicts.bytes(), lapsed))
        });
        let lapsed = lapsed.unwrap_or_default().into_iter();
        let forgotten = lapsed.map(|verdict| {
            shared.forget(policy, &verdict);
            Change::Lapsed(verdict)
        });
        forgotten.collect()
    }

    /// Finds the verdicts that others have given.
    pub fn find_verdicts(&mut self, process: &dyn Process) {
        let shared = Shared { place: &self.place, process };
        let Some((bytes, _)) = process.read(&shared.verdicts_key()) else { return };
        if bytes == self.found {
            return;
        }
        self.verdicts = Verdicts::read(&bytes);
        self.found = bytes;
        let rolled_back = self.verdicts.under(&self.policy);
        for (rollout, variant) in rolled_back.iter() {
            let Some(rollout) = self.policy.rollout(rollout) else { continue };
            let Some(variant) = rollout.variant(variant) else { continue };
            shared.show_rolled_back(&rollout.name, &variant.name, true);
        }
        self.rolled_back = Rc::new(rolled_back);
    }

    /// The case against each variant of a rollout, as the process knows it.
    #[must_use]
    pub fn record(&self, rollout: &Rollout, process: &dyn Process) -> Record {
        Shared { place: &self.place, process }.record(rollout)
    }

    /// How the guards of some rollouts stand, as a dictionary of RFC 9651: of each the variants that are compared.
    #[must_use]
    pub fn explain(
        &self,
        rollouts: impl Iterator<Item = RolloutId>,
        now_ms: i64,
        process: &dyn Process,
    ) -> String {
        let told = rollouts.filter_map(|id| {
            let rollout = self.policy.rollout(id)?;
            let record = self.record(rollout, process);
            explain::rollout(id, rollout, &record, &self.rolled_back, now_ms)
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// Shows of some rollouts whether their split leaves anything to compare.
    fn show_idle(&mut self, now_ms: i64, process: &dyn Process, mut is_time_up: impl FnMut() -> bool) {
        const AT_ONCE: usize = 64;
        for _ in 0..self.policy.guarded.len().min(AT_ONCE) {
            let Some(id) = self.policy.guarded.get(self.next).copied() else { break };
            self.next = (self.next + 1) % self.policy.guarded.len();
            let Some(rollout) = self.policy.rollout(id) else { continue };
            let is_idle = !rollout.enabled || rollout.is_idle(now_ms);
            if self.idle.insert(id, is_idle) != Some(is_idle) {
                process.show_idle(&rollout.name, is_idle);
            }
            if is_time_up() {
                break;
            }
        }
    }
}

/// Whether what was seen of one rollout says something about the other.
fn is_same(before: &Rollout, now: &Rollout) -> bool {
    let names = |rollout: &Rollout| rollout.variants.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    before.seed == now.seed
        && before.default == now.default
        && before.guard == now.guard
        && names(before) == names(now)
}

#[cfg(test)]
mod tests;
