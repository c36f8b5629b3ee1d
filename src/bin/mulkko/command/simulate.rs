//! `mulkko simulate`: who gets what, for so many keys, at an instant or over time.

mod chart;
mod counts;
mod flags;
mod ratio;
mod shown;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use mulkko::cases::Asked;
use mulkko::decide::{Decision, Reason};
use mulkko::dry_run::DryRun;
use mulkko::moment::Duration;
use mulkko::policy::{Policy, RolloutId};
use mulkko::schedule::{Split, VariantId};
use mulkko::wire;
use serde::Serialize;

use super::Outcome;
use super::document::Input;
use super::moments::{self, duration};
use super::output::Output;
use super::request::{At, ContextOption, Options, Proxy, plain};
use super::traffic::{Keys, Sample, Template, samples, tally};
use counts::Counts;
use flags::{OfFlag, Told};
use ratio::SampleRatio;

/// The most instants at which shares are counted.
const MOST_INSTANTS: usize = 200;
/// How many instants there are at least, where conditions ask for the time.
const EVEN_INSTANTS: i64 = 24;
/// How unlikely a deviation is of which is told: 0.001, shared by all rollouts of one simulation.
const UNLIKELY: f64 = 0.001;

/// Count who gets what: shares per variant, overlap between rollouts, and whether the split is as intended.
///
/// Every key makes a request for each rollout: one that its hosts and matches fit, with what the options below add. Each
/// targeting key of the policy, and for a rolling update the proxy's id, is the simulated one. Flags are counted as a client of
/// OFREP gets them that asks for that key.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko simulate policies/canary.json --keys 1000000 --at 2026-12-01T09:45:00Z
  mulkko simulate policies/canary.json --at 2026-12-01T08:30:00Z --over 4h --svg canary.svg
  mulkko simulate policies/cohorts.json --keys users.txt -H 'x-region: kr' -H 'user-agent: Mobile' -H 'x-app-version: 3.2.0'")]
pub struct Simulate {
    #[command(flatten)]
    input: Input,

    /// How many keys, or a file with one in each line
    #[arg(long, value_name = "N|FILE", default_value = "100000")]
    keys: Keys,

    #[command(flatten)]
    at: At,

    /// For how long from that instant on: shares over time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    over: Option<Duration>,

    /// Draw the shares over time
    #[arg(long, value_name = "FILE", requires = "over")]
    svg: Option<PathBuf>,

    /// Count for this rollout only; may be given many times
    #[arg(long = "rollout", value_name = "NAME")]
    rollouts: Vec<String>,

    /// Count for this flag only; may be given many times
    #[arg(long = "flag", value_name = "KEY")]
    flags: Vec<String>,

    #[command(flatten)]
    request: Options,

    #[command(flatten)]
    context: ContextOption,

    #[command(flatten)]
    proxy: Proxy,
}

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulation {
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    revision: u64,
    keys: u64,
    at: String,
    rollouts: Vec<OfRollout>,
    /// The rollouts for which no request was found.
    without: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<OfFlag>,
    overlaps: Vec<Overlap>,
    #[serde(skip)]
    range_ms: (i64, i64),
}

/// What the keys got of one rollout.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfRollout {
    rollout: String,
    request: Asked,
    variants: Vec<Share>,
    /// No request meets `when`.
    #[serde(skip)]
    nobody_is_eligible: bool,
    /// How many keys for each reason.
    reasons: Vec<(&'static str, u64)>,
    /// Whether the split is as intended; `None` where nothing was split.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_ratio: Option<SampleRatio>,
    /// The shares from each instant on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    over: Vec<Since>,
}

/// A variant's share at the first instant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Share {
    variant: String,
    keys: u64,
    /// Of all keys, 0 to 1.
    share: f64,
    /// How many of those that were split.
    split: u64,
    /// What the strategy says of those, 0 to 1.
    intended: f64,
}

/// The shares from an instant on.
#[derive(Debug, Serialize)]
struct Since {
    at: String,
    #[serde(skip)]
    at_ms: i64,
    /// By variant, 0 to 1.
    shares: Vec<f64>,
}

