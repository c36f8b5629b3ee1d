//! `unleash-yggdrasil`: the engine in Unleash's SDKs.

use std::collections::HashMap;

use serde_json::json;
use unleash_yggdrasil::{ClientFeatures, Context, EngineState};

use crate::users::{BELOW, COUNTRIES, FLAG, FROM, PERCENT, User};

/// What the table's reader should know.
pub const NOTE: &str = "a gradual rollout with constraints, which hashes before it looks at the constraints";

pub fn context(user: &User) -> Context {
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Context {
        user_id: Some(user.key.clone()),
        properties: Some(HashMap::from([
            property("country", user.country),
            property("version", &user.version),
        ])),
        ..Context::default()
    }
}

pub fn evaluator() -> impl Fn(&Context) -> bool {
    let features = json!({"version": 2, "features": [{"name": FLAG, "enabled": true, "strategies": [{
        "name": "flexibleRollout",
        "parameters": {"rollout": PERCENT.to_string(), "stickiness": "userId", "groupId": FLAG},
        "constraints": [
            {"contextName": "country", "operator": "IN", "values": COUNTRIES},
            {"contextName": "version", "operator": "SEMVER_GTE", "value": FROM},
            {"contextName": "version", "operator": "SEMVER_LT", "value": BELOW},
        ],
    }]}]});
    let features: ClientFeatures = serde_json::from_value(features).expect("features");
    let engine = EngineState::default();
    assert!(engine.apply_client_features(features).is_none(), "every feature compiles");
    move |context| engine.is_enabled(FLAG, context, &None)
}
