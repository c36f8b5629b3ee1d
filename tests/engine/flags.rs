//! Flags as flagd defines them: its own test cases and documents, asked for over OFREP, natively and as wasm under Node.

use std::fs;
use std::path::{Path, PathBuf};

use mulkko::decide::{Node, Proxy, Request, Trust};
use mulkko::headers::Headers;
use mulkko::ofrep::{Answer, Begun, Ofrep};
use mulkko::pass::Passes;
use mulkko::policy::{Clusters, Policy};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What is refused by flagd's schemas and taken here, and why.
const TAKEN_ALL_THE_SAME: [(&str, &str); 8] = [
    ("flags/negative/with-array-flags.json", "flagd itself takes an array, only its providers do not"),
    ("targeting/negative/fractional-decimal-weighting.json", "weights fail at evaluation: null"),
    ("targeting/negative/fractional-invalid-weighting.json", "weights fail at evaluation: null"),
    ("targeting/negative/fractional-negative-weighting.json", "an evaluator case has it: taken for 0"),
    ("targeting/negative/invalid-ends-with-param.json", "texts fail at evaluation: null"),
    ("targeting/negative/invalid-starts-with-param.json", "texts fail at evaluation: null"),
    ("targeting/negative/sem-ver-invalid-range-specifier.json", "an evaluator case has such a one: null"),
    ("targeting/negative/sem-ver-invalid-ver-expression.json", "versions fail at evaluation: null"),
];

fn suites() -> Option<PathBuf> {
    let folder = std::env::var_os("MULKKO_SUITES").map_or_else(|| "../shared/suites".into(), PathBuf::from);
    let is_there = folder.join("flagd").is_dir();
    if !is_there {
        println!("suite absent, skipped");
    }
    is_there.then_some(folder)
}

#[derive(Deserialize)]
struct Case {
    scenario: String,
    flag: String,
    #[serde(rename = "type")]
    kind: String,
    default: Value,
    context: Value,
    expect: Map<String, Value>,
}

#[test]
fn every_case_of_flagd_resolves_as_it_says() {
    let Some(suites) = suites() else { return };
    let stage = Stage::new(&fs::read(suites.join("flagd/testkit-flags.json")).unwrap());
    let text = fs::read_to_string(suites.join("flagd/evaluator-cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 125);
    let mut wrong = Vec::new();
    for case in &cases {
        let found = stage.resolved(case);
        for (member, expected) in &case.expect {
            let found = found.get(member).unwrap_or(&Value::Null);
            let is_same = match (expected.as_f64(), found.as_f64()) {
                (Some(expected), Some(found)) => expected == found,
                _ => expected == found,
            };
            if !is_same {
                wrong.push(format!("{}, {}: {member}: {expected}, found {found}", case.scenario, case.flag));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_flagds_schemas_take_is_taken_and_the_rest_refused() {
    let Some(suites) = suites() else { return };
    let folder = suites.join("flagd-schemas/test");
    let mut seen = [0, 0, 0];
    for kind in ["flagd", "flags", "targeting"] {
        for verdict in ["positive", "negative"] {
            let Ok(files) = fs::read_dir(folder.join(kind).join(verdict)) else { continue };
            for file in files {
                let file = file.unwrap().path();
                let name = format!("{kind}/{verdict}/{}", file.file_name().unwrap().to_string_lossy());
                let exception = TAKEN_ALL_THE_SAME.iter().find(|(it, _)| *it == name);
                let refusal = refusal_of(&file, kind == "targeting");
                let is_expected = refusal.is_some() == (verdict == "negative" && exception.is_none());
                assert!(is_expected, "{name} ({exception:?}): {refusal:?}");
                seen[usize::from(verdict == "negative") + usize::from(exception.is_some())] += 1;
            }
        }
    }
    assert_eq!(seen, [18, 10, TAKEN_ALL_THE_SAME.len()], "taken, refused, taken all the same");
}

/// Why a file is refused, if it is; `is_targeting`: it is the targeting of a flag.
fn refusal_of(file: &Path, is_targeting: bool) -> Option<String> {
    let mut text = fs::read_to_string(file).unwrap();
    if is_targeting {
        text = format!(
            r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"on": true}}, "targeting": {text}}}}}}}"#
        );
    }
    let found = Policy::parse(text.as_bytes(), &Clusters::default()).err()?;
    found.first().map(ToString::to_string)
}

