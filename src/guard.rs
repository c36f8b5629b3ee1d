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
mod record;
mod series;
mod terms;
mod verdicts;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use fnv::FnvHasher;

use crate::bucket::{Bucket, Seed};
use crate::policy::{Policy, Rollout, RolloutId};
use crate::schedule::VariantId;

pub use change::Change;
pub use ended::{Ended, Failures, Nature};
pub use histogram::Histogram;
pub use record::{Batch, Case, Record, State, Tally};
pub use series::{PLACES, Series, Test, all as series};
pub use terms::{Errors, Guard, Latency, MAX_COMPARED, MAX_QUANTILES, OnBreach, TESTS, Unit};
pub use verdicts::{RolledBack, Verdict, Verdicts};
pub use watch::{Seen, Watch};

use firsts::Firsts;

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

/// What all VMs of a process share.
pub trait Process {
    /// An entry of shared memory, with its version. Anybody may have written it.
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes an entry if it still has that version, or if there is none; `false`: it was not written.
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool;
    /// Adds to a counter.
    fn add(&self, series: &Series<'_>, by: u64);
    /// Sets a gauge.
    fn show(&self, series: &Series<'_>, value: u64);
    /// Shows whether a rollout has nothing to compare.
    fn show_idle(&self, rollout: &str, is_idle: bool);
}

/// How often a write is tried that others keep coming before.
const TRIES: usize = 8;
/// The version that no entry has: with it, only the first write of an entry succeeds.
const NO_VERSION: u32 = u32::MAX;

/// Changes an entry of shared memory to what `change` makes of it; what `change` says beside. Nothing where it makes
/// nothing, or where others keep coming before.
fn update<T>(
    process: &dyn Process,
    key: &str,
    mut change: impl FnMut(&[u8]) -> Option<(Vec<u8>, T)>,
) -> Option<T> {
    for _ in 0..TRIES {
        let found = process.read(key);
        let version = found.as_ref().map_or(NO_VERSION, |(_, version)| *version);
        let (bytes, said) = change(found.as_ref().map_or(&[], |(bytes, _)| bytes))?;
        if process.write(key, &bytes, version) {
            return Some(said);
        }
    }
    None
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
        // What they mean now, and whether they have lapsed.
        self.found.clear();
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
        let place = &self.place;
        let watch = self.watches.entry(id).or_insert_with(|| watch(place, rollout, guard, now_ms, process));
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
            is_first(process, &firsts_key(place, &rollout.name, rollout.seed, test), rollout, bucket, copy)
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
        let mut changes = Vec::new();
        for _ in 0..self.busy.len() {
            let Some(id) = self.busy.pop_front() else { break };
            let Some(rollout) = self.policy.rollout(id) else { continue };
            let (Some(guard), Some(watch)) = (&rollout.guard, self.watches.get_mut(&id)) else { continue };
            watch.close(guard, rollout.schedule.at(now_ms), now_ms);
            for (variant, pending) in watch.pending() {
                if let Some(change) = tell(&self.place, &self.policy, rollout, variant, pending, process) {
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
        changes.extend(self.find_verdicts(process));
        self.show_idle(now_ms, process, is_time_up);
        changes
    }

    /// Finds the verdicts that others have given, and lets lapse those that the policy has made so.
    pub fn find_verdicts(&mut self, process: &dyn Process) -> Vec<Change> {
        let key = format!("{}verdicts", self.place);
        let Some((mut bytes, _)) = process.read(&key) else { return Vec::new() };
        if bytes == self.found {
            return Vec::new();
        }
        let policy = &self.policy;
        let lapsed = update(process, &key, |bytes| {
            let mut verdicts = Verdicts::read(bytes);
            let lapsed = verdicts.lapse(policy);
            (!lapsed.is_empty()).then(|| (verdicts.bytes(), (verdicts.bytes(), lapsed)))
        });
        let mut changes = Vec::new();
        if let Some((left, lapsed)) = lapsed {
            bytes = left;
            for verdict in lapsed {
                forget(&self.place, policy, &verdict, process);
                changes.push(Change::Lapsed(verdict));
            }
        }
        self.verdicts = Verdicts::read(&bytes);
        self.found = bytes;
        let rolled_back = self.verdicts.under(&self.policy);
        for (rollout, variant) in rolled_back.iter() {
            let Some(rollout) = self.policy.rollout(rollout) else { continue };
            let Some(variant) = rollout.variant(variant) else { continue };
            show_rolled_back(&rollout.name, &variant.name, true, process);
        }
        self.rolled_back = Rc::new(rolled_back);
        changes
    }

    /// The case against each variant of a rollout, as the process knows it.
    #[must_use]
    pub fn record(&self, rollout: &Rollout, process: &dyn Process) -> Record {
        read_record(&self.place, rollout, process)
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
            let record = read_record(&self.place, rollout, process);
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

/// Where the record of a rollout lies. Another seed has another one: for as long as an old listener drains, both are
/// written.
fn record_key(place: &str, rollout: &str, seed: Seed) -> String {
    format!("{place}guard/{rollout}/{:016x}/evidence", seed.0)
}

fn firsts_key(place: &str, rollout: &str, seed: Seed, test: usize) -> String {
    format!("{place}guard/{rollout}/{:016x}/keys-{test}", seed.0)
}

fn read_record(place: &str, rollout: &Rollout, process: &dyn Process) -> Record {
    let found = process.read(&record_key(place, &rollout.name, rollout.seed));
    found.map(|(bytes, _)| Record::read(rollout.seed, &bytes)).unwrap_or_default()
}

/// A new watch over a rollout. Of what the process has judged before, warm-up is over.
fn watch(place: &str, rollout: &Rollout, guard: &Guard, now_ms: i64, process: &dyn Process) -> Watch {
    let record = read_record(place, rollout, process);
    let is_known =
        |variant| rollout.variant(variant).is_some_and(|variant| record.case(&variant.name).is_some());
    Watch::new(guard, rollout.default, rollout.variants.len(), now_ms, is_known)
}

/// Whether this is the first bad event of the key in this bucket, in the whole process. From now on it was.
fn is_first(
    process: &dyn Process,
    key: &str,
    rollout: &Rollout,
    bucket: Bucket,
    copy: &mut Option<Firsts>,
) -> bool {
    if copy.as_ref().is_some_and(|copy| copy.has(bucket)) {
        return false;
    }
    let is_first = update(process, key, |bytes| {
        let mut firsts = Firsts::read(rollout.seed, bytes);
        let is_first = !firsts.has(bucket);
        if is_first {
            firsts.note(bucket);
        }
        let written = firsts.bytes();
        *copy = Some(firsts);
        is_first.then_some((written, ()))
    });
    is_first.is_some()
}

/// Adds a batch to the case against a variant. Nothing where it could not be added; else what has changed, if anything.
fn tell(
    place: &str,
    policy: &Policy,
    rollout: &Rollout,
    variant: VariantId,
    batch: &Batch,
    process: &dyn Process,
) -> Option<Option<Change>> {
    let guard = rollout.guard.as_ref()?;
    let variant = &*rollout.variant(variant)?.name;
    let (before, case) = update(process, &record_key(place, &rollout.name, rollout.seed), |bytes| {
        let mut record = Record::read(rollout.seed, bytes);
        let case = record.case_mut(variant);
        let before = case.state;
        case.take(batch, guard);
        let case = *case;
        Some((record.bytes(rollout.seed), (before, case)))
    })?;
    series::publish(rollout, variant, batch, &case, guard, process);
    if case.state == State::Breached && guard.on_breach == OnBreach::Rollback {
        give(place, policy, rollout, variant, process);
    }
    Some((before != case.state).then(|| Change::State {
        rollout: rollout.name.clone(),
        variant: variant.into(),
        default: rollout.variant(rollout.default).map(|it| it.name.clone()).unwrap_or_default(),
        before,
        case: Box::new(case),
        guard: guard.clone(),
    }))
}

/// Gives the verdict on a variant.
fn give(place: &str, policy: &Policy, rollout: &Rollout, variant: &str, process: &dyn Process) {
    let verdict = Verdict {
        rollout: rollout.name.clone(),
        seed: rollout.seed.0,
        variant: variant.into(),
        revision: policy.revision,
    };
    // Who does not get it written tries again with the next batch, as everybody who has one.
    update(process, &format!("{place}verdicts"), |bytes| {
        let mut verdicts = Verdicts::read(bytes);
        let is_new = !verdicts.have(rollout, variant) && verdicts.add(verdict.clone());
        is_new.then(|| (verdicts.bytes(), ()))
    });
}

fn show_rolled_back(rollout: &str, variant: &str, is_rolled_back: bool, process: &dyn Process) {
    if let Some(series) = series::rolled_back(rollout, variant) {
        process.show(&series, u64::from(is_rolled_back));
    }
}

/// Whether `policy` goes on with the case against a variant.
fn is_judged(policy: &Policy, rollout: &str, seed: Seed, variant: &str) -> bool {
    policy.rollout_named(rollout).is_some_and(|(_, rollout)| {
        let variant = rollout.variant_named(variant);
        let compared = rollout.guard.as_ref().map(|guard| &guard.compared);
        rollout.seed == seed
            && variant.is_some_and(|variant| compared.is_some_and(|compared| compared.contains(&variant)))
    })
}

/// Forgets the case that led to a verdict which has lapsed, unless the guard is still there and only reports.
fn forget(place: &str, policy: &Policy, verdict: &Verdict, process: &dyn Process) {
    if is_judged(policy, &verdict.rollout, Seed(verdict.seed), &verdict.variant) {
        return show_rolled_back(&verdict.rollout, &verdict.variant, false, process);
    }
    series::clear(&verdict.rollout, &verdict.variant, process);
    let seed = Seed(verdict.seed);
    update(process, &record_key(place, &verdict.rollout, seed), |bytes| {
        let mut record = Record::read(seed, bytes);
        record.case(&verdict.variant)?;
        record.drop_case(&verdict.variant);
        Some((record.bytes(seed), ()))
    });
    // Where others are judged still, each key's first bad event stays the first.
    let rollout = policy.rollout_named(&verdict.rollout).map(|(_, rollout)| rollout);
    if rollout.is_some_and(|rollout| rollout.guard.is_some() && rollout.seed == seed) {
        return;
    }
    for test in 0..TESTS {
        update(process, &firsts_key(place, &verdict.rollout, seed, test), |bytes| {
            (!bytes.is_empty()).then(|| (Firsts::new(seed).bytes(), ()))
        });
    }
}

#[cfg(test)]
mod tests;
