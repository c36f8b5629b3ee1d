//! Edits of a policy: what was a policy stays one, and only what is edited changes.

#![no_main]

use fuzz::{NOW_MS, timed};
use libfuzzer_sys::fuzz_target;
use mulkko::command::edit::{Canary, Draft, next};
use mulkko::policy::{Clusters, Policy};
use serde_json::Value;

fuzz_target!(|text: &str| timed(|| {
    let Ok(policy) = compiled(text) else { return };
    let Ok(revision) = next(policy.revision) else { return };
    let before: Value = serde_json::from_str(text).expect("a policy is JSON");
    let mut expected = before.clone();
    expected["revision"] = revision.into();
    edited(Draft { text: text.to_owned(), revision }, &expected);
    for (i, rollout) in policy.rollouts.iter().take(8).enumerate() {
        let written = before["rollouts"][i]["strategy"].get("canary");
        let Ok(canary) = Canary::of(text, &policy, &rollout.name) else {
            assert!(written.is_none(), "{} is a canary", rollout.name);
            continue;
        };
        let percent = canary.percent(NOW_MS);
        for percent in [&*percent, "100", "0.0001"] {
            let written = &mut expected["rollouts"][i]["strategy"]["canary"];
            let fixed: Value = serde_json::from_str(percent).expect("a number");
            *written = serde_json::json!({"variant": written["variant"], "percent": fixed});
            let edited = edited(canary.fixed_at(percent).expect("an edit"), &expected);
            if percent == canary.percent(NOW_MS) {
                let shares = edited.rollouts[i].shares(NOW_MS);
                assert_eq!(shares, rollout.shares(NOW_MS), "who pauses it moves nobody");
            }
            expected["rollouts"][i] = before["rollouts"][i].clone();
        }
    }
}));

/// The edited policy, which must be this JSON.
fn edited(draft: Draft, expected: &Value) -> Policy {
    let revision = draft.revision;
    let text = draft.with_revision().expect("a place for the revision");
    let found: Value = serde_json::from_str(&text).expect("it stays JSON");
    assert_eq!(&found, expected, "{text}");
    let policy = compiled(&text).unwrap_or_else(|refusal| panic!("{refusal}: {text}"));
    assert_eq!(policy.revision, revision);
    policy
}

fn compiled(text: &str) -> Result<Policy, String> {
    let refusal = |found: Vec<mulkko::finding::Finding>| found.iter().map(ToString::to_string).collect();
    Policy::parse(text.as_bytes(), &Clusters::default()).map_err(refusal)
}