#[test]
fn numbers_are_answered_as_they_are_written() {
    for number in ["1", "1.0", "1e3", "1E+3", "-0", "-0.0", "0.10", "9007199254740993", "1e400", "5e-324"] {
        let document = format!(
            r#"{{"metadata": {{"m": {number} }}, "flags": {{"n": {{"state": "ENABLED", "variants": {{"v": {number} }},
                "defaultVariant": "v"}}, "o": {{"state": "ENABLED", "variants": {{"v": {{ "x": [ {number} , {number} ] }} }},
                "defaultVariant": "v"}}}}}}"#
        );
        if number == "1e400" {
            // Too large for conditions, which count in doubles.
            assert!(Policy::parse(document.as_bytes(), &Clusters::default()).is_err());
            continue;
        }
        let stage = Stage::new(document.as_bytes());
        let expected = format!(
            r#"{{"key":"n","value":{number},"reason":"STATIC","variant":"v","metadata":{{"m":{number}}}}}"#
        );
        assert_eq!(stage.ask("n", "").body, expected);
        let expected = format!(r#""value":{{"x":[{number},{number}]}}"#);
        assert!(stage.ask("o", "").body.contains(&expected), "{number}");
    }
}

#[test]
fn flags_bucket_by_the_arithmetic_that_the_policy_says() {
    // From other implementations of murmur3_32 and CBOR.
    for (fractional, by, context, expected) in [
        ("v2", json!(null), json!({"targetingKey": "user-1"}), "b"),
        ("v3", json!(null), json!({"targetingKey": "user-1"}), "c"),
        ("v3", json!(null), json!({"targetingKey": 1}), "none"),
        ("v2", json!({"var": "x"}), json!({"x": "user-1"}), "d"),
        ("v3", json!({"var": "x"}), json!({"x": "user-1"}), "b"),
        ("v2", json!({"var": "x"}), json!({"x": 42}), "none"),
        ("v3", json!({"var": "x"}), json!({"x": 42}), "b"),
        ("v3", json!({"var": "x"}), json!({"x": 1.5}), "a"),
        ("v3", json!({"var": "x"}), json!({"x": true}), "a"),
        ("v3", json!({"var": "x"}), json!({"x": ["a", 1]}), "d"),
        ("v3", json!({"var": "x"}), json!({"x": {"b": 1, "aa": 2}}), "a"),
        ("v3", json!({"var": "x"}), json!({}), "none"),
    ] {
        let mut of = vec![json!(["a", 25]), json!(["b", 25]), json!(["c", 25]), json!(["d", 25])];
        if !by.is_null() {
            of.insert(0, by.clone());
        }
        let flag = json!({"state": "ENABLED", "variants": {"a": 1, "b": 2, "c": 3, "d": 4, "none": 0},
                          "defaultVariant": "none", "targeting": {"fractional": of}});
        let document = json!({"fractional": fractional, "flags": {"f": flag}});
        let stage = Stage::new(document.to_string().as_bytes());
        let answer = stage.ask("f", &json!({"context": context}).to_string());
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["variant"], expected, "{fractional} {by}");
    }
}

