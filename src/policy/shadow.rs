//! Compiles shadows: which requests are copied, where to, and what of the answers is compared.

use std::sync::Arc;

use crate::bucket::{Seed, Threshold};
use crate::finding::{Findings, Path, Problem};
use crate::headers::is_token;
use crate::logic::Compiler;
use crate::policy::KeyId;
use crate::policy::guard::{duration, hashed};
use crate::policy::rollout::{Surroundings, check_cluster};
use crate::policy::strategy::percent_at;
use crate::shadow::{Comparison, Ignored, Items, Secondary, Shadow};
use crate::wire;

/// The most methods that a shadow may list: there are not many more.
const MAX_METHODS: usize = 16;
/// Headers that are credentials where nothing else is said: API keys, and what gateways and meshes say of a user.
const CREDENTIALS: [&str; 4] = ["x-api-key", "x-forwarded-client-cert", "x-amzn-oidc-*", "cf-access-*"];
/// The most headers that are compared.
const MAX_HEADERS: usize = 32;
/// The most paths that are not.
const MAX_IGNORED: usize = 100;
/// What a shadow's seeds have behind the rollout's: its cohorts have nothing to do with who gets which variant.
const SEED_END: &str = "/shadow";
const SECONDARY_SEED_END: &str = "/secondary";
const METHODS: [&str; 2] = ["GET", "HEAD"];
const HEADERS: [&str; 3] = ["content-type", "location", "cache-control"];
const MAX_BODY_BYTES: u64 = 65_536;
const MAX_IN_FLIGHT: u64 = 100;
const TIMEOUT_MS: i64 = 2_000;

