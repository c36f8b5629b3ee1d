//! `eppo_core`: the engine in Eppo's SDKs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use eppo_core::eval::get_assignment;
use eppo_core::ufc::{AssignmentValue, UniversalFlagConfig, VariationType};
use eppo_core::{Attributes, Configuration, SdkMetadata, Str};
use serde_json::json;

use crate::users::{BELOW, COUNTRIES, FLAG, FROM, PERCENT, User};

/// What the table's reader should know.
pub const NOTE: &str =
    "an allocation of part of the traffic, then one for everybody; is told the time; logs nothing";

pub struct Subject {
    key: Str,
    attributes: Arc<Attributes>,
}

pub fn context(user: &User) -> Subject {
    let attributes = [("country", user.country), ("version", &user.version)];
    Subject {
        key: user.key.as_str().into(),
        attributes: Arc::new(
            attributes.map(|(name, value)| (name.into(), value.into())).into_iter().collect(),
        ),
    }
}

pub fn evaluator() -> impl Fn(&Subject) -> bool {
    const SHARDS: u32 = 10_000;
    let shards = json!([{"salt": FLAG, "ranges": [{"start": 0, "end": SHARDS / 100 * PERCENT}]}]);
    let config = json!({
        "createdAt": "2026-01-01T00:00:00Z", "format": "SERVER", "environment": {"name": "production"},
        "flags": {FLAG: {
            "key": FLAG, "enabled": true, "variationType": "BOOLEAN", "totalShards": SHARDS,
            "variations": {"on": {"key": "on", "value": true}, "off": {"key": "off", "value": false}},
            "allocations": [
                {
                    "key": "rollout", "doLog": false, "splits": [{"variationKey": "on", "shards": shards}],
                    "rules": [{"conditions": [
                        {"attribute": "country", "operator": "ONE_OF", "value": COUNTRIES},
                        {"attribute": "version", "operator": "GTE", "value": FROM},
                        {"attribute": "version", "operator": "LT", "value": BELOW},
                    ]}],
                },
                {"key": "default", "doLog": false, "splits": [{"variationKey": "off", "shards": []}]},
            ],
        }},
    });
    let sdk = SdkMetadata { name: "bench", version: "0" };
    let config =
        UniversalFlagConfig::from_json(sdk, config.to_string().into_bytes()).expect("a configuration");
    let configuration = Configuration::from_server_response(config, None);
    let now: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).expect("an instant");
    move |Subject { key, attributes }| {
        get_assignment(Some(&configuration), FLAG, key, attributes, Some(VariationType::Boolean), now)
            .expect("an assignment")
            .is_some_and(|assignment| assignment.value == AssignmentValue::Boolean(true))
    }
}
