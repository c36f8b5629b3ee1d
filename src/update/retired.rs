//! Frees policies that are not in force any more, a part at a time.

use std::rc::Rc;

use crate::policy::{Parts, Policy};

/// Policies that were in force before. Streams and other root contexts may still hold them; who lets go last must not
/// have to free twenty thousand rollouts at once, with all streams of a worker waiting.
#[derive(Debug, Default)]
pub struct Retired {
    held: Vec<Rc<Policy>>,
    freeing: Parts,
}

impl Retired {
    /// Takes a policy that has been replaced; several root contexts may have had the same one.
    pub fn push(&mut self, policy: Rc<Policy>) {
        if !self.held.iter().any(|held| Rc::ptr_eq(held, &policy)) {
            self.held.push(policy);
        }
    }

    /// Frees a part of a policy that nobody else holds any more; `false` where there is none.
    pub fn free(&mut self) -> bool {
        if self.freeing.free() {
            return true;
        }
        let unused = self.held.iter().position(|policy| Rc::strong_count(policy) == 1);
        let Some(policy) = unused.and_then(|i| Rc::into_inner(self.held.swap_remove(i))) else {
            return false;
        };
        self.freeing = policy.into_parts();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Rc<Policy> {
        let rollouts: Vec<String> = (0..250)
            .map(|i| {
                format!(
                    r#"{{"name": "r-{i}", "hostnames": ["h-{i}.example.com"], "variants": {{"a": {{}}, "b": {{}}}},
                        "default": "a", "strategy": {{"dark": {{"variant": "b"}}}}}}"#
                )
            })
            .collect();
        let document = format!(r#"{{"rollouts": [{}]}}"#, rollouts.join(","));
        Rc::new(Policy::parse(document.as_bytes(), &Default::default()).unwrap())
    }

    #[test]
    fn a_policy_is_freed_in_parts_once_nobody_holds_it() {
        let (mut retired, policy) = (Retired::default(), policy());
        let held = Rc::clone(&policy);
        retired.push(Rc::clone(&policy));
        retired.push(policy);
        assert!(!retired.free(), "a stream holds it");
        let weak = Rc::downgrade(&held);
        drop(held);
        let mut parts = 0;
        while retired.free() {
            parts += 1;
        }
        assert!(parts >= 3, "{parts}");
        assert!(weak.upgrade().is_none());
    }
}
