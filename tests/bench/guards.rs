//! What guards cost: for a request that has ended, and for a tick.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mulkko::bucket::Bucket;
use mulkko::guard::{Author, Ended, Exposure, Guards, Memory};
use mulkko::policy::{Clusters, Policy};
use mulkko::schedule::VariantId;

use crate::median;
use crate::scenario::document;

/// The policy with a guard on each of its rollouts.
pub fn guarded(document: Vec<u8>) -> Vec<u8> {
    let document = String::from_utf8(document).expect("a text");
    document
        .replace(r#""default": "stable""#, r#""default": "stable", "guard": {"warmup": "0s"}"#)
        .into_bytes()
}

/// Measures a second's requests of so many guarded rollouts, ten of each, and the tick that judges them.
pub fn bench(rollouts: u32) {
    let document = guarded(document(usize::try_from(rollouts).expect("a count")));
    let policy = Rc::new(Policy::parse(&document, &Clusters::default()).expect("a policy"));
    let memory = Memory::default();
    let mut guards = Guards::new("bench", Author::inline(0), Rc::clone(&policy));
    let (mut counting, mut judging, mut resting) = (Vec::new(), Vec::new(), Vec::new());
    for second in 0..11 {
        let now_ms = 1_800_000_000_000 + second * 1_000;
        let start = Instant::now();
        for i in 0..10 {
            for (bucket, rollout) in (0..).zip(&policy.rollouts) {
                let guard = rollout.guard.as_ref().expect("a guard");
                let variant = VariantId(u8::from(i == 0));
                let exposure = Exposure::new(rollout, guard, variant, Some(Bucket(bucket)), || now_ms);
                let ended = Ended { status: Some(200), headers_us: Some(900), ..Ended::default() };
                guards.count(&exposure, ended, now_ms, &memory);
            }
        }
        counting.push(start.elapsed() / (10 * rollouts));
        let mut tick = |now_ms| {
            let start = Instant::now();
            guards.tick(now_ms, &memory, || false);
            start.elapsed()
        };
        judging.push(tick(now_ms + 1_000));
        resting.push(tick(now_ms + 1_000));
    }
    let [counting, judging, resting] = [counting, judging, resting].map(median);
    println!(
        "{rollouts:>15} guards: a request {:>4.0} ns, a tick that judges all {:>9.3} ms, one with nothing to do {:.4} ms",
        nanoseconds(counting),
        nanoseconds(judging) / 1e6,
        nanoseconds(resting) / 1e6,
    );
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
