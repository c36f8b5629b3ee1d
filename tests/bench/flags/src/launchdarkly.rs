//! `launchdarkly-server-sdk-evaluation`: the engine in LaunchDarkly's SDK.

use std::collections::HashMap;

use launchdarkly_server_sdk_evaluation::{
    Context, ContextBuilder, Flag, FlagValue, Segment, Store, evaluate,
};
use serde_json::json;

use crate::users::{BELOW, COUNTRIES, FLAG, FROM, PERCENT, User};

/// What the table's reader should know.
pub const NOTE: &str =
    "without at-least for versions: a negated below; its SDK copies the flag out of the store, too";

struct Flags(HashMap<String, Flag>);

impl Store for Flags {
    fn flag(&self, key: &str) -> Option<Flag> {
        self.0.get(key).cloned()
    }

    fn segment(&self, _: &str) -> Option<Segment> {
        None
    }
}

pub fn context(user: &User) -> Context {
    ContextBuilder::new(user.key.as_str())
        .set_string("country", user.country)
        .set_string("version", user.version.as_str())
        .build()
        .expect("a context")
}

pub fn evaluator() -> impl Fn(&Context) -> bool {
    // Weights are of 100,000.
    let on = PERCENT * 1_000;
    let rollout =
        json!({"variations": [{"variation": 0, "weight": on}, {"variation": 1, "weight": 100_000 - on}]});
    let clause = |attribute: &str, op: &str, negate: bool, values: &[&str]| {
        json!({
            "contextKind": "user", "attribute": attribute, "op": op, "negate": negate, "values": values,
        })
    };
    let flag = json!({
        "key": FLAG, "version": 1, "on": true, "salt": "salt", "variations": [true, false],
        "targets": [], "prerequisites": [], "offVariation": 1, "fallthrough": {"variation": 1},
        "rules": [{"id": "rule", "trackEvents": false, "rollout": rollout, "clauses": [
            clause("country", "in", false, &COUNTRIES),
            clause("version", "semVerLessThan", true, &[FROM]),
            clause("version", "semVerLessThan", false, &[BELOW]),
        ]}],
    });
    let flags = Flags(HashMap::from([(FLAG.to_owned(), serde_json::from_value(flag).expect("a flag"))]));
    move |context| evaluate(&flags, &flags.0[FLAG], context, None).value == Some(&FlagValue::Bool(true))
}
