//! What the VMs of a process share about guards: records, verdicts, and which keys have failed.

use crate::bucket::{Bucket, Seed};
use crate::guard::change::Change;
use crate::guard::firsts::Firsts;
use crate::guard::record::{Batch, Record, State};
use crate::guard::series::{self, Series};
use crate::guard::terms::{Guard, OnBreach, TESTS};
use crate::guard::verdicts::{Verdict, Verdicts};
use crate::guard::watch::Watch;
use crate::policy::{Policy, Rollout};
use crate::schedule::VariantId;

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

/// What is shared under one plugin name.
#[derive(Clone, Copy)]
pub(super) struct Shared<'s> {
    /// `mulkko/1/<plugin name>/`
    pub place: &'s str,
    /// Where it lies.
    pub process: &'s dyn Process,
}

impl Shared<'_> {
    /// Changes an entry to what `change` makes of it; what `change` says beside. Nothing where it makes nothing, or
    /// where others keep coming before.
    pub fn update<T>(&self, key: &str, mut change: impl FnMut(&[u8]) -> Option<(Vec<u8>, T)>) -> Option<T> {
        for _ in 0..TRIES {
            let found = self.process.read(key);
            let version = found.as_ref().map_or(NO_VERSION, |(_, version)| *version);
            let (bytes, said) = change(found.as_ref().map_or(&[], |(bytes, _)| bytes))?;
            if self.process.write(key, &bytes, version) {
                return Some(said);
            }
        }
        None
    }

    /// Where the verdicts lie.
    pub fn verdicts_key(&self) -> String {
        format!("{}verdicts", self.place)
    }

    /// Where the record of a rollout lies. Another seed has another one: for as long as an old listener drains,
    /// both are written.
    pub fn record_key(&self, rollout: &str, seed: Seed) -> String {
        format!("{}guard/{rollout}/{:016x}/evidence", self.place, seed.0)
    }

    fn firsts_key(&self, rollout: &str, seed: Seed, test: usize) -> String {
        format!("{}guard/{rollout}/{:016x}/keys-{test}", self.place, seed.0)
    }

    /// The record of a rollout.
    pub fn record(&self, rollout: &Rollout) -> Record {
        let found = self.process.read(&self.record_key(&rollout.name, rollout.seed));
        found.map(|(bytes, _)| Record::read(rollout.seed, &bytes)).unwrap_or_default()
    }

    /// A new watch over a rollout. Of what the process has judged before, warm-up is over.
    pub fn watch(&self, rollout: &Rollout, guard: &Guard, now_ms: i64) -> Watch {
        let record = self.record(rollout);
        let is_known =
            |variant| rollout.variant(variant).is_some_and(|variant| record.case(&variant.name).is_some());
        Watch::new(guard, rollout.default, now_ms, is_known)
    }

    /// Whether this is the first bad event of the key in this bucket, in the whole process. From now on it was.
    pub fn is_first(
        &self,
        rollout: &Rollout,
        guard: &Guard,
        test: usize,
        bucket: Bucket,
        copy: &mut Option<Firsts>,
    ) -> bool {
        if copy.as_ref().is_some_and(|copy| copy.has(bucket)) {
            return false;
        }
        let is_first = self.update(&self.firsts_key(&rollout.name, rollout.seed, test), |bytes| {
            let mut firsts = Firsts::read(guard.asked(rollout.seed), bytes);
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
    pub fn tell(
        &self,
        policy: &Policy,
        rollout: &Rollout,
        variant: VariantId,
        batch: &Batch,
    ) -> Option<Option<Change>> {
        let guard = rollout.guard.as_ref()?;
        let variant = &*rollout.variant(variant)?.name;
        let (before, case) = self.update(&self.record_key(&rollout.name, rollout.seed), |bytes| {
            let mut record = Record::read(rollout.seed, bytes);
            let case = record.case_mut(variant, guard.terms);
            let before = case.state;
            case.take(batch, guard);
            let case = *case;
            Some((record.bytes(rollout.seed), (before, case)))
        })?;
        series::publish(rollout, variant, batch, &case, guard, self.process);
        if case.state == State::Breached && guard.on_breach == OnBreach::Rollback {
            self.give(policy, rollout, variant);
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
    fn give(&self, policy: &Policy, rollout: &Rollout, variant: &str) {
        let verdict = Verdict {
            rollout: rollout.name.clone(),
            seed: rollout.seed.0,
            variant: variant.into(),
            revision: policy.revision,
        };
        // Who does not get it written tries again with the next batch, as everybody who has one.
        self.update(&self.verdicts_key(), |bytes| {
            let mut verdicts = Verdicts::read(bytes);
            let is_new = !verdicts.have(rollout, variant) && verdicts.add(verdict.clone());
            is_new.then(|| (verdicts.bytes(), ()))
        });
    }

    /// Shows whether a variant is given up.
    pub fn show_rolled_back(&self, rollout: &str, variant: &str, is_rolled_back: bool) {
        if let Some(series) = series::rolled_back(rollout, variant) {
            self.process.show(&series, u64::from(is_rolled_back));
        }
    }

    /// Forgets the case that led to a verdict which has lapsed, unless the guard is still there and only reports.
    pub fn forget(&self, policy: &Policy, verdict: &Verdict) {
        if is_judged(policy, &verdict.rollout, Seed(verdict.seed), &verdict.variant) {
            return self.show_rolled_back(&verdict.rollout, &verdict.variant, false);
        }
        series::clear(&verdict.rollout, &verdict.variant, self.process);
        let seed = Seed(verdict.seed);
        self.update(&self.record_key(&verdict.rollout, seed), |bytes| {
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
            self.update(&self.firsts_key(&verdict.rollout, seed, test), |bytes| {
                (!bytes.is_empty()).then(|| (Firsts::new(seed).bytes(), ()))
            });
        }
    }
}

/// Whether `policy` goes on with the case against a variant.
pub(super) fn is_judged(policy: &Policy, rollout: &str, seed: Seed, variant: &str) -> bool {
    policy.rollout_named(rollout).is_some_and(|(_, rollout)| {
        let variant = rollout.variant_named(variant);
        let compared = rollout.guard.as_ref().map(|guard| &guard.compared);
        rollout.seed == seed
            && variant.is_some_and(|variant| compared.is_some_and(|compared| compared.contains(&variant)))
    })
}
