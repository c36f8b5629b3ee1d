//! Verdicts: which variants were given up, in a form that outlives the policy under which that was said.

use serde::{Deserialize, Serialize};

use crate::guard::terms::OnBreach;
use crate::policy::{Policy, Rollout, RolloutId, is_name};
use crate::schedule::VariantId;

/// The most bytes of verdicts that are read: anybody can write them.
const MAX_BYTES: usize = 1 << 20;

/// The most verdicts that are kept: they take less than that, with the longest names.
const MOST: usize = 4_000;

/// A variant that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The rollout's name.
    pub rollout: Box<str>,
    /// The hash of its seed.
    pub seed: u64,
    /// The variant's name.
    pub variant: Box<str>,
    /// The revision of the policy under which that was said.
    pub revision: u64,
}

impl Verdict {
    /// The variant that `policy` still has with a guard that rolls back.
    fn concerns(&self, policy: &Policy) -> Option<(RolloutId, VariantId)> {
        let (id, rollout) = policy.rollout_named(&self.rollout)?;
        let variant = rollout.variant_named(&self.variant)?;
        let is_guarded = rollout
            .guard
            .as_ref()
            .is_some_and(|guard| guard.on_breach == OnBreach::Rollback && guard.compared.contains(&variant));
        (is_guarded && rollout.seed.0 == self.seed).then_some((id, variant))
    }

    fn is_about(&self, rollout: &Rollout, variant: &str) -> bool {
        (&*self.rollout, self.seed, &*self.variant) == (&*rollout.name, rollout.seed.0, variant)
    }
}

/// All verdicts of one plugin name, as they lie in shared data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts(Vec<Verdict>);

impl Verdicts {
    /// Reads them; what is none is empty.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Verdicts {
        if bytes.len() > MAX_BYTES {
            return Verdicts::default();
        }
        let mut verdicts: Vec<Verdict> = serde_json::from_slice(bytes).unwrap_or_default();
        // What no policy can be about would lapse at once, and be told.
        verdicts.retain(|it| is_name(&it.rollout) && is_name(&it.variant));
        Verdicts(verdicts)
    }

    /// What lies in shared data.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// Adds one; `false` where it is there, or there are too many to be read again.
    pub fn add(&mut self, verdict: Verdict) -> bool {
        let is_new = !self.0.contains(&verdict) && self.0.len() < MOST;
        if is_new {
            let Verdict { rollout, seed, variant, .. } = &verdict;
            self.0.retain(|it| (&it.rollout, it.seed, &it.variant) != (rollout, *seed, variant));
            self.0.push(verdict);
        }
        is_new
    }

    /// Removes those that `policy`, or one that came before it, has made lapse; these. A newer policy's are left to
    /// those who have it.
    pub fn lapse(&mut self, policy: &Policy) -> Vec<Verdict> {
        let lapses = |it: &mut Verdict| it.revision <= policy.revision && it.concerns(policy).is_none();
        self.0.extract_if(.., lapses).collect()
    }

    /// Whether the variant was given up.
    #[must_use]
    pub fn have(&self, rollout: &Rollout, variant: &str) -> bool {
        self.0.iter().any(|it| it.is_about(rollout, variant))
    }

    /// What they mean under a policy.
    #[must_use]
    pub fn under(&self, policy: &Policy) -> RolledBack {
        let mut list: Vec<_> = self.0.iter().filter_map(|it| it.concerns(policy)).collect();
        list.sort_unstable();
        list.dedup();
        RolledBack(list.into())
    }
}

/// The variants of a policy that give way to their rollout's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolledBack(Box<[(RolloutId, VariantId)]>);

impl RolledBack {
    /// Whether the variant does.
    #[must_use]
    pub fn has(&self, rollout: RolloutId, variant: VariantId) -> bool {
        // Mostly there is none.
        !self.0.is_empty() && self.0.binary_search(&(rollout, variant)).is_ok()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (RolloutId, VariantId)> {
        self.0.iter().copied()
    }

    /// These variants, by name; those that the policy lacks are left out.
    #[must_use]
    pub fn named<'n>(policy: &Policy, names: impl Iterator<Item = (&'n str, &'n str)>) -> RolledBack {
        let found = names.filter_map(|(rollout, variant)| {
            let (id, rollout) = policy.rollout_named(rollout)?;
            Some((id, rollout.variant_named(variant)?))
        });
        let mut list: Vec<_> = found.collect();
        list.sort_unstable();
        RolledBack(list.into())
    }

    /// As the config cluster is told: a list of RFC 9651, `checkout-v2/canary, search/b`, as far as a header holds it.
    #[must_use]
    pub fn header(&self, policy: &Policy) -> String {
        const MOST_BYTES: usize = 4_096;
        let mut header = String::new();
        for (id, variant) in self.iter() {
            let Some(rollout) = policy.rollout(id) else { continue };
            let Some(variant) = rollout.variant(variant) else { continue };
            let comma = if header.is_empty() { "" } else { ", " };
            if header.len() + comma.len() + rollout.name.len() + variant.name.len() < MOST_BYTES {
                header.extend([comma, &*rollout.name, "/", &*variant.name]);
            }
        }
        header
    }
}
