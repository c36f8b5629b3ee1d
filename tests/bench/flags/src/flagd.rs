//! `flagd-evaluation-engine`: flagd's own evaluator in Rust.
//!
//! It evaluates on datalogic-rs, whose feature `flagd` stands before the `sem_ver` and `fractional` that it brings
//! itself. Those are as fast: what it spends goes into compiling.

use flagd_evaluation_engine::{FlagParser, Operator};
use open_feature::EvaluationContext;
use serde_json::{Value, json};

use crate::users::{BELOW, COUNTRIES, FLAG, FROM, PERCENT, User};

/// What the table's reader should know.
pub const NOTE: &str =
    "compiles the targeting's text for every evaluation, having no other way; operators of datalogic-rs";

/// flagd's targeting, which `datalogic` evaluates too.
pub fn targeting() -> Value {
    json!({"if": [
        {"and": [
            {"in": [{"var": "country"}, COUNTRIES]},
            {"sem_ver": [{"var": "version"}, ">=", FROM]},
            {"sem_ver": [{"var": "version"}, "<", BELOW]},
        ]},
        {"fractional": [["on", PERCENT], ["off", 100 - PERCENT]]},
        "off",
    ]})
}

pub fn context(user: &User) -> EvaluationContext {
    EvaluationContext::default()
        .with_targeting_key(&user.key)
        .with_custom_field("country", user.country)
        .with_custom_field("version", user.version.as_str())
}

pub fn evaluator() -> impl Fn(&EvaluationContext) -> bool {
    let document = json!({"flags": {FLAG: {
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": targeting(),
    }}});
    let flags = FlagParser::parse_string(&document.to_string()).expect("flags").flags;
    // The text is made anew by each `get_targeting`; a server would keep it.
    let targeting = flags[FLAG].get_targeting();
    let operator = Operator::new();
    move |context| {
        let flag = &flags[FLAG];
        let variant = operator.apply(FLAG, &targeting, context).expect("a variant");
        flag.variants[variant.as_ref().unwrap_or(&flag.default_variant)] == true
    }
}
