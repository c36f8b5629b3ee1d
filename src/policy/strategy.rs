//! Compiles the strategies, all five to the same thing: a split as a function of time.

use std::collections::HashMap;

use crate::bucket::{Percent, Threshold};
use crate::finding::{Findings, Path, Problem};
use crate::moment::{Duration, Instant};
use crate::schedule::{Cut, Schedule, Step, VariantId};
use crate::wire;

/// The most variants that a rollout may have.
pub const MAX_VARIANTS: usize = 100;
/// The most steps that a canary may have.
const MAX_STEPS: usize = 1_000;
/// The most batches that a rolling rollout may have.
const MAX_BATCHES: u64 = 1_000;

/// Which strategy a rollout has: what else it may say depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A growing share.
    Canary,
    /// One switch.
    BlueGreen,
    /// By proxy instance.
    Rolling,
    /// A fixed split.
    Ab,
    /// By pass or `force` only.
    Dark,
}

/// A rollout's variants by name, and its default.
pub struct Variants<'a> {
    /// The number of each.
    ids: HashMap<&'a str, VariantId, foldhash::fast::RandomState>,
    /// The default, where it is one of them.
    pub default: Option<VariantId>,
}

impl<'a> Variants<'a> {
    /// All of them, in document order; of a name that stands twice the first counts.
    pub fn new(names: &[&'a str]) -> Variants<'a> {
        let numbered = names.iter().enumerate().rev();
        let ids = numbered.filter_map(|(i, name)| Some((*name, VariantId(u8::try_from(i).ok()?))));
        Variants { ids: ids.collect(), default: None }
    }

    /// The variant `name`; reports at `place` that there is none.
    pub fn find(&self, name: &str, place: &Path<'_>, findings: &mut Findings) -> Option<VariantId> {
        let found = self.ids.get(name).copied();
        if found.is_none() {
            findings.report(place, Problem::unknown("variant", name));
        }
        found
    }

    /// The variant `name` of a strategy that moves keys away from the default.
    fn other(&self, name: &str, place: &Path<'_>, findings: &mut Findings) -> Option<VariantId> {
        let found = self.find(name, place, findings)?;
        if Some(found) == self.default {
            findings
                .report(place, Problem::expected("another variant than `default`", format_args!("`{name}`")));
            return None;
        }
        Some(found)
    }
}

/// Compiles `strategy`, which stands at `place`.
pub fn compile(
    strategy: &wire::Strategy,
    variants: &Variants<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<(Kind, Schedule)> {
    let wire::Strategy { canary, blue_green, rolling, ab, dark } = strategy;
    match (canary, blue_green, rolling, ab, dark) {
        (Some(it), None, None, None, None) => {
            Some((Kind::Canary, self::canary(it, variants, &place.field("canary"), findings)?))
        }
        (None, Some(it), None, None, None) => {
            Some((Kind::BlueGreen, self::blue_green(it, variants, &place.field("blueGreen"), findings)?))
        }
        (None, None, Some(it), None, None) => {
            Some((Kind::Rolling, self::rolling(it, variants, &place.field("rolling"), findings)?))
        }
        (None, None, None, Some(it), None) => {
            Some((Kind::Ab, self::ab(it, variants, &place.field("ab"), findings)?))
        }
        (None, None, None, None, Some(it)) => {
            variants.other(&it.variant, &place.field("dark").field("variant"), findings)?;
            Some((Kind::Dark, Schedule::always(variants.default?)))
        }
        _ => {
            let members =
                [canary.is_some(), blue_green.is_some(), rolling.is_some(), ab.is_some(), dark.is_some()];
            let found = members.iter().filter(|there| **there).count();
            findings.report(
                place,
                Problem::expected("exactly one of `canary`, `blueGreen`, `rolling`, `ab`, `dark`", found),
            );
            None
        }
    }
}

fn canary(
    canary: &wire::Canary,
    variants: &Variants<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Schedule> {
    let variant = variants.other(&canary.variant, &place.field("variant"), findings);
    let steps = match (&canary.percent, &canary.start, &canary.steps) {
        (Some(percent), None, None) => {
            percent_at(percent, &place.field("percent"), findings).map(|p| always(p.threshold()))
        }
        (None, Some(start), Some(steps)) => {
            let start_ms = instant(start, &place.field("start"), findings);
            let steps = self::steps(start_ms.unwrap_or_default(), steps, &place.field("steps"), findings);
            start_ms.and(steps)
        }
        _ => {
            findings
                .report(place, Problem::expected("`percent`, or `start` and `steps`", "another combination"));
            None
        }
    };
    Some(Schedule::Steps { variant: variant?, steps: steps?, rest: variants.default? })
}

fn always(end: Threshold) -> Box<[Step]> {
    Box::new([Step { from_ms: i64::MIN, end }])
}

fn steps(
    start_ms: i64,
    steps: &[wire::Step],
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Box<[Step]>> {
    let Some(last) = steps.len().checked_sub(1) else {
        findings.report(place, Problem::expected("at least one step", "none"));
        return None;
    };
    if steps.len() > MAX_STEPS {
        findings.report(place, Problem::over_limit("steps", MAX_STEPS, steps.len()));
        return None;
    }
    let mut from_ms = start_ms;
    let mut compiled = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        let place = place.item(i);
        if let Some(percent) = percent_at(&step.percent, &place.field("percent"), findings) {
            compiled.push(Step { from_ms, end: percent.threshold() });
        }
        let hold = place.field("hold");
        match &step.hold {
            Some(_) if i == last => {
                findings.report(&hold, Problem::expected("no `hold` on the last step", "one"));
            }
            None if i == last => {}
            None => findings.report(&place, Problem::MissingMember("hold".into())),
            Some(text) => {
                let hold_ms = positive_duration(text, &hold, findings).unwrap_or_default();
                from_ms = from_ms.saturating_add(hold_ms);
            }
        }
    }
    Some(compiled.into())
}

fn blue_green(
    blue_green: &wire::BlueGreen,
    variants: &Variants<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Schedule> {
    let active = variants.find(&blue_green.active, &place.field("active"), findings);
    let previous = variants.find(&blue_green.previous, &place.field("previous"), findings);
    let at = place.field("at");
    let from_ms = blue_green.at.as_ref().map_or(Some(i64::MIN), |text| instant(text, &at, findings));
    if previous.is_some() && previous != variants.default {
        findings.report(
            &place.field("previous"),
            Problem::expected("the `default` variant", format_args!("`{}`", blue_green.previous)),
        );
    }
    let active = active.filter(|active| {
        let same = Some(*active) == variants.default;
        if same {
            findings.report(
                &place.field("active"),
                Problem::expected("another variant than `default`", format_args!("`{}`", blue_green.active)),
            );
        }
        !same
    });
    let steps = Box::new([Step { from_ms: from_ms?, end: Threshold::EVERYBODY }]);
    Some(Schedule::Steps { variant: active?, steps, rest: previous? })
}

fn rolling(
    rolling: &wire::Rolling,
    variants: &Variants<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Schedule> {
    let variant = variants.other(&rolling.variant, &place.field("variant"), findings);
    let start_ms = instant(&rolling.start, &place.field("start"), findings);
    let every_ms = positive_duration(&rolling.every, &place.field("every"), findings);
    let batches = rolling.batches;
    if !(1..=MAX_BATCHES).contains(&batches) {
        let expected = format!("1 to {MAX_BATCHES}");
        findings.report(&place.field("batches"), Problem::expected(expected, batches));
        return None;
    }
    Some(Schedule::Batches {
        variant: variant?,
        start_ms: start_ms?,
        batches,
        every_ms: every_ms?,
        rest: variants.default?,
    })
}

fn ab(ab: &wire::Ab, variants: &Variants<'_>, place: &Path<'_>, findings: &mut Findings) -> Option<Schedule> {
    let (start, end) = (place.field("start"), place.field("end"));
    let start_ms = ab.start.as_ref().map_or(Some(i64::MIN), |text| instant(text, &start, findings));
    let end_ms = ab.end.as_ref().map_or(Some(i64::MAX), |text| instant(text, &end, findings));
    let (mut cuts, last) = shares(&ab.split, variants, &place.field("split"), findings)?;
    cuts.pop();
    let (start_ms, end_ms) = (start_ms?, end_ms?);
    if start_ms >= end_ms {
        let found = ab.end.as_deref().unwrap_or_default();
        findings.report(&end, Problem::expected("an instant after `start`", found));
        return None;
    }
    Some(Schedule::Between { start_ms, end_ms, cuts: cuts.into(), last, outside: variants.default? })
}

/// The cuts of a split, and its last variant. Every variant stands once, the default is one of at least two, and the
/// percentages add up to exactly 100.
fn shares(
    split: &[wire::Share],
    variants: &Variants<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<(Vec<Cut>, VariantId)> {
    if split.len() < 2 {
        findings.report(place, Problem::expected("at least two variants", split.len()));
        return None;
    }
    if split.len() > MAX_VARIANTS {
        findings.report(place, Problem::over_limit("variants", MAX_VARIANTS, split.len()));
        return None;
    }
    let mut cuts: Vec<Cut> = Vec::with_capacity(split.len());
    let mut sum_ppm = 0_u64;
    for (i, share) in split.iter().enumerate() {
        let place = place.item(i);
        let variant = variants.find(&share.variant, &place.field("variant"), findings);
        let percent = percent_at(&share.percent, &place.field("percent"), findings);
        let (Some(variant), Some(percent)) = (variant, percent) else { continue };
        if cuts.iter().any(|cut| cut.variant == variant) {
            findings.report(&place.field("variant"), Problem::twice(&share.variant));
        }
        sum_ppm += u64::from(percent.parts_per_million());
        cuts.push(Cut { end: Threshold::of_ppm(sum_ppm), variant });
    }
    if cuts.len() < split.len() {
        return None;
    }
    if sum_ppm != 1_000_000 {
        let found = format!("{}.{:04}", sum_ppm / 10_000, sum_ppm % 10_000);
        let found = found.trim_end_matches('0').trim_end_matches('.').to_owned();
        findings.report(place, Problem::expected("percentages that add up to 100", found));
        return None;
    }
    if !cuts.iter().any(|cut| Some(cut.variant) == variants.default) {
        findings.report(place, Problem::expected("the `default` variant among them", "others only"));
        return None;
    }
    let last = cuts.last()?.variant;
    Some((cuts, last))
}

/// Reads a percentage; reports at `place` what is none.
pub fn percent_at(number: &wire::Number, place: &Path<'_>, findings: &mut Findings) -> Option<Percent> {
    findings.reported(Percent::parse(number.0.get()), place)
}

fn instant(text: &str, place: &Path<'_>, findings: &mut Findings) -> Option<i64> {
    findings.reported(Instant::parse(text), place).map(Instant::unix_ms)
}

fn positive_duration(text: &str, place: &Path<'_>, findings: &mut Findings) -> Option<i64> {
    let duration = findings.reported(Duration::positive(text), place)?;
    i64::try_from(duration.as_ms()).ok()
}