/// Compiles the shadow at `place`, of a rollout with this name or seed.
pub fn compile(
    shadow: &wire::Shadow,
    rollout: &wire::Rollout,
    around: &Surroundings<'_>,
    logic: &mut Compiler,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Shadow> {
    let seed = rollout.seed.as_deref().unwrap_or(&rollout.name);
    check_cluster(&shadow.cluster, around.clusters, &place.field("cluster"), findings);
    let percent = percent_at(&shadow.percent, &place.field("percent"), findings);
    let key = match &shadow.key {
        Some(key) => around.key(key, &place.field("key"), findings),
        None => Some(KeyId::REQUEST),
    };
    let when = match &shadow.when {
        Some(when) => logic.condition(when, &place.field("when"), findings).map(Some),
        None => Some(None),
    };
    let methods = methods(shadow.methods.as_deref(), &place.field("methods"), findings);
    let comparison = comparison(shadow, &rollout.name, seed, around, place, findings);
    if shadow.mode == wire::ShadowMode::Mirror && shadow.credentials != wire::Credentials::default() {
        let expected = "no `credentials`: what a mirrored request loses stands in Envoy's route";
        let found = if shadow.credentials == wire::Credentials::GoAlong(true) { "true" } else { "names" };
        findings.report(&place.field("credentials"), Problem::expected(expected, found));
    }
    let comparison = comparison.map(Arc::new).filter(|_| shadow.mode == wire::ShadowMode::Compare);
    Some(Shadow {
        cluster: around.texts.share(&shadow.cluster),
        key: key?,
        seed: Seed::new(&[seed, SEED_END].concat()),
        end: percent?.threshold(),
        when: when?,
        methods: methods?,
        comparison,
    })
}

fn methods(methods: Option<&[String]>, place: &Path<'_>, findings: &mut Findings) -> Option<Box<[Box<str>]>> {
    let Some(methods) = methods else { return Some(METHODS.map(Box::from).into()) };
    if is_too_long(methods, MAX_METHODS, "methods", place, findings) {
        return None;
    }
    if methods.is_empty() {
        findings.report(place, Problem::expected("at least one method", "none"));
    }
    for (i, method) in methods.iter().enumerate() {
        if !is_token(method) || method.bytes().any(|byte| byte.is_ascii_lowercase()) || method == "CONNECT" {
            let problem =
                Problem::expected("a method (`POST`) that has a response", format_args!("\"{method}\""));
            findings.report(&place.item(i), problem);
        }
        check_twice(methods, i, place, findings);
    }
    Some(methods.iter().map(|method| method.as_str().into()).collect())
}

fn comparison(
    shadow: &wire::Shadow,
    name: &str,
    seed: &str,
    around: &Surroundings<'_>,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Comparison> {
    let max_body_bytes = whole(
        shadow.max_body_bytes,
        MAX_BODY_BYTES,
        0..=1_048_576,
        "0 to 1048576",
        &place.field("maxBodyBytes"),
        findings,
    );
    let max_in_flight = whole(
        shadow.max_in_flight,
        MAX_IN_FLIGHT,
        1..=10_000,
        "1 to 10000",
        &place.field("maxInFlight"),
        findings,
    );
    let timeout_ms =
        duration(&shadow.timeout, TIMEOUT_MS, 1..=60_000, "1ms to 1m", &place.field("timeout"), findings);
    let credentials = credentials(&shadow.credentials, &place.field("credentials"), findings);
    let place = &place.field("compare");
    let absent = wire::Compare::default();
    let compare = shadow.compare.as_ref().unwrap_or(&absent);
    let headers = headers(compare.headers.as_deref(), &place.field("headers"), findings);
    let ignored = ignored(&compare.ignore_paths, &place.field("ignorePaths"), findings);
    let secondary = match &compare.secondary {
        None => None,
        Some(secondary) => {
            let place = place.field("secondary");
            check_cluster(&secondary.cluster, around.clusters, &place.field("cluster"), findings);
            Some(Secondary {
                cluster: around.texts.share(&secondary.cluster),
                seed: Seed::new(&[seed, SECONDARY_SEED_END].concat()),
                end: percent_at(&secondary.percent, &place.field("percent"), findings)
                    .map_or(Threshold::NOBODY, |percent| percent.threshold()),
            })
        }
    };
    let mut comparison = Comparison {
        max_body_bytes,
        mirrors_large: shadow.large_bodies == wire::LargeBodies::Mirror,
        max_in_flight,
        timeout_ms: timeout_ms.unsigned_abs(),
        credentials,
        headers,
        ignored,
        items: match compare.arrays {
            wire::Arrays::Index => Items::Numbered,
            wire::Arrays::Any => Items::Any,
        },
        secondary,
        shows_values: compare.show_values,
        identity: 0,
    };
    comparison.identity = hashed(&format!("{name} {seed} {} {comparison:?}", shadow.cluster));
    Some(comparison)
}

/// The headers that are credentials beside those that always are; `None` where all go along.
fn credentials(
    written: &wire::Credentials,
    place: &Path<'_>,
    findings: &mut Findings,
) -> Option<Box<[Box<str>]>> {
    let names = match written {
        wire::Credentials::GoAlong(true) => return None,
        wire::Credentials::GoAlong(false) => return Some(CREDENTIALS.map(Box::from).into()),
        wire::Credentials::Are(names) => names,
    };
    if is_too_long(names, MAX_HEADERS, "names", place, findings) {
        return None;
    }
    for (i, name) in names.iter().enumerate() {
        let start = name.strip_suffix('*').unwrap_or(name);
        if !is_token(start) || start.contains('*') {
            let expected = "the name of a header, which may end with `*`";
            findings.report(&place.item(i), Problem::expected(expected, format_args!("\"{name}\"")));
        }
        check_twice(names, i, place, findings);
    }
    Some(names.iter().map(|name| name.to_ascii_lowercase().into()).collect())
}

fn headers(headers: Option<&[String]>, place: &Path<'_>, findings: &mut Findings) -> Box<[Box<str>]> {
    let Some(headers) = headers else { return HEADERS.map(Box::from).into() };
    if is_too_long(headers, MAX_HEADERS, "headers", place, findings) {
        return Box::default();
    }
    for (i, header) in headers.iter().enumerate() {
        if !is_token(header) {
            let problem = Problem::expected("the name of a header", format_args!("\"{header}\""));
            findings.report(&place.item(i), problem);
        }
        check_twice(headers, i, place, findings);
    }
    headers.iter().map(|header| header.to_ascii_lowercase().into()).collect()
}

fn ignored(paths: &[String], place: &Path<'_>, findings: &mut Findings) -> Ignored {
    if is_too_long(paths, MAX_IGNORED, "paths", place, findings) {
        return Ignored::default();
    }
    for (i, path) in paths.iter().enumerate() {
        if !Ignored::is_path(path) {
            let expected = "a JSON Pointer as `/items/*/price`, of at most 256 bytes";
            findings.report(&place.item(i), Problem::expected(expected, format_args!("\"{path}\"")));
        }
        check_twice(paths, i, place, findings);
    }
    Ignored::new(paths)
}

/// Whether there are more than may be, which it reports: they are compared each with each.
fn is_too_long(
    found: &[String],
    limit: usize,
    what: &'static str,
    place: &Path<'_>,
    findings: &mut Findings,
) -> bool {
    if found.len() > limit {
        findings.report(place, Problem::over_limit(what, limit, found.len()));
    }
    found.len() > limit
}

fn check_twice(all: &[String], i: usize, place: &Path<'_>, findings: &mut Findings) {
    let Some(text) = all.get(i) else { return };
    if all.iter().take(i).any(|earlier| earlier == text) {
        findings.report(&place.item(i), Problem::twice(text));
    }
}

/// A whole number in a range, or what it is where it is absent.
fn whole(
    found: Option<u64>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    expected: &'static str,
    place: &Path<'_>,
    findings: &mut Findings,
) -> usize {
    let number = found.unwrap_or(default);
    if !range.contains(&number) {
        findings.report(place, Problem::expected(expected, number));
    }
    usize::try_from(number).unwrap_or(usize::MAX)
}
