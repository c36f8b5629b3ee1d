//! What deciding and loading cost: `make bench-engine` runs this natively and as wasm under Node.
//!
//! One program for both, so that the figures can be compared; each figure is the median of many runs.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark may stop at what cannot be")]

mod answers;
mod guards;
mod scenario;

use std::hint::black_box;
use std::time::{Duration, Instant};

use mulkko::decide::{Node, Request, decide};
use mulkko::effects::effects;
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Loading, Policy};

use scenario::{Still, document, headers, with_flags};

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
    answers::bench();
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
