//! Edits of a policy: what was good stays so, and nothing changes but what is meant.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mulkko::command::edit::{Canary, Draft, next};
use mulkko::policy::{Clusters, Policy};
use mulkko_fuzz::NOW_MS;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let Ok(policy) = Policy::parse(text.as_bytes(), &Clusters::default()) else { return };
    let Ok(revision) = next(policy.revision) else { return };
    check(text, &Draft { text: text.to_owned(), revision }, None);
    for (i, rollout) in policy.rollouts.iter().enumerate() {
        let Ok(canary) = Canary::of(text, &policy, &rollout.name) else { continue };
        for percent in [canary.percent(NOW_MS), "12.5".to_owned()] {
            if let Ok(draft) = canary.fixed_at(&percent) {
                check(text, &draft, Some((i, percent)));
            }
        }
    }
});

fn check(before: &str, draft: &Draft, fixed: Option<(usize, String)>) {
    let after = draft.with_revision().unwrap_or_else(|error| panic!("{error}: {before}"));
    let edited = Policy::parse(after.as_bytes(), &Clusters::default());
    let edited = edited.unwrap_or_else(|found| panic!("{:?}: {after}", found.first()));
    assert_eq!(edited.revision, draft.revision);
    // Values tell numbers beyond a double apart no more, and of a name that stands twice the last counts: as before so after.
    let (Ok(Value::Object(mut before)), Ok(Value::Object(mut after))) =
        (serde_json::from_str(before), serde_json::from_str(&after))
    else {
        return;
    };
    before.remove("revision");
    after.remove("revision");
    let mut before = Value::Object(before);
    if let Some((rollout, percent)) = fixed
        && let Some(canary) = before.pointer_mut(&format!("/rollouts/{rollout}/strategy/canary"))
    {
        let percent: Value = serde_json::from_str(&percent).unwrap_or_default();
        *canary = json!({ "variant": canary["variant"], "percent": percent });
    }
    assert_eq!(before, Value::Object(after));
}
