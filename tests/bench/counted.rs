//! Decisions as wasm, for `tests/bench/instructions` to count: the host calls `prepare`, then `run` as often as it likes.

#![cfg(target_arch = "wasm32")]
#![expect(unsafe_code, reason = "exports have names that nothing mangles")]
#![expect(clippy::expect_used, reason = "a benchmark may stop at what cannot be")]

mod scenario;

use std::cell::Cell;
use std::hint::black_box;

use mulkko::decide::{Node, Request, decide};
use mulkko::effects::effects;
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};

thread_local! {
    static POLICY: Cell<Option<&'static Policy>> = const { Cell::new(None) };
}

/// Compiles a policy of so many rollouts, or of one and so many exported flags.
#[unsafe(no_mangle)]
pub extern "C" fn prepare(rollouts: u32, flags: u32) {
    let [rollouts, flags] = [rollouts, flags].map(|count| usize::try_from(count).expect("a count"));
    let document = if flags > 0 { scenario::with_flags(flags, flags) } else { scenario::document(rollouts) };
    let policy = Policy::parse(&document, &Clusters::default()).expect("a policy");
    POLICY.set(Some(Box::leak(Box::new(policy))));
}

/// Decides one request, and works out what is done to it.
#[unsafe(no_mangle)]
pub extern "C" fn run() {
    let policy = POLICY.get().expect("a policy");
    let (headers, passes, node) = (scenario::headers(), Passes::default(), Node::default());
    let request = Request {
        headers: &headers,
        passes: &passes,
        macs: None,
        node: &node,
        proxy: &scenario::Still,
        rolled_back: None,
    };
    let decisions = decide(policy, request);
    black_box(effects(Some(policy), &decisions, &request));
}
