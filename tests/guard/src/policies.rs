//! The policies under which is simulated: the engine compiles them, so defaults and limits are its own.

use std::rc::Rc;

use mulkko::guard::Guard;
use mulkko::policy::{Clusters, Policy};

/// The instant at which simulated time begins, in unix milliseconds: 2027-01-15T08:00:00Z.
pub const START_MS: i64 = 1_800_000_000_000;

/// What is simulated of a policy.
#[derive(Clone, Copy)]
pub struct Terms<'t> {
    /// Whether requests are split by user: then a user's errors count once.
    pub by_user: bool,
    /// The canary's steps, as the document has them.
    pub steps: &'t str,
    /// The guard, as the document has it.
    pub guard: &'t str,
    /// Divides the users.
    pub seed: &'t str,
}

/// A policy with one rollout, `shop`, whose default is `stable` and whose other variant is `canary`.
pub fn policy(terms: Terms<'_>) -> Rc<Policy> {
    let Terms { by_user, steps, guard, seed } = terms;
    let key = if by_user { "user" } else { "request" };
    let document = format!(
        r#"{{"keys": {{"user": {{"from": [{{"header": "x-user"}}]}}}},
            "rollouts": [{{"name": "shop", "key": "{key}", "seed": "{seed}", "default": "stable",
              "variants": {{"stable": {{}}, "canary": {{}}}},
              "strategy": {{"canary": {{"variant": "canary", "start": "2027-01-15T08:00:00Z", "steps": {steps}}}}},
              "guard": {guard}}}]}}"#
    );
    match Policy::parse(document.as_bytes(), &Clusters::default()) {
        Ok(policy) => Rc::new(policy),
        Err(findings) => panic!("{findings:?}"),
    }
}

/// The steps of a canary that has the same share for ever.
pub fn share(percent: f64) -> String {
    format!(r#"[{{"percent": {percent}}}]"#)
}

/// A guard, compiled for requests that are not split by user.
pub fn guard(json: &str) -> Guard {
    let policy = policy(Terms { by_user: false, steps: &share(5.0), guard: json, seed: "shop" });
    let guard = policy.rollouts.first().and_then(|rollout| rollout.guard.as_deref().cloned());
    guard.expect("the rollout has a guard")
}
