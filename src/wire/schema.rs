//! The JSON Schema of a policy document, for editors: derived from the wire types.
//!
//! Shapes come from the types, so that they cannot come apart. What only the compiler knows and a schema can say all the
//! same (patterns of texts, exactly one member) stands beside the types as attributes, or here.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value as Any, json};

use super::{Document, Entries, Flag, Flags, Number, Scalar, Statuses, Value};
use crate::json::Json;
use crate::policy::{NOT_FOR_VARIANTS, RESERVED};

impl JsonSchema for Flags {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Flags".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let flag = generator.subschema_for::<Flag>();
        json_schema!({
            "type": ["object", "array"],
            "additionalProperties": flag,
            "items": { "allOf": [flag, { "required": ["key"] }] },
        })
    }
}

/// The JSON Schema (draft 2020-12) of a policy document.
#[must_use]
pub fn policy() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<Document>();
    if let Some(Any::Object(definitions)) = schema.pointer_mut("/$defs") {
        let targeting =
            json!({ "anyOf": [{ "$ref": "#/$defs/Condition" }, { "type": "object", "maxProperties": 0 }] });
        definitions.insert("Targeting".into(), targeting);
    }
    for (at, more) in sharper() {
        if let (Some(Any::Object(found)), Any::Object(more)) = (schema.pointer_mut(at), more) {
            found.extend(more);
        }
    }
    schema
}

/// What a schema can say beyond the types: where, and what is added there. Editors show it while a policy is written.
fn sharper() -> Vec<(&'static str, Any)> {
    let pattern = |pattern: &str| json!({ "pattern": pattern });
    let (name, duration) = (pattern("^[a-z][a-z0-9-]{0,62}$"), pattern("^([0-9]+(ms|s|m|h|d))+$"));
    let instant = pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.]+([Zz]|[+-][0-9]{2}:[0-9]{2})$");
    let names = json!({ "propertyNames": name });
    let one_member = json!({ "minProperties": 1, "maxProperties": 1 });
    let some = |least: u32, most: u32| json!({ "minItems": least, "maxItems": most });
    let between = |least: f64, most: f64| json!({ "minimum": least, "maximum": most });
    vec![
        ("/properties/keys", names.clone()),
        ("/properties/cohorts", names.clone()),
        ("/properties/layers", names.clone()),
        ("/$defs/Rollout", json!({ "allOf": by_strategy() })),
        ("/$defs/Rollout/properties/variants", names.clone()),
        ("/$defs/Rollout/properties/variants", json!({ "minProperties": 1 })),
        ("/$defs/Rollout/properties/name", name.clone()),
        ("/$defs/Rollout/properties/name", json!({ "not": { "enum": RESERVED } })),
        ("/$defs/Holdout/properties/name", name),
        ("/$defs/Rollout/properties/seed", pattern("^[^:]+$")),
        ("/$defs/Rollout/properties/hostnames/items", pattern("^(\\*\\.)?[a-z0-9_-]+(\\.[a-z0-9_-]+)*$")),
        ("/$defs/Strategy", one_member.clone()),
        ("/$defs/Source", one_member),
        ("/$defs/Key/properties/from", some(1, 16)),
        ("/properties/attributes/additionalProperties", some(1, 16)),
        ("/$defs/Mint/properties/maxAge", duration.clone()),
        (
            "/$defs/Canary",
            json!({ "oneOf": [
            { "required": ["percent"], "properties": { "start": false, "steps": false } },
            { "required": ["start", "steps"], "properties": { "percent": false } },
        ] }),
        ),
        ("/$defs/Canary/properties/start", instant.clone()),
        ("/$defs/Canary/properties/steps", some(1, 1_000)),
        ("/$defs/Step/properties/hold", duration.clone()),
        ("/$defs/BlueGreen/properties/at", instant.clone()),
        ("/$defs/Rolling/properties/start", instant.clone()),
        ("/$defs/Rolling/properties/every", duration.clone()),
        ("/$defs/Rolling/properties/batches", between(1.0, 1_000.0)),
        ("/$defs/Ab/properties/start", instant.clone()),
        ("/$defs/Ab/properties/end", instant),
        ("/$defs/Ab/properties/split", some(2, 100)),
        (
            "/$defs/Match/properties/method",
            json!({ "enum": ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] }),
        ),
        ("/$defs/PathMatch/properties/value", pattern("^/")),
        (
            "/$defs/Variant/properties/headers",
            json!({ "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "not": { "pattern":
            not_for_variants() } },
            "additionalProperties": { "type": "string", "pattern": "^[\\t -~]*$" } }),
        ),
        (
            "/$defs/Flag/properties/variants",
            json!({ "minProperties": 1, "propertyNames": { "minLength": 1 } }),
        ),
        // Here alone `null` stands for an absent member, and nothing in braces for no targeting.
        ("/$defs/Flag/properties/defaultVariant", json!({ "type": ["string", "null"] })),
        (
            "/$defs/Flag/properties/targeting",
            json!({
                "type": ["object", "null"],
                "$ref": "#/$defs/Targeting",
            }),
        ),
        ("/$defs/Guard/properties/alpha", between(1e-9, 0.5)),
        ("/$defs/Guard/properties/margin", between(1.0, 100.0)),
        ("/$defs/Guard/properties/window", duration.clone()),
        ("/$defs/Guard/properties/warmup", duration.clone()),
        ("/$defs/Errors/properties/floor", between(0.000_001, 0.99)),
        ("/$defs/Errors/properties/minEvents", between(1.0, 1e6)),
        ("/$defs/Errors/properties/grpcStatuses/items", between(0.0, 16.0)),
        ("/$defs/Latency/properties/quantiles", json!({ "minItems": 1, "maxItems": 2, "uniqueItems": true })),
        ("/$defs/Latency/properties/quantiles/items", between(0.5, 0.999)),
        ("/$defs/Latency/properties/minDelta", duration),
        ("/$defs/Latency/properties/minBaseline", between(100.0, 1e6)),
    ]
}

