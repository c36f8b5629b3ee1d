//! Which decisions of earlier hops are followed.

use std::collections::HashMap;

use crate::baggage;
use crate::decide::Values;
use crate::mesh::{self, Entry, Macs};
use crate::policy::{Policy, Rollout, RolloutId};
use crate::schedule::VariantId;

/// The most decisions of which macs are compared: as many members as `baggage` has, so that repeating one costs nothing.
const MOST_TRIED: usize = 64;
/// How far the clocks of two hops may differ, in milliseconds.
const LEEWAY_MS: i64 = 30_000;

/// The decisions of earlier hops that are followed, ascending by rollout: `baggage` says them.
///
/// With keys those that it vouches for. Without keys, where `baggage` is silent the rollout's own header says it too, and what
/// any request might have been given is followed: `default`, and variants that have a share of the split about now.
pub fn decisions(policy: &Policy, values: &Values<'_>) -> Vec<(RolloutId, VariantId)> {
    match values.macs() {
        Some(macs) => vouched(policy, values, macs),
        None => drawn(policy, values),
    }
}

fn vouched(policy: &Policy, values: &Values<'_>, macs: &Macs) -> Vec<(RolloutId, VariantId)> {
    let Some(baggage) = values.header("baggage") else { return Vec::new() };
    let Some(entries) = baggage::macs(&baggage) else { return Vec::new() };
    let entries: HashMap<&str, Entry<'_>, foldhash::fast::RandomState> =
        mesh::entries(entries).map(|entry| (entry.rollout, entry)).collect();
    let mut followed = Followed::default();
    let decisions =
        baggage::decisions(&baggage).filter_map(|(name, variant)| Some((name, variant, entries.get(name)?)));
    for (name, variant, entry) in decisions.take(MOST_TRIED) {
        followed.follow(policy, name, variant, |id, _, variant| {
            macs.vouch(policy, (id, variant), entry, values.now_ms())
        });
    }
    followed.0
}

fn drawn(policy: &Policy, values: &Values<'_>) -> Vec<(RolloutId, VariantId)> {
    let mut followed = Followed::default();
    let mut follow = |name: &str, variant: &str| {
        followed.follow(policy, name, variant, |_, rollout, variant| might_get(rollout, variant, values));
    };
    if let Some(baggage) = values.header("baggage") {
        for (name, variant) in baggage::decisions(&baggage) {
            follow(name, variant);
        }
    }
    for name in values.headers_starting("x-mulkko-") {
        // A header that is repeated names no variant.
        let value = values.header(name).unwrap_or_default();
        if let (Some(rollout), Ok(variant)) = (name.strip_prefix("x-mulkko-"), str::from_utf8(&value)) {
            follow(rollout, variant);
        }
    }
    followed.0
}

/// Whether a request might have been given a variant without a pass, a condition or a condition's cohort: nobody has to take a
/// client's word for that.
fn might_get(rollout: &Rollout, variant: VariantId, values: &Values<'_>) -> bool {
    let schedule = &rollout.schedule;
    let has_share = |at_ms: i64| schedule.at(at_ms).width(variant) > 0;
    if variant == rollout.default || schedule.is_timeless() {
        return variant == rollout.default || has_share(0);
    }
    let now_ms = values.now_ms();
    [0, -LEEWAY_MS, LEEWAY_MS].iter().any(|by_ms| has_share(now_ms.saturating_add(*by_ms)))
}

/// Decisions, ascending by rollout.
#[derive(Default)]
struct Followed(Vec<(RolloutId, VariantId)>);

impl Followed {
    /// Follows a decision that `is_good`; of several for one rollout the first counts.
    fn follow(
        &mut self,
        policy: &Policy,
        name: &str,
        variant: &str,
        is_good: impl FnOnce(RolloutId, &Rollout, VariantId) -> bool,
    ) {
        let Some((id, rollout)) = policy.rollout_named(name) else { return };
        let Some(variant) = rollout.variant_named(variant) else { return };
        if let Err(at) = self.0.binary_search_by_key(&id, |(earlier, _)| *earlier)
            && is_good(id, rollout, variant)
        {
            self.0.insert(at, (id, variant));
        }
    }
}
