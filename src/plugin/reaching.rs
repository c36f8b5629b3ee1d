//! Which clusters requests reach: what the workers of a process tell each other of it.

use std::cell::RefCell;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;

use fnv::FnvHasher;

use crate::decide::Decisions;
use crate::missing::{Missed, Sightings, Standing};
use crate::plugin::host;
use crate::plugin::shared::InForce;
use crate::policy::RolloutId;
use crate::schedule::VariantId;

/// Envoy's flag of a request whose cluster it does not have.
const NO_CLUSTER: u64 = 1 << 24;
/// How often a write is made anew that another worker has overtaken.
const MOST_TRIES: usize = 4;

/// Where a request was sent by its variant.
pub struct Sent {
    /// The policy that says so.
    pub in_force: Rc<InForce>,
    /// The rollout.
    pub rollout: RolloutId,
    /// Its variant.
    pub variant: VariantId,
    cluster: Arc<str>,
}

impl Sent {
    /// Where these decisions send a request: the first that names a cluster does.
    pub fn by(in_force: &Rc<InForce>, decisions: &Decisions) -> Option<Sent> {
        decisions.list.iter().filter(|decision| decision.applies).find_map(|decision| {
            let variant = in_force.policy.rollout(decision.rollout)?.variant(decision.variant)?;
            let cluster = Arc::clone(variant.cluster.as_ref()?);
            let (rollout, variant) = (decision.rollout, decision.variant);
            Some(Sent { in_force: Rc::clone(in_force), rollout, variant, cluster })
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
}

/// What this worker knows of the clusters.
pub struct Reaching {
    /// Where all workers keep it.
    key: String,
    known: RefCell<Sightings>,
}

impl Reaching {
    /// What the process knows of the clusters of the policy `name`.
    pub fn new(name: &str) -> Reaching {
        Reaching { key: format!("mulkko/1/{name}/clusters"), known: RefCell::default() }
    }

    /// Learns what other workers have found.
    pub fn look(&self, revision: u64) {
        self.known.replace(self.read(revision).0);
    }

    /// Whether nobody is to be sent to a cluster. Once in a while one request is: then this is `false` for that one.
    pub fn lacks(&self, cluster: &str, revision: u64, now_ms: impl FnOnce() -> i64) -> bool {
        if !self.known.borrow().has_missing() {
            return false;
        }
        let (hash, now_ms) = (hashed(cluster), now_ms());
        let standing = self.known.borrow().standing(hash, now_ms);
        match standing {
            Standing::There => false,
            Standing::Missing => true,
            Standing::Due => {
                self.change(revision, |known| known.try_again(hash, now_ms).then_some(())).is_none()
            }
        }
    }

    /// Learns from how a request has ended; `Some` where its cluster is missing: whether that is to be told.
    pub fn ended(&self, sent: &Sent, flags: u64, now_ms: i64) -> Option<bool> {
        let (hash, revision) = (hashed(&sent.cluster), sent.in_force.policy.revision);
        if flags & NO_CLUSTER != 0 {
            return self.change(revision, |known| match known.missed(hash, now_ms) {
                Missed::Astray => None,
                Missed::Missing { tell } => Some(tell),
            });
        }
        if self.known.borrow().is_news(hash, now_ms) {
            let reached = host::property(b"xds\0cluster_name").ok().flatten();
            if reached.is_some_and(|name| name == sent.cluster.as_bytes()) {
                self.change(revision, |known| {
                    known.reached(hash, now_ms);
                    Some(())
                });
            }
        }
        None
    }

    fn read(&self, revision: u64) -> (Sightings, u32) {
        let found = host::shared_data(&self.key).ok().flatten();
        let (bytes, version) = found.unwrap_or_default();
        (Sightings::read(&bytes, revision), version)
    }

    /// Changes what all workers know, where `change` finds something to change.
    fn change<T>(&self, revision: u64, mut change: impl FnMut(&mut Sightings) -> Option<T>) -> Option<T> {
        for _ in 0..MOST_TRIES {
            let (mut known, version) = self.read(revision);
            let changed = change(&mut known);
            let is_written =
                changed.is_none() || host::set_shared_data(&self.key, &known.bytes(), version) == Ok(true);
            self.known.replace(known);
            if is_written {
                return changed;
            }
        }
        None
    }
}

fn hashed(cluster: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(cluster.as_bytes());
    hasher.finish()
}
