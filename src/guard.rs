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
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::bucket::Bucket;
use crate::policy::{Policy, Rollout, RolloutId};
use crate::schedule::VariantId;

pub use change::Change;
pub use ended::{Ended, Failures, Nature};
pub use histogram::Histogram;
pub use memory::Memory;
pub(crate) use record::Odds;
pub use record::{Batch, Case, Record, State, Tally};
pub use series::{PLACES, Series, Test, all as series};
pub use shared::Process;
pub use terms::{Errors, Guard, Latency, MAX_COMPARED, MAX_QUANTILES, OnBreach, TESTS, Unit, Widths};
pub use verdicts::{Author, RolledBack, Verdict, Verdicts};
pub use watch::Watch;

pub(crate) use shared::Shared;

/// A decision that counts for a guard. It names the guard, not the policy: a stream that lasts for days must not keep the
/// policy under which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The guard's identity.
    pub guard: u64,
    /// The variant.
    pub variant: VariantId,
    /// The bucket of the targeting key; a blue-green switch has none.
    pub bucket: Option<Bucket>,
    /// How the buckets were divided when it was decided, where keys are counted.
    pub widths: Widths,
}

/// The guards of one policy name, in one VM.
#[derive(Debug)]
pub struct Guards {
    /// `mulkko/1/<policy name>/`
    place: String,
    /// Who these are, among those of other root contexts.
    author: Author,
    policy: Rc<Policy>,
    /// By the identities of their guards.
    watches: HashMap<u64, Watch, RandomState>,
    /// The watches that have something to close or to tell: others cost a tick nothing.
    busy: VecDeque<u64>,
    /// Policies that were replaced, and how many of their guarded rollouts have been cleared away.
    replaced: VecDeque<(Rc<Policy>, usize)>,
    /// Whether the policy is one for which nobody has looked yet whether it makes verdicts lapse.
    is_new: bool,
    /// The verdicts as they were found last, and what they mean.
    found: Vec<u8>,
    verdicts: Verdicts,
    rolled_back: Rc<RolledBack>,
    /// Which guarded rollout is looked at next for whether it is idle.
    next: usize,
    idle: HashMap<RolloutId, bool, RandomState>,
}

impl Exposure {
    /// A request to a guarded rollout that was decided now.
    #[must_use]
    pub fn new(
        rollout: &Rollout,
        guard: &Guard,
        variant: VariantId,
        bucket: Option<Bucket>,
        now_ms: impl FnOnce() -> i64,
    ) -> Exposure {
        let widths = match guard.unit {
            Unit::Request => Widths::default(),
            Unit::Key => guard.widths(rollout.schedule.at(now_ms()), rollout.default),
        };
        Exposure { guard: guard.identity, variant, bucket, widths }
    }
}

impl Guards {
    /// The guards of a policy that the plugin calls `name`.
    #[must_use]
    pub fn new(name: &str, author: Author, policy: Rc<Policy>) -> Guards {
        Guards {
            place: format!("mulkko/1/{name}/"),
            author,
            policy,
            watches: HashMap::default(),
            busy: VecDeque::new(),
            replaced: VecDeque::new(),
            is_new: true,
            found: Vec::new(),
            verdicts: Verdicts::default(),
            rolled_back: Rc::default(),
            next: 0,
            idle: HashMap::default(),
        }
    }

