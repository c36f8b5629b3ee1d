//! A process with some workers, each with the engine's guards, over one memory.

use std::rc::Rc;

use mulkko::bucket::Bucket;
use mulkko::guard::{Author, Case, Ended, Exposure, Guards, Memory};
use mulkko::policy::{Policy, Rollout};
use mulkko::schedule::VariantId;

/// The default.
pub const STABLE: VariantId = VariantId(0);
/// The variant that is judged.
pub const CANARY: VariantId = VariantId(1);

/// The workers of a process under a policy of [`crate::policies`].
pub struct Fleet {
    policy: Rc<Policy>,
    workers: Vec<Guards>,
    memory: Memory,
}

/// A request that has ended.
#[derive(Clone, Copy)]
pub struct Request {
    pub variant: VariantId,
    pub bucket: Bucket,
    pub is_error: bool,
    pub latency_us: u64,
    pub now_ms: i64,
}

impl Fleet {
    pub fn new(policy: &Rc<Policy>, workers: usize) -> Fleet {
        let workers =
            (0..workers).map(|_| Guards::new("report", Author::inline(0), Rc::clone(policy))).collect();
        Fleet { policy: Rc::clone(policy), workers, memory: Memory::default() }
    }

    /// The policy's rollout.
    pub fn rollout(&self) -> &Rollout {
        self.policy.rollouts.first().expect("there is one")
    }

    /// One of the workers has served a request; any number names one.
    pub fn count(&mut self, worker: usize, request: Request) {
        let Request { variant, bucket, is_error, latency_us, now_ms } = request;
        let rollout = self.policy.rollouts.first().expect("there is one");
        let guard = rollout.guard.as_ref().expect("it is guarded");
        let exposure = Exposure::new(rollout, guard, variant, Some(bucket), || now_ms);
        let ended = Ended {
            status: Some(if is_error { 503 } else { 200 }),
            headers_us: Some(latency_us),
            total_us: latency_us,
            ..Ended::default()
        };
        let worker = worker % self.workers.len();
        if let Some(guards) = self.workers.get_mut(worker) {
            guards.count(&exposure, ended, now_ms, &self.memory);
        }
    }

    /// All workers' clocks tick.
    pub fn tick(&mut self, now_ms: i64) {
        for guards in &mut self.workers {
            guards.tick(now_ms, &self.memory, || false);
        }
    }

    /// The process's case against the canary.
    pub fn case(&self) -> Option<Case> {
        let guards = self.workers.first()?;
        guards.record(self.rollout(), &self.memory).case("canary").copied()
    }
}
