//! What deciding costs in instructions, which no busy machine changes: `make bench-instructions`.

#![expect(clippy::expect_used, reason = "a benchmark may stop at what cannot be")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use mulkko::decide::{Node, Proxy, Request, Trust, decide};
use mulkko::effects::effects;
use mulkko::headers::Headers;
use mulkko::json::Json;
use mulkko::ofrep::{Context, Evaluating};
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};

/// A proxy of which nothing is asked but the time.
struct Still;

impl Proxy for Still {
    fn property(&self, _: &[Box<str>]) -> Option<Vec<u8>> {
        None
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        None
    }

    fn now_ms(&self) -> i64 {
        1_800_000_000_000
    }

    fn draw_id(&self) -> String {
        String::new()
    }
}

fn compiled(document: &str) -> Policy {
    Policy::parse(document.as_bytes(), &Clusters::default()).expect("a policy")
}

/// A policy of so many canaries with a condition, each for a path of its own below one of a hundred hosts, and so many flags
/// that requests carry upstream.
fn policy(rollouts: usize, flags: usize) -> Policy {
    let rollout = |i: usize| {
        format!(
            r#"{{"name": "rollout-{i}", "hostnames": ["host-{host}.example.com"],
            "matches": [{{"path": {{"value": "/service-{i}"}}}}], "key": "user",
            "when": {{"!=": [{{"var": "request.headers.x-region"}}, "kr"]}},
            "variants": {{"stable": {{}}, "canary": {{"cluster": "v2"}}}},
            "default": "stable", "strategy": {{"canary": {{"variant": "canary", "percent": 50}}}}}}"#,
            host = i % 100,
        )
    };
    let flag = |i: usize| {
        format!(
            r#""flag-{i}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "off",
            "targeting": {{"fractional": [["on", 10], ["off", 90]]}}, "metadata": {{"mulkko.export": true}}}}"#
        )
    };
    let rollouts: Vec<String> = (0..rollouts).map(rollout).collect();
    let flags: Vec<String> = (0..flags).map(flag).collect();
    compiled(&format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user-id"}}]}}}}, "flagKey": "user",
        "rollouts": [{}], "flags": {{{}}}}}"#,
        rollouts.join(","),
        flags.join(",")
    ))
}

/// A policy that is not freed: freeing ten thousand rollouts is no part of what is counted.
fn of(rollouts: usize, flags: usize) -> &'static Policy {
    Box::leak(Box::new(policy(rollouts, flags)))
}

#[library_benchmark]
#[bench::rollouts_1(of(1, 0))]
#[bench::rollouts_10(of(10, 0))]
#[bench::rollouts_10_000(of(10_000, 0))]
#[bench::flags_1_exported(of(1, 1))]
#[bench::flags_20_exported(of(1, 20))]
fn decision_and_effects(policy: &'static Policy) {
    let headers = Headers::new(vec![
        (b":authority", b"host-0.example.com"),
        (b":path", b"/service-0/cart?item=7"),
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
        (b"accept", b"*/*"),
        (b"x-forwarded-proto", b"https"),
        (b"x-request-id", b"7f3c1b9e-8d1e-4c6b-9a55-0c2f6f1f7a10"),
        (b"x-user-id", b"user-1"),
    ]);
    let (passes, node) = (Passes::default(), Node::default());
    let request = Request {
        headers: &headers,
        passes: &passes,
        trust: Trust::Edge,
        node: &node,
        proxy: &Still,
        rolled_back: None,
    };
    let decisions = decide(black_box(policy), request);
    assert_eq!(decisions.list.len(), 1, "one rollout applies");
    black_box(effects(Some(policy), &decisions, &request));
}

/// A flag with an attribute in a list, a range of versions and a split, and who asks for it.
fn asked() -> (&'static Policy, &'static Evaluating<'static>) {
    let policy: &Policy = Box::leak(Box::new(compiled(
        r#"{"flags": {"new-checkout": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"if": [
            {"and": [{"in": [{"var": "country"}, ["de", "fr", "it", "kr", "jp"]]},
                     {"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}, {"sem_ver": [{"var": "version"}, "<", "3.0.0"]}]},
            {"fractional": [["on", 10], ["off", 90]]}]}}}}"#,
    )));
    let body = br#"{"context": {"targetingKey": "user-17", "country": "kr", "version": "2.1.0"}}"#;
    let context = Box::leak(Box::new(Context::read(body).expect("a context")));
    let request = Request {
        headers: Box::leak(Box::new(Headers::new(vec![(&b":method"[..], &b"POST"[..])]))),
        passes: Box::leak(Box::default()),
        trust: Trust::Mesh,
        node: Box::leak(Box::default()),
        proxy: &Still,
        rolled_back: None,
    };
    (policy, Box::leak(Box::new(Evaluating::new(policy, request, context))))
}

#[library_benchmark]
#[bench::list_range_and_split(asked())]
fn flag((policy, evaluating): (&'static Policy, &'static Evaluating<'static>)) -> bool {
    let flag = policy.flag_keyed("new-checkout").expect("the flag");
    let variant = black_box(evaluating).resolve(flag).variant.and_then(|variant| flag.variant(variant));
    variant.is_some_and(|variant| variant.value == Json::Bool(true))
}

library_benchmark_group!(name = decisions, benchmarks = decision_and_effects);
library_benchmark_group!(name = flags, benchmarks = flag);
main!(library_benchmark_groups = decisions, flags);