    /// Puts another policy in the place of this one. What was seen of rollouts that stay as they are is kept, what is left
    /// of others is cleared away at later ticks.
    pub fn replace(&mut self, policy: Rc<Policy>) {
        let old = std::mem::replace(&mut self.policy, policy);
        if !old.guarded.is_empty() {
            self.replaced.push_back((old, 0));
        }
        self.idle.clear();
        self.next = 0;
        self.is_new = true;
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

    /// Counts a request that has ended.
    pub fn count(&mut self, exposure: &Exposure, ended: Ended, now_ms: i64, process: &dyn Process) {
        // A policy may have come since the decision.
        let Some((_, rollout, guard)) = self.policy.guarded_as(exposure.guard) else { return };
        let shared = Shared { place: &self.place, process };
        let watch =
            self.watches.entry(exposure.guard).or_insert_with(|| shared.watch(rollout, guard, now_ms));
        if !std::mem::replace(&mut watch.is_queued, true) {
            self.busy.push_back(exposure.guard);
        }
        watch.count(exposure, &ended, guard, &rollout.schedule, now_ms, |test, bucket, copy| {
            shared.first(rollout, guard, test, bucket, now_ms, copy)
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
            let Some(identity) = self.busy.pop_front() else { break };
            let Some(watch) = self.watches.get_mut(&identity) else { continue };
            watch.is_queued = false;
            let Some((id, rollout, guard)) = self.policy.guarded_as(identity) else { continue };
            watch.close(guard, &rollout.schedule, now_ms);
            series::publish_default(rollout, guard, watch.untold_default(), process);
            for (variant, pending) in watch.pending() {
                if self.rolled_back.has(id, variant) {
                    // There is nothing left to find out.
                    *pending = Batch::default();
                    continue;
                }
                if let Some(change) = shared.tell(self.author, &self.policy, rollout, variant, pending) {
                    changes.extend(change);
                    *pending = Batch::default();
                }
            }
            watch.is_queued = watch.is_busy();
            if watch.is_queued {
                self.busy.push_back(identity);
            }
            if is_time_up() {
                break;
            }
        }
        changes.extend(self.lapse(process));
        self.find_verdicts(process);
        self.clear_away(process, &mut is_time_up);
        self.show_idle(now_ms, process, is_time_up);
        changes
    }

    /// Forgets what policies that were replaced have left behind and this one does not go on with.
    fn clear_away(&mut self, process: &dyn Process, mut is_time_up: impl FnMut() -> bool) {
        let shared = Shared { place: &self.place, process };
        while let Some((old, cleared)) = self.replaced.front_mut() {
            let Some(id) = old.guarded.get(*cleared) else {
                self.replaced.pop_front();
                continue;
            };
            *cleared += 1;
            if let Some(rollout) = old.rollout(*id)
                && let Some(guard) = &rollout.guard
                && self.policy.guarded_as(guard.identity).is_none()
            {
                self.watches.remove(&guard.identity);
                shared.clear_away(rollout, guard, &self.policy);
            }
            if is_time_up() {
                break;
            }
        }
    }

    /// Lets verdicts lapse that the policy has made so. Not where a policy has just come: a root context may be there
    /// only to see whether a configuration is taken.
    fn lapse(&mut self, process: &dyn Process) -> Vec<Change> {
        let shared = Shared { place: &self.place, process };
        let key = shared.verdicts_key();
        if !self.is_new && process.read(&key).is_none_or(|(bytes, _)| bytes == self.found) {
            return Vec::new();
        }
        let (policy, author, known) = (&self.policy, self.author, &self.verdicts);
        let mut is_wanted = false;
        let lapsed = shared.update(&key, |bytes| {
            let found = Verdicts::read(bytes);
            // What is damaged is put right.
            let mut verdicts = found.clone().unwrap_or_else(|| known.clone());
            let lapsed = verdicts.lapse(policy, author);
            verdicts.adopt(policy, author);
            is_wanted = found.as_ref() != Some(&verdicts);
            is_wanted.then(|| (verdicts.bytes(), lapsed))
        });
        // There may be more than are let go at once, and others may have kept coming before.
        self.is_new = is_wanted;
        let forgotten = lapsed.unwrap_or_default().into_iter().map(|verdict| {
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
        // What is damaged says nothing; those that were found before stand.
        let Some(verdicts) = Verdicts::read(&bytes) else { return };
        self.verdicts = verdicts;
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

#[cfg(test)]
mod tests;