/// How many keys are away from the default in two rollouts.
#[derive(Debug, Serialize)]
struct Overlap {
    rollouts: [String; 2],
    keys: u64,
    /// How many there would be if one knew nothing of the other.
    independent: f64,
}

impl Simulate {
    pub fn run(self, output: &Output) -> Result<Outcome> {
        let taken = self.input.taken()?;
        let whole: wire::Document = serde_json::from_slice(&taken.document.text)?;
        let run = self.proxy.run(taken, self.at.at)?;
        for name in &self.rollouts {
            run.policy.rollout_named(name).with_context(|| format!("the policy has no rollout `{name}`"))?;
        }
        let flags = Told::of(&run.policy, &self.flags, self.rollouts.is_empty())?;
        let all = self.rollouts.is_empty() && self.flags.is_empty();
        let is_told = |name: &str| all || self.rollouts.iter().any(|it| it == name);
        let (samples, without) = samples(&whole, &run, &self.request, is_told);
        let from_ms = run.host.now_ms;
        let over_ms = self.over.map_or(0, |it| i64::try_from(it.as_ms()).unwrap_or(i64::MAX));
        let range_ms = (from_ms, from_ms.saturating_add(over_ms));
        let instants = instants(&run.policy, range_ms, asks_for_the_time(&whole));
        let counts = self.counted(&run, &samples, &instants, &flags)?;
        if counts.keys == 0 {
            bail!("there are no keys");
        }

        let asked = samples.iter().flat_map(|sample| sample.rollouts.iter().map(|id| (*id, &sample.asked)));
        let mut asked: Vec<(RolloutId, &Asked)> = asked.collect();
        asked.sort_by_key(|(id, _)| *id);
        let likely = UNLIKELY / asked.len().max(1) as f64;
        let of = |(id, asked): &(RolloutId, &Asked)| {
            of_rollout(*id, asked, &run.policy, &counts, &instants, likely)
        };
        let rollouts: Vec<OfRollout> = asked.iter().filter_map(of).collect();
        let simulation = Simulation {
            policy: run.policy.name.as_deref().map(str::to_owned),
            revision: run.policy.revision,
            keys: counts.keys,
            at: moments::told(from_ms),
            overlaps: overlaps(&run.policy, &counts),
            rollouts,
            without,
            flags: flags.counted(&run.policy, &counts),
            range_ms,
        };
        if let Some(path) = &self.svg {
            let svg = chart::svg(&simulation)?;
            std::fs::write(path, svg).with_context(|| path.display().to_string())?;
        }
        output.tell(&simulation, || shown::text(&simulation))?;
        let as_intended = |it: &OfRollout| it.sample_ratio.is_none_or(|it| it.as_intended);
        let is_good = simulation.rollouts.iter().all(as_intended) && simulation.without.is_empty();
        Ok(if is_good { Outcome::Good } else { Outcome::Findings })
    }

    /// What every key gets, at each instant.
    fn counted(&self, run: &DryRun, samples: &[Sample], instants: &[i64], flags: &Told) -> Result<Counts> {
        let templates: Vec<_> = samples
            .iter()
            .map(|sample| (Template::new(&sample.asked, &run.policy), &sample.rollouts))
            .collect();
        let template_of_flags = Template::new(&self.request.asked(plain()), &run.policy);
        let new = || Counts::new(&run.policy, instants.len());
        let count = |counts: &mut Counts, key: String| {
            counts.keys += 1;
            for (i, at_ms) in instants.iter().enumerate() {
                let mut away = Vec::new();
                for (template, rollouts) in &templates {
                    template.decided(run, &key, *at_ms, |decisions| {
                        for decision in decisions.list.iter().filter(|it| rollouts.contains(&it.rollout)) {
                            counts.add(i, decision);
                            away.extend(is_away(&run.policy, decision).then_some(decision.rollout));
                        }
                    });
                }
                if i == 0 {
                    counts.meet(&mut away);
                }
            }
            if let (false, Some(at_ms)) = (flags.is_empty(), instants.first()) {
                let context = self.context.of(&key);
                template_of_flags
                    .asked(run, &key, *at_ms, |request| flags.count(counts, &run.policy, request, &context));
            }
        };
        tally(self.keys.source()?, new, count, Counts::merge)
    }
}

