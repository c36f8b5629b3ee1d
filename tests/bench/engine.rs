//! What deciding and loading cost: `make bench-engine` runs this natively and as wasm under Node.
//!
//! One program for both, so that the figures can be compared; each figure is the median of many runs.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark may stop at what cannot be")]

mod guards;

use std::hint::black_box;
use std::time::{Duration, Instant};

use mulkko::decide::{Node, Proxy, Request, Trust, decide};
use mulkko::effects::effects;
use mulkko::headers::Headers;
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Loading, Policy};

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

/// A policy of so many canaries, each for a path of its own below one of a hundred hosts.
fn document(rollouts: usize) -> Vec<u8> {
    let rollout = |i: usize| {
        format!(
            r#"{{"name": "rollout-{i}", "hostnames": ["host-{host}.example.com"],
            "matches": [{{"path": {{"value": "/service-{i}"}}}}], "key": "user",
            "when": {{"!=": [{{"var": "request.headers.x-region"}}, "kr"]}},
            "variants": {{"stable": {{}}, "canary": {{"cluster": "v2", "headers": {{"x-version": "v2"}}}}}},
            "default": "stable", "strategy": {{"canary": {{"variant": "canary", "percent": 5}}}}}}"#,
            host = i % 100,
        )
    };
    let rollouts: Vec<String> = (0..rollouts).map(rollout).collect();
    format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user-id"}}]}}}}, "rollouts": [{}]}}"#,
        rollouts.join(",")
    )
    .into_bytes()
}

/// The mean time of so many calls.
fn time(calls: u32, mut call: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed() / calls
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What a request costs under different policies, measured in turn so that a slow moment slows all of them.
fn bench_decide(documents: &[(&str, Vec<u8>)]) {
    const CALLS: u32 = 1_000;
    let policies: Vec<Policy> = documents
        .iter()
        .map(|(_, document)| Policy::parse(document, &Clusters::default()).expect("a policy"))
        .collect();
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
    let mut times = vec![(Vec::new(), Vec::new()); documents.len()];
    for _ in 0..101 {
        for (policy, (deciding, all)) in policies.iter().zip(&mut times) {
            assert_eq!(decide(policy, request).list.len(), 1, "one rollout applies");
            deciding.push(time(CALLS, || {
                black_box(decide(black_box(policy), request));
            }));
            all.push(time(CALLS, || {
                let decisions = decide(black_box(policy), request);
                black_box(effects(Some(policy), &decisions, &request));
            }));
        }
    }
    for ((what, _), (deciding, all)) in documents.iter().zip(times) {
        let [deciding, all] = [deciding, all].map(|times| median(times).as_secs_f64() * 1e9);
        println!("{what:>36}: decide {deciding:>6.0} ns, with effects {all:>6.0} ns");
    }
}

/// A policy of one rollout and so many flags, the first of which requests carry upstream.
fn with_flags(flags: usize, exported: usize) -> Vec<u8> {
    let flag = |i: usize| {
        format!(
            r#""flag-{i}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "off",
            "targeting": {{"if": [{{"==": [{{"var": "request.headers.x-region"}}, "kr"]}}, "on",
                                  {{"fractional": [["on", 10], ["off", 90]]}}]}},
            "metadata": {{"mulkko.export": {}}}}}"#,
            i < exported
        )
    };
    let flags: Vec<String> = (0..flags).map(flag).collect();
    let document = String::from_utf8(document(1)).expect("a text");
    let document = document.strip_prefix('{').expect("an object");
    format!(r#"{{"flagKey": "user", "flags": {{{}}}, {document}"#, flags.join(",")).into_bytes()
}

fn bench_loading(what: &str, document: &[u8]) {
    let parse = || drop(black_box(Policy::parse(document, &Clusters::default())));
    let whole = median((0..5).map(|_| time(1, parse)).collect());
    let (mut loading, mut longest) = (Loading::new(document.to_vec(), Clusters::default()), Duration::ZERO);
    loop {
        let start = Instant::now();
        let more = loading.step();
        longest = longest.max(start.elapsed());
        if !more {
            break;
        }
    }
    let policy = loading.finish().expect("a policy");
    let start = Instant::now();
    drop(policy);
    println!(
        "{what:>15}: {:>6.1} kB loaded in {:>7.2} ms, longest step {:.2} ms, dropped in {:.2} ms",
        document.len() as f64 / 1e3,
        whole.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
    );
}

fn main() {
    bench_decide(&[
        ("1 rollout", document(1)),
        ("10 rollouts", document(10)),
        ("100 rollouts", document(100)),
        ("10,000 rollouts", document(10_000)),
        ("1 rollout, guarded", guards::guarded(document(1))),
        ("1 rollout, 1 flag exported", with_flags(1, 1)),
        ("1 rollout, 10 flags exported", with_flags(10, 10)),
        ("1 rollout, 10,000 flags, 1 exported", with_flags(10_000, 1)),
    ]);
    for rollouts in [1, 100, 10_000] {
        guards::bench(rollouts);
    }
    for rollouts in [1, 100, 10_000, 20_000] {
        bench_loading(&format!("{rollouts} rollouts"), &document(rollouts));
    }
    for flags in [100, 19_999] {
        bench_loading(&format!("{flags} flags"), &with_flags(flags, 1));
    }
}
