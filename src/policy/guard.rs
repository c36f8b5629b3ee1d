//! Compiles guards.

use std::hash::Hasher;

use fnv::FnvHasher;

use crate::bucket::Seed;
use crate::finding::{Findings, Path, Problem};
use crate::guard::{Errors, Failures, Guard, Latency, MAX_COMPARED, MAX_QUANTILES, OnBreach, Unit};
use crate::moment::Duration;
use crate::policy::strategy::Kind;
use crate::policy::{KeyId, TargetingKey};
use crate::schedule::{Schedule, VariantId};
use crate::wire;

/// How likely a healthy variant is given up, in one proxy, ever.
const ALPHA: f64 = 0.001;
/// How many times the default's odds of a bad request are tolerated.
const MARGIN: f64 = 1.25;
/// The share of errors that is tolerated whatever the default's is.
const FLOOR: f64 = 0.001;
/// How many bad requests a variant must have had.
const MIN_EVENTS: u64 = 3;
const WINDOW_MS: i64 = 1_000;
const WARMUP_MS: i64 = 10_000;
const QUANTILES: [u32; 2] = [900_000, 990_000];
const MIN_DELTA_US: u64 = 5_000;
const MIN_BASELINE: u64 = 1_000;
/// DEADLINE_EXCEEDED, UNKNOWN, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_STATUSES: [u64; 6] = [4, 2, 8, 13, 14, 15];

/// What a guard's rollout is like.
pub struct Guarded<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What it hashes before the key.
    pub seed: Seed,
    /// What its variants are called.
    pub variants: &'a [&'a str],
    /// Its strategy.
    pub kind: Kind,
    /// How its split moves.
    pub schedule: &'a Schedule,
    /// What it hashes.
    pub key: TargetingKey,
    /// What that is called.
    pub key_name: Option<&'a str>,
    /// Its default.
    pub default: VariantId,
}