/// Whether a decision is another variant than the default.
fn is_away(policy: &Policy, decision: &Decision) -> bool {
    policy.rollout(decision.rollout).is_some_and(|it| it.default != decision.variant)
}

/// The instants at which anything may change.
fn instants(policy: &Policy, (from_ms, to_ms): (i64, i64), by_the_clock: bool) -> Vec<i64> {
    let changes = policy.rollouts.iter().flat_map(|rollout| rollout.schedule.changes());
    let mut instants: Vec<i64> = changes.filter(|at| (from_ms..=to_ms).contains(at)).collect();
    if by_the_clock {
        let step = ((to_ms - from_ms) / EVEN_INSTANTS).max(1);
        instants.extend((0..EVEN_INSTANTS).map(|i| from_ms + i * step).take_while(|at| *at <= to_ms));
    }
    instants.push(from_ms);
    instants.sort_unstable();
    instants.dedup();
    // As many as can be told, evenly.
    let every = instants.len().div_ceil(MOST_INSTANTS);
    instants.into_iter().step_by(every).collect()
}

fn asks_for_the_time(document: &wire::Document) -> bool {
    let mut asks = false;
    mulkko::lint::each_expression(document, &mut |operator, operands| {
        let name = operands.first();
        asks |= operator == "var"
            && matches!(name, Some(mulkko::json::Json::Text(name)) if **name == *"$flagd.timestamp");
    });
    asks
}

fn of_rollout(
    id: RolloutId,
    asked: &Asked,
    policy: &Policy,
    counts: &Counts,
    instants: &[i64],
    likely: f64,
) -> Option<OfRollout> {
    let rollout = policy.rollout(id)?;
    let split = rollout.schedule.at(*instants.first()?);
    let split = if rollout.enabled { split } else { Split::Whole(rollout.default) };
    let variant = |i: usize| VariantId(u8::try_from(i).unwrap_or(u8::MAX));
    let of_all = |keys: u64| if counts.keys == 0 { 0.0 } else { keys as f64 / counts.keys as f64 };
    let variants = rollout.variants.iter().enumerate().map(|(i, it)| {
        let keys = counts.of(0, id, variant(i), &Reason::ALL);
        Share {
            variant: it.name.to_string(),
            keys,
            share: of_all(keys),
            split: counts.of(0, id, variant(i), &[Reason::Split]),
            intended: split.width(variant(i)) as f64 / 2_f64.powi(32),
        }
    });
    let variants: Vec<Share> = variants.collect();
    let reasons = Reason::ALL.iter().map(|reason| {
        let of = (0..rollout.variants.len()).map(|i| counts.of(0, id, variant(i), &[*reason]));
        (reason.as_str(), of.sum())
    });
    let over = instants.iter().enumerate().map(|(i, at_ms)| Since {
        at: moments::told(*at_ms),
        at_ms: *at_ms,
        shares: (0..variants.len()).map(|it| of_all(counts.of(i, id, variant(it), &Reason::ALL))).collect(),
    });
    let mut over: Vec<Since> = over.collect();
    over.dedup_by(|later, earlier| later.shares == earlier.shares);
    let default = counts.of(0, id, rollout.default, &[Reason::Default]);
    Some(OfRollout {
        nobody_is_eligible: rollout.when.is_some() && default == counts.keys,
        rollout: rollout.name.to_string(),
        request: asked.clone(),
        sample_ratio: SampleRatio::of(&variants, likely),
        variants,
        reasons: reasons.filter(|(_, keys)| *keys > 0).collect(),
        over: if instants.len() > 1 { over } else { Vec::new() },
    })
}

fn overlaps(policy: &Policy, counts: &Counts) -> Vec<Overlap> {
    let name = |id: RolloutId| policy.rollout(id).map_or_else(String::new, |it| it.name.to_string());
    let pairs = counts.pairs().map(|(a, b, keys, independent)| Overlap {
        rollouts: [name(a), name(b)],
        keys,
        independent,
    });
    pairs.collect()
}
