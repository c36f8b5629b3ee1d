//! What deciding costs in instructions, which no busy machine changes: `make bench-instructions`.

#![expect(clippy::expect_used, reason = "a benchmark may stop at what cannot be")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use mulkko::decide::{Node, Request, Trust, decide};
use mulkko::effects::effects;
use mulkko::headers::Headers;
use mulkko::json::Json;
use mulkko::ofrep::{Context, Evaluating};
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};

#[path = "../../scenario.rs"]
mod scenario;

use scenario::{Still, document, headers, with_flags};

fn compiled(document: &[u8]) -> Policy {
    Policy::parse(document, &Clusters::default()).expect("a policy")
}

/// A policy that is not freed: freeing ten thousand rollouts is no part of what is counted.
fn of(document: Vec<u8>) -> &'static Policy {
    Box::leak(Box::new(compiled(&document)))
}

#[library_benchmark]
#[bench::rollouts_1(of(document(1)))]
#[bench::rollouts_10(of(document(10)))]
#[bench::rollouts_10_000(of(document(10_000)))]
#[bench::flags_1_exported(of(with_flags(1, 1)))]
#[bench::flags_20_exported(of(with_flags(20, 20)))]
fn decision_and_effects(policy: &'static Policy) {
    let headers = headers();
    let (passes, node) = (Passes::default(), Node::default());
    let request = Request {
        headers: &headers,
        passes: &passes,
        macs: None,
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
        br#"{"flags": {"new-checkout": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"if": [
            {"and": [{"in": [{"var": "country"}, ["de", "fr", "it", "kr", "jp"]]},
                     {"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}, {"sem_ver": [{"var": "version"}, "<", "3.0.0"]}]},
            {"fractional": [["on", 10], ["off", 90]]}]}}}}"#,
    )));
    let body = br#"{"context": {"targetingKey": "user-17", "country": "kr", "version": "2.1.0"}}"#;
    let context = Box::leak(Box::new(Context::read(body).expect("a context")));
    let request = Request {
        headers: Box::leak(Box::new(Headers::of_request(vec![(&b":method"[..], &b"POST"[..])], Trust::Mesh))),
        passes: Box::leak(Box::default()),
        macs: None,
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