/// Compiles the guard at `place`.
pub fn compile(
    guard: &wire::Guard,
    rollout: &Guarded<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Guard> {
    let is_relative = match rollout.kind {
        Kind::Canary | Kind::Ab => true,
        Kind::BlueGreen => {
            absolute_only(guard, place, findings);
            false
        }
        Kind::Rolling | Kind::Dark => {
            let expected = "no `guard`: only `canary`, `ab` and `blueGreen` have variants that can be judged";
            findings.report(place, Problem::expected(expected, "one"));
            return None;
        }
    };
    let compared: Box<[VariantId]> = match rollout.schedule {
        Schedule::Steps { variant, .. } | Schedule::Batches { variant, .. } => Box::new([*variant]),
        Schedule::Between { cuts, last, .. } => {
            let all = cuts.iter().map(|cut| cut.variant).chain([*last]);
            let mut others: Vec<_> = all.filter(|variant| *variant != rollout.default).collect();
            others.sort_unstable();
            others.dedup();
            others.into()
        }
    };
    if compared.len() > MAX_COMPARED {
        let problem = Problem::over_limit("variants beside `default`", MAX_COMPARED, compared.len());
        findings.report(place, problem);
    }
    let alpha = number(guard.alpha, ALPHA, 1e-9..=0.5, "0.000000001 to 0.5", &place.field("alpha"), findings);
    let margin = number(guard.margin, MARGIN, 1.0..=100.0, "1 to 100", &place.field("margin"), findings);
    let both = guard.errors.is_none() && guard.latency.is_none();
    let absent = (wire::Errors::default(), wire::Latency::default());
    let errors = guard.errors.as_ref().or(both.then_some(&absent.0));
    let latency = guard.latency.as_ref().or((both && is_relative).then_some(&absent.1));
    let errors = errors.map(|it| self::errors(it, is_relative, &place.field("errors"), findings));
    let latency = latency.map(|it| self::latency(it, &place.field("latency"), findings));
    let window_ms =
        duration(&guard.window, WINDOW_MS, 100..=60_000, "100ms to 1m", &place.field("window"), findings);
    let warmup_ms =
        duration(&guard.warmup, WARMUP_MS, 0..=86_400_000, "0s to 1d", &place.field("warmup"), findings);
    let comparisons = compared.len() * (usize::from(errors.is_some()) + usize::from(latency.is_some()));
    let unit = match rollout.key {
        TargetingKey::Key(key) if key != KeyId::REQUEST && is_relative => Unit::Key,
        _ => Unit::Request,
    };
    let mut guard = Guard {
        // Each comparison has an equal part of the probability of being wrong.
        breach: (f64::from(u32::try_from(comparisons.max(1)).ok()?) / alpha).ln(),
        compared,
        margin,
        unit,
        terms: hashed(&format!("{margin} {:?} {errors:?} {latency:?}", rollout.key_name)),
        identity: 0,
        errors,
        latency,
        window_ms,
        warmup_ms,
        on_breach: match guard.on_breach {
            wire::OnBreach::Rollback => OnBreach::Rollback,
            wire::OnBreach::Report => OnBreach::Report,
        },
    };
    let Guarded { name, seed, variants, default, .. } = rollout;
    guard.identity = hashed(&format!("{name} {seed:?} {variants:?} {default:?} {guard:?}"));
    Some(guard)
}

pub(super) fn hashed(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Before and after a switch nothing runs at the same time: errors can be counted, but not compared.
fn absolute_only(guard: &wire::Guard, place: &Path<'_>, findings: &mut Findings) {
    let refused =
        |what| Problem::expected(format!("no `{what}`: `blueGreen` has nothing to compare with"), "one");
    if guard.latency.is_some() {
        findings.report(&place.field("latency"), refused("latency"));
    }
    if guard.margin.is_some() {
        findings.report(&place.field("margin"), refused("margin"));
    }
    match &guard.errors {
        None => findings.report(place, Problem::MissingMember("errors".into())),
        Some(errors) if errors.floor.is_none() => {
            findings.report(&place.field("errors"), Problem::MissingMember("floor".into()));
        }
        Some(_) => {}
    }
}

fn errors(errors: &wire::Errors, is_relative: bool, place: &Path<'_>, findings: &mut Findings) -> Errors {
    let mut failures =
        Failures { statuses: [(500, 599)].into(), resets: true, timeouts: true, grpc_statuses: 0 };
    if let Some(wire::Statuses(texts)) = &errors.statuses {
        statuses(texts, &mut failures, &place.field("statuses"), findings);
    }
    let place_of_grpc = place.field("grpcStatuses");
    for (i, status) in errors.grpc_statuses.as_deref().unwrap_or(&GRPC_STATUSES).iter().enumerate() {
        match u32::try_from(*status).ok().filter(|status| *status <= 16) {
            Some(status) => failures.grpc_statuses |= 1 << status,
            None => findings.report(&place_of_grpc.item(i), Problem::expected("0 to 16", status)),
        }
    }
    let min_events = errors.min_events.unwrap_or(MIN_EVENTS);
    if !(1..=1_000_000).contains(&min_events) {
        findings.report(&place.field("minEvents"), Problem::expected("1 to 1000000", min_events));
    }
    let at = place.field("floor");
    Errors {
        floor: number(errors.floor, FLOOR, 1e-6..=0.99, "0.000001 to 0.99", &at, findings),
        is_relative,
        failures,
        min_events,
    }
}

/// Reads `503`, `500-599`, `>=500`, `5xx`, `reset` and `timeout`.
fn statuses(texts: &[Box<str>], failures: &mut Failures, place: &Path<'_>, findings: &mut Findings) {
    const MOST: usize = 100;
    if texts.is_empty() || texts.len() > MOST {
        return findings.report(place, Problem::expected("1 to 100 statuses", texts.len()));
    }
    let mut ranges = Vec::new();
    (failures.resets, failures.timeouts) = (false, false);
    for (i, text) in texts.iter().enumerate() {
        match &**text {
            "reset" => failures.resets = true,
            "timeout" => failures.timeouts = true,
            text => match range(text) {
                Some(range) => ranges.push(range),
                None => {
                    let expected = "a status as 503, 500-599, >=500, 5xx, reset or timeout";
                    findings.report(&place.item(i), Problem::expected(expected, text));
                }
            },
        }
    }
    failures.statuses = ranges.into();
}

fn range(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| is_number && (100..=599).contains(status))
    };
    if let Some(first) = text.strip_prefix(">=") {
        return Some((status(first)?, 599));
    }
    if let Some(class) = text.strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Some((first, first + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some((first, last))
}

fn latency(latency: &wire::Latency, place: &Path<'_>, findings: &mut Findings) -> Latency {
    let at = place.field("quantiles");
    let quantiles = match &latency.quantiles {
        None => QUANTILES.into(),
        Some(quantiles) => self::quantiles(quantiles, &at, findings),
    };
    let min_baseline = latency.min_baseline.unwrap_or(MIN_BASELINE);
    if !(100..=1_000_000).contains(&min_baseline) {
        findings.report(&place.field("minBaseline"), Problem::expected("100 to 1000000", min_baseline));
    }
    let delta = match &latency.min_delta {
        None => Some(MIN_DELTA_US),
        Some(text) => findings
            .reported(Duration::parse(text), &place.field("minDelta"))
            .and_then(|delta| delta.as_ms().checked_mul(1_000)),
    };
    Latency { quantiles, min_delta_us: delta.unwrap_or(MIN_DELTA_US), min_baseline, min_events: MIN_EVENTS }
}

fn quantiles(quantiles: &[f64], place: &Path<'_>, findings: &mut Findings) -> Box<[u32]> {
    if quantiles.is_empty() || quantiles.len() > MAX_QUANTILES {
        findings.report(place, Problem::expected("1 or 2 quantiles", quantiles.len()));
        return Box::default();
    }
    let mut compiled = Vec::with_capacity(quantiles.len());
    for (i, quantile) in quantiles.iter().enumerate() {
        let place = place.item(i);
        if !(0.5..=0.999).contains(quantile) {
            findings.report(&place, Problem::expected("0.5 to 0.999", quantile));
            continue;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a million")]
        let millionths = (quantile * 1e6).round() as u32;
        if compiled.contains(&millionths) {
            findings.report(&place, Problem::twice(&quantile.to_string()));
        }
        compiled.push(millionths);
    }
    compiled.into()
}

/// A number in a range, or what it is where it is absent.
fn number(
    found: Option<f64>,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
    expected: &'static str,
    place: &Path<'_>,
    findings: &mut Findings,
) -> f64 {
    let number = found.unwrap_or(default);
    if !range.contains(&number) {
        findings.report(place, Problem::expected(expected, number));
    }
    number
}

/// A duration in a range, or what it is where it is absent; in milliseconds.
pub(super) fn duration(
    found: &Option<String>,
    default_ms: i64,
    range: std::ops::RangeInclusive<i64>,
    expected: &'static str,
    place: &Path<'_>,
    findings: &mut Findings,
) -> i64 {
    let Some(text) = found else { return default_ms };
    let Some(duration) = findings.reported(Duration::parse(text), place) else { return default_ms };
    match i64::try_from(duration.as_ms()).ok().filter(|ms| range.contains(ms)) {
        Some(ms) => ms,
        None => {
            findings.report(place, Problem::expected(expected, text));
            default_ms
        }
    }
}
