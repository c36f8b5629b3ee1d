//! What a root context shares with its streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::{Rc, Weak};

use fnv::FnvHasher;

use crate::configuration::Configuration;
use crate::decide::{Decision, Node, Reason};
use crate::pass::PassKeys;
use crate::plugin::host;
use crate::plugin::metrics::Metrics;
use crate::policy::{Clusters, Policy, RolloutId};
use crate::schedule::VariantId;
use crate::update::Retired;

/// What a root context shares with its streams.
pub struct Shared {
    /// The plugin configuration.
    pub configuration: Configuration,
    /// The keys of passes.
    pub pass_keys: PassKeys,
    /// The proxy.
    pub node: Node,
    /// Its metrics.
    pub metrics: Metrics,
    policy: RefCell<Option<Rc<InForce>>>,
}

impl Shared {
    /// Nothing is in force yet.
    pub fn new(configuration: Configuration, pass_keys: PassKeys, node: Node) -> Shared {
        let metrics = Metrics::new(&configuration.name);
        Shared { configuration, pass_keys, node, metrics, policy: RefCell::new(None) }
    }

    /// The policy in force: a stream that holds it sees no other.
    pub fn policy(&self) -> Option<Rc<InForce>> {
        self.policy.borrow().clone()
    }

    /// Puts a policy in force.
    pub fn take(&self, policy: Rc<Policy>) {
        self.metrics.gauge("policy_revision", policy.revision);
        self.policy.replace(Some(Rc::new(InForce { policy, counters: RefCell::default() })));
    }

    /// Counts the host calls that have failed since this was last done.
    pub fn count_failures(&self) {
        self.metrics.count("hostcall_failures", host::take_failures());
    }

    /// Counts a decision.
    pub fn count(&self, in_force: &InForce, decision: &Decision) {
        let key = (decision.rollout, decision.variant, decision.reason);
        let known = in_force.counters.borrow().get(&key).copied();
        let Some(id) = known.or_else(|| self.define(in_force, key)) else { return };
        // A failure is counted by the host calls themselves.
        let _ = host::increment_metric(id, 1);
    }

    fn define(&self, in_force: &InForce, key: (RolloutId, VariantId, Reason)) -> Option<u32> {
        let rollout = in_force.policy.rollout(key.0)?;
        let variant = rollout.variant(key.1)?;
        let id = self.metrics.requests(&rollout.name, &variant.name, key.2.as_str())?;
        in_force.counters.borrow_mut().insert(key, id);
        Some(id)
    }
}

/// Ids of counters by what they count.
type Counters = HashMap<(RolloutId, VariantId, Reason), u32, BuildHasherDefault<FnvHasher>>;

/// A policy in force, with the counters of its decisions.
pub struct InForce {
    /// The policy.
    pub policy: Rc<Policy>,
    counters: RefCell<Counters>,
}

thread_local! {
    /// The published policies that some root context of this VM has compiled, by the id of their stamp.
    static COMPILED: RefCell<Vec<(u64, Clusters, Weak<Policy>)>> = const { RefCell::new(Vec::new()) };
    /// What the root contexts of this VM had in force before.
    static RETIRED: RefCell<Retired> = RefCell::new(Retired::default());
}

/// The published policy `id`, if another root context of this VM has compiled it under the same rules.
pub fn compiled(id: u64, clusters: &Clusters) -> Option<Rc<Policy>> {
    COMPILED.with_borrow(|compiled| {
        compiled.iter().find(|(it, rules, _)| *it == id && rules == clusters)?.2.upgrade()
    })
}

/// Lets other root contexts of this VM have the published policy `id`.
pub fn share_compiled(id: u64, clusters: &Clusters, policy: &Rc<Policy>) {
    COMPILED.with_borrow_mut(|compiled| {
        compiled.retain(|(_, _, policy)| policy.strong_count() > 0);
        compiled.push((id, clusters.clone(), Rc::downgrade(policy)));
    });
}

/// Has a policy freed that was replaced, when nobody holds it any more.
pub fn retire(policy: Option<Rc<Policy>>) {
    if let Some(policy) = policy {
        RETIRED.with_borrow_mut(|retired| retired.push(policy));
    }
}

/// Frees a part of what was retired; `false` where there is nothing.
pub fn free() -> bool {
    RETIRED.with_borrow_mut(Retired::free)
}