/// A flag for each of these operators, which looks into what a context says.
fn flags_of_all_operators(fractional: &str) -> Value {
    let a = json!({"var": "a"});
    let b = json!({"var": ["b.c", "x"]});
    let targetings = [
        json!({"fractional": [a, ["on", b], ["off", 50]]}),
        json!({"fractional": [["on", {"var": "weight"}], [b, 1]]}),
        json!({"fractional": [{"merge": [a, b]}, [a, 1], ["off"]]}),
        json!({"if": [{"sem_ver": [a, "^", b]}, "on", {"sem_ver": [b, a, "1"]}, "off"]}),
        json!({"if": [{"starts_with": [a, b]}, "on", {"ends_with": [b, "x"]}, "off"]}),
        json!({"cat": [a, {"substr": [b, -1]}]}),
        json!({"if": [{"in": [a, b]}, "on", {"in": [a, ["a", "b", "c", "d", "e", 1]]}, "off"]}),
        json!({"reduce": [a, {"+": [{"var": "current"}, {"var": "accumulator"}]}, b]}),
        json!({"if": [{"all": [a, {"<": [{"var": ""}, 1]}]}, {"map": [a, {"var": "c"}]}, {"missing": ["a", b]}]}),
        json!({"max": [{"/": [a, b]}, {"%": [b, a]}, {"-": [a]}]}),
        json!({"var": a}),
    ];
    let flags: Map<String, Value> = targetings
        .iter()
        .enumerate()
        .map(|(i, targeting)| {
            let variants = json!({"on": true, "off": false});
            let flag = json!({"state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": targeting});
            (format!("f{i}"), flag)
        })
        .collect();
    json!({"fractional": fractional, "flags": flags})
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-e0-9.v-]{0,8}".prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(crate::laws::config(256))]

    #[test]
    fn any_context_is_answered(
        a in any_json(),
        b in any_json(),
        weight in any_json(),
        key in any_json(),
        version in prop::sample::select(vec!["v2", "v3"]),
    ) {
        let stage = Stage::new(flags_of_all_operators(version).to_string().as_bytes());
        let context = json!({"a": a, "b": {"c": b}, "weight": weight, "targetingKey": key});
        for i in 0..11 {
            let answer = stage.ask(&format!("f{i}"), &json!({ "context": context }).to_string());
            prop_assert!([200, 400].contains(&answer.status));
            prop_assert!(serde_json::from_str::<Value>(&answer.body).is_ok(), "{}", answer.body);
        }
    }

    #[test]
    fn any_body_is_answered(body: String, path in "[a-z/%0-9\\PC]{0,20}") {
        let stage = Stage::new(flags_of_all_operators("v2").to_string().as_bytes());
        let answer = stage.ask(&path, &body);
        prop_assert!([200, 400, 404].contains(&answer.status));
        prop_assert!(serde_json::from_str::<Value>(&answer.body).is_ok(), "{}", answer.body);
    }
}

/// A policy that answers OFREP in the mesh.
struct Stage {
    policy: Policy,
    ofrep: Ofrep,
}

impl Stage {
    fn new(document: &[u8]) -> Stage {
        let policy = Policy::parse(document, &Clusters::default());
        let policy = policy.unwrap_or_else(|found| panic!("{}", found.first().unwrap()));
        let ofrep = Ofrep {
            prefix: "/ofrep/v1".into(),
            bearer: None,
            allow_origins: [].into(),
            max_body_bytes: 1 << 20,
        };
        Stage { policy, ofrep }
    }

    fn ask(&self, flag: &str, body: &str) -> Answer {
        let path = format!("/ofrep/v1/evaluate/flags/{flag}");
        let pairs: Vec<(&[u8], &[u8])> =
            vec![(b":method", b"POST"), (b":path", path.as_bytes()), (b":authority", b"a")];
        let headers = Headers::of_request(pairs, Trust::Mesh);
        let Some(Begun::Asked(asked)) = self.ofrep.begin(None, Trust::Mesh, &headers) else {
            panic!("{flag} is not asked for")
        };
        let (passes, node) = (Passes::default(), Node::default());
        let request = Request {
            headers: &headers,
            passes: &passes,
            macs: None,
            node: &node,
            proxy: &Clock,
            rolled_back: None,
        };
        asked.answer(body.as_bytes(), Some(&self.policy), request)
    }

    /// What an SDK makes of the answer: where there is no value, the caller's default applies.
    fn resolved(&self, case: &Case) -> Map<String, Value> {
        let answer = self.ask(&case.flag, &json!({ "context": case.context }).to_string());
        let mut resolved: Map<String, Value> = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status == 200, resolved.contains_key("reason"), "{}", answer.body);
        let is_of_type = match resolved.get("value") {
            None => true,
            Some(value) => match case.kind.as_str() {
                "Boolean" => value.is_boolean(),
                "String" => value.is_string(),
                "Integer" => value.is_i64(),
                "Float" => value.is_number(),
                _ => value.is_object(),
            },
        };
        if !is_of_type {
            resolved.insert("errorCode".to_owned(), json!("TYPE_MISMATCH"));
        }
        resolved.entry("value").or_insert_with(|| case.default.clone());
        resolved.entry("metadata").or_insert_with(|| json!({}));
        resolved
    }
}

/// A host that knows nothing but the time.
struct Clock;

impl Proxy for Clock {
    fn property(&self, _: &[Box<str>]) -> Option<Vec<u8>> {
        None
    }

    fn client_address(&self) -> Option<Vec<u8>> {
        None
    }

    fn now_ms(&self) -> i64 {
        1_795_348_800_000
    }

    fn draw_id(&self) -> String {
        "drawn-id".to_owned()
    }
}
