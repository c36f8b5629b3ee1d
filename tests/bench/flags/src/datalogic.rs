//! `datalogic-rs`: the JSONLogic engine below flagd's evaluator, with the targeting compiled once.

use std::cell::RefCell;
use std::collections::HashMap;

use datalogic_rs::bumpalo::Bump;
use datalogic_rs::{Engine, Logic, ParsedData};
use serde_json::json;

use crate::flagd::targeting;
use crate::users::{FLAG, User};

/// What the table's reader should know.
pub const NOTE: &str = "flagd's targeting, compiled once; ends with the variant's name";

/// With what flagd's evaluator adds for `fractional`, which hashes the flag's key before the targeting key.
pub fn context(user: &User) -> ParsedData {
    let context = json!({
        "targetingKey": user.key, "country": user.country, "version": user.version, "$flagd": {"flagKey": FLAG},
    });
    ParsedData::from_json(&context.to_string()).expect("a context")
}

pub fn evaluator() -> impl Fn(&ParsedData) -> bool {
    let engine = Engine::new();
    let logic = engine.compile(targeting().to_string().as_str()).expect("a targeting");
    let flags: HashMap<&str, Logic> = HashMap::from([(FLAG, logic)]);
    // One arena for all evaluations, as its sessions have it.
    let arena = RefCell::new(Bump::new());
    move |context| {
        let mut arena = arena.borrow_mut();
        arena.reset();
        engine.evaluate(&flags[FLAG], context, &arena).expect("a variant").as_str() == Some("on")
    }
}
