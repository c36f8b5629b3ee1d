//! `growthbook-rust`: GrowthBook's SDK, of which the engine is one type.

use std::collections::HashMap;

use growthbook_rust::growthbook::GrowthBook;
use growthbook_rust::model_public::GrowthBookAttribute;
use serde_json::{Value, json};

use crate::users::{BELOW, COUNTRIES, FLAG, FROM, PERCENT, User};

/// What the table's reader should know.
pub const NOTE: &str =
    "the engine inside the client, whose own `is_on` would copy all flags for every evaluation";

/// An option, because that is what the engine asks for.
pub type Attributes = Option<Vec<GrowthBookAttribute>>;

pub fn context(user: &User) -> Attributes {
    let attributes = json!({"id": user.key, "country": user.country, "version": user.version});
    Some(GrowthBookAttribute::from(attributes).expect("attributes"))
}

pub fn evaluator() -> impl Fn(&Attributes) -> bool {
    let features: Value = json!({FLAG: {"defaultValue": false, "rules": [{
        "condition": {"country": {"$in": COUNTRIES}, "version": {"$vgte": FROM, "$vlt": BELOW}},
        "force": true, "coverage": f64::from(PERCENT) / 100.0, "hashAttribute": "id", "hashVersion": 2,
    }]}});
    let engine = GrowthBook {
        forced_variations: None,
        features: serde_json::from_value(features).expect("features"),
        attributes: None,
        sticky_bucket_service: None,
        saved_groups: HashMap::new(),
    };
    move |attributes| engine.check(FLAG, attributes).on
}
