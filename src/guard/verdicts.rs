//! Verdicts: which variants were given up, in a form that outlives the policy under which that was said.

use serde::{Deserialize, Serialize};

use crate::guard::terms::OnBreach;
use crate::policy::{Policy, Rollout, RolloutId, is_name};
use crate::schedule::VariantId;

/// The most bytes of verdicts that are read: anybody can write them.
const MAX_BYTES: usize = 1 << 20;

/// The most verdicts that are kept: they take less than that, with the longest names.
const MOST: usize = 3_000;

/// So many lapse at once.
const MOST_LAPSE: usize = 64;

/// Who gives verdicts, and may let them lapse: another listener that is draining, or is called the same by mistake, must not
/// undo a rollback that is none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// Where its policies come from, hashed; 0: from the plugin configuration.
    pub source: u64,
    /// Since when it has its configuration, in unix milliseconds.
    pub since_ms: i64,
}

impl Author {
    /// One whose policy stands in its configuration.
    #[must_use]
    pub fn inline(since_ms: i64) -> Author {
        Author { source: 0, since_ms }
    }
}

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
    /// Where that policy came from.
    #[serde(default)]
    pub source: u64,
    /// Since when who said it had its configuration.
    #[serde(default)]
    pub since_ms: i64,
}

impl Verdict {
    /// That the variant is given up.
    pub fn new(author: Author, policy: &Policy, rollout: &Rollout, variant: &str) -> Verdict {
        Verdict {
            rollout: (*rollout.name).into(),
            seed: rollout.seed.0,
            variant: variant.into(),
            revision: policy.revision,
            source: author.source,
            since_ms: author.since_ms,
        }
    }

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

    fn is_like(&self, other: &Verdict) -> bool {
        (&self.rollout, self.seed, &self.variant) == (&other.rollout, other.seed, &other.variant)
    }

    /// Whether it lapses because `policy` does not have the variant any more. Not where that policy is older, or was not put
    /// in the place of the verdict's own.
    fn lapses(&self, policy: &Policy, author: Author) -> bool {
        let is_newer = author.source == 0 || self.revision <= policy.revision;
        let is_own = self.source == author.source && self.since_ms <= author.since_ms;
        is_own && is_newer && self.concerns(policy).is_none()
    }
}

/// All verdicts of one plugin name, as they lie in shared data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts(Vec<Verdict>);

impl Verdicts {
    /// Reads them; nothing where they are damaged.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Verdicts> {
        if bytes.is_empty() {
            return Some(Verdicts::default());
        }
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let mut verdicts: Vec<Verdict> = serde_json::from_slice(bytes).ok()?;
        // What no policy can be about would lapse at once, and be told.
        verdicts.retain(|it| is_name(&it.rollout) && is_name(&it.variant));
        Some(Verdicts(verdicts))
    }

    /// What lies in shared data.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// Adds one; `false` where it is there, or there are too many to be read again.
    pub fn add(&mut self, verdict: Verdict) -> bool {
        let is_new = self.0.len() < MOST && !self.0.iter().any(|it| it.is_like(&verdict));
        if is_new {
            self.0.push(verdict);
        }
        is_new
    }

    /// Removes some of those that lapse under `policy`; these.
    pub fn lapse(&mut self, policy: &Policy, author: Author) -> Vec<Verdict> {
        self.0.extract_if(.., |it| it.lapses(policy, author)).take(MOST_LAPSE).collect()
    }

    /// Makes those its own that an earlier configuration has left behind: the plugin was updated, and they are to lapse with
    /// this one's policies.
    pub fn adopt(&mut self, policy: &Policy, author: Author) {
        for verdict in &mut self.0 {
            let is_left = verdict.source != author.source && verdict.since_ms < author.since_ms;
            if is_left && verdict.concerns(policy).is_some() {
                (verdict.source, verdict.since_ms) = (author.source, author.since_ms);
                verdict.revision = policy.revision;
            }
        }
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
