//! Compiles one rollout.

use std::sync::Arc;

use crate::bucket::Seed;
use crate::finding::{Findings, Path, Problem};
use crate::logic::{Compiler, Condition};
use crate::policy::guard::{self, Guarded};
use crate::policy::names::{check_header_value, check_name, check_rollout_name, variant_header};
use crate::policy::shadow;
use crate::policy::strategy::{self, Kind, MAX_VARIANTS, Variants, percent_at};
use crate::policy::texts::Texts;
use crate::policy::{Called, Clusters, KeyId, NameMap, Rollout, Slice, TargetingKey, Variant};
use crate::schedule::VariantId;
use crate::wire;

/// The most headers that a variant may set.
const MAX_HEADERS: usize = 100;
/// The most `force` entries of a rollout.
const MAX_FORCE: usize = 1_000;

/// What the rest of the document defines for rollouts.
pub struct Surroundings<'a> {
    /// The targeting keys by name.
    pub keys: &'a NameMap<KeyId>,
    /// The key of each layer by its name.
    pub layers: &'a NameMap<KeyId>,
    /// Where variants may lead.
    pub clusters: &'a Clusters,
    /// The texts that variants share.
    pub texts: &'a Texts,
}

impl Surroundings<'_> {
    /// The targeting key `name`; reports at `place` that there is none.
    pub fn key(&self, name: &str, place: &Path<'_>, findings: &mut Findings) -> Option<KeyId> {
        let found = self.keys.get(name).copied();
        if found.is_none() {
            findings.report(place, Problem::unknown("key", name));
        }
        found
    }
}