/// What a rollout must have, and must not have, with each strategy.
fn by_strategy() -> Vec<Any> {
    let with = |strategies: &[&str], then: Any| {
        let any: Vec<Any> = strategies.iter().map(|it| json!({ "required": [it] })).collect();
        json!({ "if": { "properties": { "strategy": { "anyOf": any } } }, "then": then })
    };
    let without = |member: &str| json!({ "properties": { member: false } });
    vec![
        with(&["canary", "ab"], json!({ "required": ["key"] })),
        with(&["rolling"], without("key")),
        with(&["rolling", "dark"], without("guard")),
        with(&["rolling", "dark", "blueGreen"], without("layer")),
        with(&["rolling", "dark", "blueGreen", "ab"], without("holdout")),
        with(
            &["blueGreen"],
            json!({ "properties": { "guard": {
                "required": ["errors"],
                "properties": { "errors": { "required": ["floor"] }, "latency": false },
            } } }),
        ),
    ]
}

/// Names of headers that variants may not set, in any case: a pattern.
fn not_for_variants() -> String {
    let names: Vec<String> = NOT_FOR_VARIANTS.iter().map(|name| in_any_case(name)).collect();
    format!("^({}|{}.*)$", names.join("|"), in_any_case("x-mulkko-"))
}

/// A pattern for a text in any case; schemas know no flag for that.
fn in_any_case(text: &str) -> String {
    let letters = text.chars().map(|c| match c.is_ascii_alphabetic() {
        true => format!("[{}{c}]", c.to_ascii_uppercase()),
        false => c.to_string(),
    });
    letters.collect()
}

/// `null` stands for an absent member nowhere but in flags: takes it out of what schemars makes of an `Option`.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Any::Array(types)) = object.get_mut("type") {
        types.retain(|it| it != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Any::Array(any)) = object.get_mut("anyOf") {
        any.retain(|it| it != &json!({ "type": "null" }));
        if let [Any::Object(only)] = any.as_slice() {
            let only: Map<String, Any> = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
    // What serde fills in for an absent `Option`.
    if object.get("default") == Some(&Any::Null) {
        object.remove("default");
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "0 to 100, with at most four decimals", "type": "number", "minimum": 0, "maximum": 100 })
    }
}

impl JsonSchema for Value {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string", "number", "object"] })
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string", "number"] })
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": ["string", "number"] } })
    }
}

/// Operators, and how many operands they take; one operand needs no list around it. flagd takes any number of those of
/// `starts_with`, `ends_with`, `sem_ver` and `fractional`, and so does a flag.
const OPERATORS: [(&str, usize, Option<usize>); 43] = [
    ("var", 0, None),
    ("missing", 0, None),
    ("missing_some", 2, Some(2)),
    ("if", 0, None),
    ("?:", 0, None),
    ("!", 1, Some(1)),
    ("!!", 1, Some(1)),
    ("log", 1, Some(1)),
    ("-", 1, Some(2)),
    ("==", 2, Some(2)),
    ("!=", 2, Some(2)),
    ("===", 2, Some(2)),
    ("!==", 2, Some(2)),
    ("<", 2, Some(3)),
    ("<=", 2, Some(3)),
    (">", 2, Some(3)),
    (">=", 2, Some(3)),
    ("/", 2, Some(2)),
    ("%", 2, Some(2)),
    ("and", 1, None),
    ("or", 1, None),
    ("max", 1, None),
    ("min", 1, None),
    ("+", 1, None),
    ("*", 1, None),
    ("cat", 1, None),
    ("merge", 0, None),
    ("in", 2, Some(2)),
    ("substr", 2, Some(3)),
    ("map", 2, Some(2)),
    ("filter", 2, Some(2)),
    ("all", 2, Some(2)),
    ("none", 2, Some(2)),
    ("some", 2, Some(2)),
    ("reduce", 3, Some(3)),
    ("starts_with", 0, None),
    ("ends_with", 0, None),
    ("sem_ver", 0, None),
    ("cidr", 2, Some(2)),
    ("matches", 2, Some(2)),
    ("fractional", 0, None),
    ("cohort", 1, Some(1)),
    ("$ref", 1, Some(1)),
];

impl JsonSchema for Json {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let this = json!({ "$ref": "#/$defs/Condition" });
        let mut operators = Map::new();
        for (name, least, most) in OPERATORS {
            let mut operands = json!({ "items": this, "minItems": least });
            if let (Some(most), Some(members)) = (most, operands.as_object_mut()) {
                members.insert("maxItems".into(), most.into());
            }
            operands = match name {
                "cohort" | "$ref" => json!({ "type": "string" }),
                _ if least > 1 => json!({ "type": "array", "allOf": [operands] }),
                _ => json!({ "allOf": [operands, this] }),
            };
            operators.insert(name.into(), operands);
        }
        operators.insert("flag".into(), json!({ "type": "string" }));
        json_schema!({
            "description": "JsonLogic: an object with one member, the operator; anything else is a literal",
            "if": { "type": "object" },
            "then": { "minProperties": 1, "maxProperties": 1, "properties": operators, "additionalProperties": false },
            "else": { "items": this },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_sharper_is_there() {
        let schema = policy();
        for (at, _) in sharper() {
            assert!(schema.pointer(at).is_some(), "{at}");
        }
    }
}
