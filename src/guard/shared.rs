//! What the VMs of a process share about guards: records, verdicts, and which keys have failed.

use crate::bucket::{Bucket, Seed};
use crate::guard::change::Change;
use crate::guard::firsts::Firsts;
use crate::guard::record::{Batch, Record, State};
use crate::guard::series::{self, Series};
use crate::guard::terms::{Guard, OnBreach, TESTS};
use crate::guard::verdicts::{Author, Verdict, Verdicts};
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
pub(crate) struct Shared<'s> {
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

    pub fn firsts_key(&self, rollout: &str, seed: Seed, test: usize) -> String {
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

    /// When the epoch began in which this is the first bad event of the key in this bucket, in the whole process; nothing
    /// where it is not the first. From now on it was.
    pub fn first(
        &self,
        rollout: &Rollout,
        guard: &Guard,
        test: usize,
        bucket: Bucket,
        now_ms: i64,
        copy: &mut Option<Firsts>,
    ) -> Option<i64> {
        let mut worn_since_ms = None;
        if let Some(copy) = copy.as_mut().filter(|copy| copy.has(bucket)) {
            if !copy.is_worn(now_ms) {
                copy.lose(copy.lost().saturating_add(1));
                return None;
            }
            worn_since_ms = Some(copy.since_ms());
        }
        let lost = copy.as_ref().map_or(0, Firsts::lost);
        self.update(&self.firsts_key(&rollout.name, rollout.seed, test), |bytes| {
            let mut firsts = Firsts::read(guard.asked(rollout.seed), bytes, now_ms);
            // Unless another VM has done so.
            if Some(firsts.since_ms()) == worn_since_ms {
                firsts.restart(now_ms);
            }
            let is_first = !firsts.has(bucket);
            if is_first {
                firsts.note(bucket, now_ms);
            } else {
                firsts.lose(lost.saturating_add(1));
            }
            let (written, since_ms) = (firsts.bytes(), firsts.since_ms());
            *copy = Some(firsts);
            is_first.then_some((written, since_ms))
        })
    }

    /// Adds a batch to the case against a variant. Nothing where it could not be added; else what has changed, if anything.
    pub fn tell(
        &self,
        author: Author,
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
            self.give(Verdict::new(author, policy, rollout, variant));
        }
        Some((before != case.state).then(|| Change::State {
            rollout: (*rollout.name).into(),
            variant: variant.into(),
            default: rollout.variant(rollout.default).map(|it| (*it.name).into()).unwrap_or_default(),
            before,
            case: Box::new(case),
            guard: guard.clone(),
        }))
    }

    /// Gives a verdict.
    fn give(&self, verdict: Verdict) {
        // Who does not get it written tries again with the next batch, as everybody who has one.
        self.update(&self.verdicts_key(), |bytes| {
            let mut verdicts = Verdicts::read(bytes).unwrap_or_default();
            verdicts.add(verdict.clone()).then(|| (verdicts.bytes(), ()))
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
        let (rollout, seed) = (&*verdict.rollout, Seed(verdict.seed));
        if is_judged(policy, rollout, seed, &verdict.variant) {
            return self.show_rolled_back(rollout, &verdict.variant, false);
        }
        series::clear(rollout, &verdict.variant, self.process);
        if !is_guarded(policy, rollout, seed) {
            return self.empty(rollout, seed);
        }
        // Others are judged still: each key's first bad event stays the first.
        self.update(&self.record_key(rollout, seed), |bytes| {
            let mut record = Record::read(seed, bytes);
            record.case(&verdict.variant)?;
            record.drop_case(&verdict.variant);
            Some((record.bytes(seed), ()))
        });
    }

    /// Forgets what a guard has left behind that `policy` does not go on with.
    pub fn clear_away(&self, rollout: &Rollout, guard: &Guard, policy: &Policy) {
        for variant in guard.compared.iter().filter_map(|variant| rollout.variant(*variant)) {
            if !is_judged(policy, &rollout.name, rollout.seed, &variant.name) {
                series::clear(&rollout.name, &variant.name, self.process);
            }
        }
        if !is_guarded(policy, &rollout.name, rollout.seed) {
            self.empty(&rollout.name, rollout.seed);
        }
        if policy.rollout_named(&rollout.name).is_none_or(|(_, rollout)| rollout.guard.is_none()) {
            self.process.show_idle(&rollout.name, false);
        }
    }

    /// Empties the entries of a rollout with that seed: there is no way to remove them.
    fn empty(&self, rollout: &str, seed: Seed) {
        let keys = (0..TESTS).map(|test| self.firsts_key(rollout, seed, test));
        for key in keys.chain([self.record_key(rollout, seed)]) {
            self.update(&key, |bytes| (!bytes.is_empty()).then(|| (Vec::new(), ())));
        }
    }
}

/// Whether `policy` has a guard on the rollout, with that seed.
fn is_guarded(policy: &Policy, rollout: &str, seed: Seed) -> bool {
    let found = policy.rollout_named(rollout);
    found.is_some_and(|(_, rollout)| rollout.guard.is_some() && rollout.seed == seed)
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