/// Compiles the rollout at `place`, but for its hosts and matches, which the index takes.
pub fn compile(
    rollout: &wire::Rollout,
    around: &Surroundings<'_>,
    logic: &mut Compiler,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Rollout> {
    check_rollout_name(&rollout.name, &place.field("name"), findings);
    let variants = variants(rollout, around, &place.field("variants"), findings);
    let names: Vec<&str> = rollout.variants.0.iter().map(|(name, _)| &**name).collect();
    let mut by_name = Variants::new(&names);
    by_name.default = by_name.find(&rollout.default, &place.field("default"), findings);
    let compiled = strategy::compile(&rollout.strategy, &by_name, &place.field("strategy"), findings);
    let key = targeting_key(rollout, compiled.as_ref().map(|(kind, _)| *kind), around, place, findings);
    let slice = slice(rollout, compiled.as_ref().map(|(kind, _)| *kind), around, place, findings);
    let when = match &rollout.when {
        None => Some(None),
        Some(when) => logic.when(when, &place.field("when"), findings).map(Some),
    };
    let shadow = match &rollout.shadow {
        None => Some(None),
        Some(shadow) => {
            shadow::compile(shadow, rollout, around, logic, &place.field("shadow"), findings).map(Some)
        }
    };
    let force = force(&rollout.force, &by_name, logic, &place.field("force"), findings);
    let seed = seed(rollout, place, findings);
    let (kind, schedule) = compiled?;
    let (key, default, seed) = (key?, by_name.default?, seed?);
    let guard = match &rollout.guard {
        None => None,
        Some(guard) => {
            let guarded = Guarded {
                name: &rollout.name,
                seed,
                variants: &names,
                kind,
                schedule: &schedule,
                key,
                key_name: rollout.key.as_deref(),
                default,
            };
            Some(Box::new(guard::compile(guard, &guarded, &place.field("guard"), findings)?))
        }
    };
    Some(Rollout {
        called: Called::of(&rollout.name),
        name: rollout.name.as_str().into(),
        enabled: rollout.state == wire::State::Enabled,
        key,
        when: when?,
        force: force?,
        variants,
        default,
        seed,
        schedule,
        slice: slice.map(Box::new),
        guard,
        shadow: shadow?.map(Box::new),
        held_out: matches!(kind, Kind::Canary | Kind::Ab) && rollout.holdout.unwrap_or(true),
    })
}

fn variants(
    rollout: &wire::Rollout,
    around: &Surroundings<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Box<[Variant]> {
    let entries = &rollout.variants.0;
    if entries.len() > MAX_VARIANTS {
        findings.report(place, Problem::over_limit("variants", MAX_VARIANTS, entries.len()));
        return Box::default();
    }
    let mut compiled: Vec<Variant> = Vec::with_capacity(entries.len());
    let mut names: NameMap<()> = NameMap::default();
    for (name, variant) in entries {
        let place = place.field(name);
        check_name(name, &place, findings);
        if names.insert(name.clone(), ()).is_some() {
            findings.report(&place, Problem::twice(name));
        }
        if let Some(cluster) = &variant.cluster {
            check_cluster(cluster, around.clusters, &place.field("cluster"), findings);
        }
        compiled.push(Variant {
            name: around.texts.share(name),
            cluster: variant.cluster.as_deref().map(|cluster| around.texts.share(cluster)),
            headers: headers(&variant.headers, around.texts, &place.field("headers"), findings),
        });
    }
    compiled.into()
}

pub(super) fn check_cluster(cluster: &str, clusters: &Clusters, place: &Path<'_>, findings: &mut Findings) {
    check_header_value(cluster, place, findings);
    if cluster.is_empty() || !clusters.allow(cluster) {
        let problem =
            Problem::expected("a cluster that the plugin's `clusters` allows", format_args!("\"{cluster}\""));
        findings.report(place, problem);
    }
}

fn headers(
    headers: &wire::Entries<String>,
    texts: &Texts,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Box<[(Arc<str>, Arc<str>)]> {
    if headers.0.len() > MAX_HEADERS {
        findings.report(place, Problem::over_limit("headers", MAX_HEADERS, headers.0.len()));
        return Box::default();
    }
    let mut compiled: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(headers.0.len());
    let mut names: NameMap<()> = NameMap::default();
    for (name, value) in &headers.0 {
        let place = place.field(name);
        check_header_value(value, &place, findings);
        let Some(lower) = variant_header(name, &place, findings) else { continue };
        compiled.push((texts.share(&lower), texts.share(value)));
        if names.insert(lower, ()).is_some() {
            findings.report(&place, Problem::twice(name));
        }
    }
    compiled.into()
}

fn targeting_key(
    rollout: &wire::Rollout,
    kind: Option<Kind>,
    around: &Surroundings<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<TargetingKey> {
    let at = place.field("key");
    match (kind, &rollout.key) {
        (Some(Kind::Rolling), None) => Some(TargetingKey::Node),
        (Some(Kind::Rolling), Some(key)) => {
            findings
                .report(&at, Problem::expected("no key: `rolling` moves proxies", format_args!("`{key}`")));
            None
        }
        (Some(Kind::Canary | Kind::Ab), None) => {
            findings.report(place, Problem::MissingMember("key".into()));
            None
        }
        (_, Some(key)) => around.key(key, &at, findings).map(TargetingKey::Key),
        (Some(Kind::BlueGreen | Kind::Dark), None) => Some(TargetingKey::None),
        // What the strategy would be was refused.
        (None, None) => None,
    }
}

/// The slice of a layer, for the strategies that may have one; reports a `holdout` that only a canary may have too.
fn slice(
    rollout: &wire::Rollout,
    kind: Option<Kind>,
    around: &Surroundings<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Slice> {
    let kind = kind?;
    if rollout.holdout.is_some() && kind != Kind::Canary {
        let problem = Problem::expected("no `holdout`: only a canary may have it", "one");
        findings.report(&place.field("holdout"), problem);
    }
    let layer = rollout.layer.as_ref()?;
    let at = place.field("layer");
    if !matches!(kind, Kind::Canary | Kind::Ab) {
        findings.report(&at, Problem::expected("no `layer`: only `canary` and `ab` may have one", "one"));
        return None;
    }
    let Some(key) = around.layers.get(layer.name.as_str()).copied() else {
        findings.report(&at.field("name"), Problem::unknown("layer", &layer.name));
        return None;
    };
    let from = percent_at(&layer.from, &at.field("from"), findings);
    let to = percent_at(&layer.to, &at.field("to"), findings);
    let (from, to) = (from?, to?);
    if from >= to {
        findings.report(&at.field("to"), Problem::expected("more than `from`", layer.to.0.get()));
        return None;
    }
    Some(Slice { seed: Seed::new(&layer.name), key, from: from.threshold(), to: to.threshold() })
}

fn force(
    force: &[wire::Force],
    variants: &Variants<'_>,
    logic: &mut Compiler,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Box<[(Condition, VariantId)]>> {
    if force.len() > MAX_FORCE {
        findings.report(place, Problem::over_limit("entries", MAX_FORCE, force.len()));
        return None;
    }
    let mut compiled = Vec::with_capacity(force.len());
    for (i, entry) in force.iter().enumerate() {
        let place = place.item(i);
        let when = logic.condition(&entry.when, &place.field("when"), findings);
        let variant = variants.find(&entry.variant, &place.field("variant"), findings);
        if let (Some(when), Some(variant)) = (when, variant) {
            compiled.push((when, variant));
        }
    }
    (compiled.len() == force.len()).then(|| compiled.into())
}

fn seed(rollout: &wire::Rollout, place: &Path<'_>, findings: &mut Findings) -> Option<Seed> {
    let Some(seed) = &rollout.seed else { return Some(Seed::new(&rollout.name)) };
    if seed.is_empty() || seed.contains(':') {
        let problem = Problem::expected("a text without `:`, not empty", format_args!("\"{seed}\""));
        findings.report(&place.field("seed"), problem);
        return None;
    }
    Some(Seed::new(seed))
}
