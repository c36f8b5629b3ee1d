//! Conditions as a policy has them: what they evaluate to, what is refused, what they may cost.

use std::cell::RefCell;
use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// A JSON context, as a flag has it.
struct Context(Json);

impl Data for Context {
    fn var<'s>(&'s self, var: &Var) -> Value<'s> {
        let context = Value::from(&self.0);
        match var {
            Var::Other(way) => context.along(way),
            Var::TargetingKey => context.at("targetingKey"),
            Var::ClientIp => context.at("client.ip"),
            Var::Header(name) => context.at("request.headers").at(name),
            Var::Attribute(i) => Value::Number(100.0 + f64::from(u32::try_from(*i).unwrap())),
            _ => Value::Null,
        }
    }
}

/// A policy's named expressions, and one condition.
struct Policy {
    library: Library,
    condition: Condition,
}

fn compile(names: &str, rule: &str) -> Result<Policy, Vec<String>> {
    #[derive(Deserialize)]
    #[serde(default)]
    struct Named {
        cohorts: Json,
        evaluators: Json,
    }
    impl Default for Named {
        fn default() -> Self {
            Named { cohorts: Json::Object(Vec::new()), evaluators: Json::Object(Vec::new()) }
        }
    }
    let named: Named = serde_json::from_str(names).unwrap();
    let (Json::Object(cohorts), Json::Object(evaluators)) = (named.cohorts, named.evaluators) else {
        panic!("names stand in objects")
    };
    compile_json(&cohorts, evaluators, &json(rule))
}

fn compile_json(
    cohorts: &[(Box<str>, Json)],
    evaluators: Vec<(Box<str>, Json)>,
    rule: &Json,
) -> Result<Policy, Vec<String>> {
    let names = cohorts.iter().map(|(name, _)| name.clone()).collect();
    let mut compiler =
        Compiler::new(vec!["region".into(), "x.y".into()], evaluators, names, wire::Fractional::V2);
    let mut findings = Findings::default();
    for (i, (name, json)) in cohorts.iter().enumerate() {
        compiler.cohort(i, json, &Path::Root.field("cohorts").field(name), &mut findings);
    }
    // As a cohort, which may be a flag's alone: whatever the context may have.
    let condition = compiler.compile(rule, &Path::Root.field("when"), Part::Condition, &mut findings);
    let condition = condition.map(|named| Condition(named.expr));
    while compiler.compile_unused(&mut findings) {}
    let library = compiler.close(&mut findings);
    match (condition, library) {
        (Some(condition), Some(library)) => {
            assert!(findings.is_empty());
            Ok(Policy { library, condition })
        }
        _ => Err(findings.into_vec().iter().map(ToString::to_string).collect()),
    }
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn written(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) if !number.is_finite() => Json::Null,
        Value::Number(number) => Json::Number(*number),
        Value::Text(text) => Json::Text((**text).into()),
        Value::List(list) => Json::List(list.iter().map(|item| written(&item)).collect()),
        Value::Object(object) => {
            Json::Object(object.iter().map(|(name, value)| (name.into(), written(&value))).collect())
        }
    }
}

#[track_caller]
fn check(names: &str, rule: &str, context: &str, expected: &str) {
    let policy = compile(names, rule).unwrap_or_else(|found| panic!("{rule}: {found:?}"));
    let context = Context(json(context));
    let value = written(&policy.condition.evaluate(&policy.library, &context));
    assert_eq!(value, json(expected), "{rule}");
}

fn suite(name: &str) -> Option<String> {
    let folder = std::env::var_os("MULKKO_SUITES").map_or_else(|| "../shared/suites".into(), PathBuf::from);
    let text = std::fs::read_to_string(folder.join(name)).ok();
    if text.is_none() {
        println!("suite absent, skipped");
    }
    text
}

#[test]
fn all_portable_cases_of_jsonlogic_give_the_same_value() {
    #[derive(Deserialize)]
    struct Case {
        rule: Json,
        #[serde(default = "null")]
        data: Json,
        result: Json,
    }
    fn null() -> Json {
        Json::Null
    }
    let Some(suite) = suite("jsonlogic/portable.json") else { return };
    let cases: Vec<Case> = serde_json::from_str(&suite).unwrap();
    assert_eq!(cases.len(), 277);
    for Case { rule, data, result } in cases {
        let policy =
            compile_json(&[], Vec::new(), &rule).unwrap_or_else(|found| panic!("{rule:?}: {found:?}"));
        let value = written(&policy.condition.evaluate(&policy.library, &Context(data.clone())));
        assert_eq!(value, result, "{rule:?} with {data:?}");
    }
}

#[test]
fn operators_do_what_their_documentation_says() {
    let context = r#"{"text": "Mobile Safari", "none": null, "empty": "", "n": 7, "list": [1, "1", [2]], "o": {"a": {"b": 3}},
        "client": {"ip": "10.1.2.3"}, "request": {"headers": {"x-user": "u1"}}, "targetingKey": "k", "v": "1.4.0"}"#;
    for (rule, expected) in [
        // Variables.
        (r#"{"var": "region"}"#, "100"),
        (r#"{"var": ["x.y", 1]}"#, "101"),
        (r#"{"var": "targetingKey"}"#, r#""k""#),
        (r#"{"var": "request.headers.X-User"}"#, r#""u1""#),
        (r#"{"var": {"cat": ["request.headers.", "X-USER"]}}"#, r#""u1""#),
        (r#"{"var": ["none", {"+": [1, 1]}]}"#, "2"),
        (r#"{"var": ["nowhere", {"var": "n"}]}"#, "7"),
        (r#"{"missing": ["n", "none", "empty", "region"]}"#, r#"["none", "empty"]"#),
        (r#"{"missing": [{"merge": ["a", "n"]}]}"#, r#"["a"]"#),
        (r#"{"missing_some": [{"var": "n"}, ["n", "a"]]}"#, r#"["a"]"#),
        // Equality and order.
        (r#"{"==": [null, 0]}"#, "false"),
        (r#"{"==": [{"var": "nowhere"}, null]}"#, "true"),
        (r#"{"==": [true, "1"]}"#, "true"),
        (r#"{"==": ["1,2", [1, 2]]}"#, "true"),
        (r#"{"==": [[5], 5]}"#, "true"),
        (r#"{"==": [[1], [1]]}"#, "false"),
        (r#"{"!=": ["a", "a"]}"#, "false"),
        (r#"{"!==": [{"var": "o"}, {"var": "o"}]}"#, "true"),
        (r#"{"<": ["10", "9"]}"#, "true"),
        (r#"{"<": ["10", 9]}"#, "false"),
        (r#"{"<=": [null, 0]}"#, "true"),
        (r#"{">=": ["a", 1]}"#, "false"),
        (r#"{"<": ["a", 1]}"#, "false"),
        (r#"{">": [3, 2, 1]}"#, "true"),
        (r#"{">=": [3, 3, 4]}"#, "false"),
        (r#"{"<": [1, {"var": "n"}, 10]}"#, "true"),
        // Arithmetic.
        (r#"{"+": ["1.5", true, null]}"#, "2.5"),
        (r#"{"+": ["1px"]}"#, "null"),
        (r#"{"-": ["3"]}"#, "-3"),
        (r#"{"%": [-7, 3]}"#, "-1"),
        (r#"{"%": [5.5, 2]}"#, "1.5"),
        (r#"{"/": [1, 0]}"#, "null"),
        (r#"{"cat": [{"/": [1, 0]}, {"%": [1, 0]}]}"#, r#""InfinityNaN""#),
        (r#"{"max": [1, "x", 3]}"#, "null"),
        (r#"{"min": ["2", 10]}"#, "2"),
        // Logic.
        (r#"{"!": {"var": "empty"}}"#, "true"),
        (r#"{"!!": [{"var": "o"}]}"#, "true"),
        (r#"{"if": [{"var": "none"}, 1, {"var": "n"}, 2, 3]}"#, "2"),
        (r#"{"log": "x"}"#, r#""x""#),
        // Texts.
        (r#"{"in": ["Mobile", {"var": "text"}]}"#, "true"),
        (r#"{"in": [{"var": "none"}, "null"]}"#, "false"),
        (r#"{"in": [1, "213"]}"#, "true"),
        (r#"{"in": ["", "a"]}"#, "true"),
        (r#"{"in": ["", ""]}"#, "false"),
        (r#"{"in": ["1", {"var": "n"}]}"#, "false"),
        (r#"{"in": ["1", {"var": "list"}]}"#, "true"),
        (r#"{"in": ["2", {"var": "list"}]}"#, "false"),
        (r#"{"in": [null, [1, null]]}"#, "true"),
        (r#"{"in": ["j", ["a", "b", "c", "d", "e", "f", "g", "hh", "i", "j"]]}"#, "true"),
        (r#"{"in": ["h", ["a", "b", "c", "d", "e", "f", "g", "hh", "i", "j"]]}"#, "false"),
        (r#"{"in": [1, ["1", "b", "c", "d", "e", "f", "g", "hh", "i", "j"]]}"#, "false"),
        (r#"{"in": [9, ["1", 2, 3, 4, 5, 6, 7, 8, 9, 10]]}"#, "true"),
        (
            r#"{"cat": ["a", null, true, 0.5, [1, [2, null]], {"var": "o"}]}"#,
            r#""atrue0.51,2,[object Object]""#,
        ),
        (r#"{"substr": [{"var": "none"}, 1]}"#, r#""""#),
        (r#"{"substr": [{"cat": ["ab", "cd"]}, 1, 2]}"#, r#""bc""#),
        (r#"{"starts_with": [{"var": "text"}, "Mob"]}"#, "true"),
        (r#"{"ends_with": [{"var": "text"}, {"substr": ["xari", 1]}]}"#, "true"),
        (r#"{"starts_with": [{"var": "n"}, "7"]}"#, "null"),
        (r#"{"ends_with": ["a", {"var": "none"}]}"#, "null"),
        (r#"{"matches": [{"var": "text"}, "Mobile .*|x"]}"#, "true"),
        (r#"{"matches": [{"var": "text"}, "Mobile"]}"#, "false"),
        (r#"{"matches": [{"var": "none"}, ".*"]}"#, "null"),
        (r#"{"matches": [{"var": "n"}, "7"]}"#, "null"),
        // Versions.
        (r#"{"sem_ver": [{"var": "v"}, ">=", "1.2"]}"#, "true"),
        (r#"{"sem_ver": ["1.2.0", {"cat": ["~"]}, {"var": "v"}]}"#, "false"),
        (r#"{"sem_ver": [{"var": "v"}, {"cat": ["?"]}, "1"]}"#, "null"),
        (r#"{"sem_ver": [{"var": "text"}, "=", "1"]}"#, "null"),
        (r#"{"sem_ver": [{"var": "none"}, "=", "1"]}"#, "null"),
        (r#"{"sem_ver": [{"var": "n"}, "=", 7]}"#, "true"),
        // Addresses.
        (r#"{"cidr": [{"var": "client.ip"}, "10.0.0.0/8"]}"#, "true"),
        (r#"{"cidr": [{"var": "client.ip"}, ["192.168.0.0/16", "10.1.2.3"]]}"#, "true"),
        (r#"{"cidr": [{"var": "client.ip"}, []]}"#, "false"),
        (r#"{"cidr": ["::ffff:10.1.2.3", "10.1.2.99/24"]}"#, "true"),
        (r#"{"cidr": [{"var": "text"}, "10.0.0.0/8"]}"#, "null"),
        (r#"{"cidr": [{"var": "none"}, "10.0.0.0/8"]}"#, "null"),
        (r#"{"cidr": ["1.2.3", "10.0.0.0/8"]}"#, "null"),
        (r#"{"cidr": [1, "10.0.0.0/8"]}"#, "null"),
        (r#"{"matches": [1, "a"]}"#, "null"),
        // Lists.
        (r#"{"map": [[1, 2], {"var": "region"}]}"#, "[null, null]"),
        (r#"{"map": [[[1, 2], [3]], {"map": [{"var": ""}, {"+": [{"var": ""}, 1]}]}]}"#, "[[2, 3], [4]]"),
        (r#"{"map": [[{"var": "o"}], {"var": {"cat": ["a", ".b"]}}]}"#, "[3]"),
        (r#"{"map": [[{"var": "o"}], {"missing": ["a.b", "c"]}]}"#, r#"[["c"]]"#),
        (r#"{"map": [{"var": "n"}, 1]}"#, "[]"),
        (r#"{"filter": [{"var": "list"}, {"var": "0"}]}"#, "[[2]]"),
        (r#"{"all": ["text", true]}"#, "false"),
        (r#"{"none": [null, true]}"#, "true"),
        (r#"{"some": [null, true]}"#, "false"),
        (r#"{"reduce": [null, 1, {"var": "n"}]}"#, "7"),
        (r#"{"reduce": [[5], {"var": ""}, 6]}"#, r#"{"current": 5, "accumulator": 6}"#),
        (r#"{"reduce": [["a", "b"], {"cat": [{"var": "accumulator"}, {"var": "current"}]}, ""]}"#, r#""ab""#),
        (r#"{"merge": [1, [2, [3]], {"var": "none"}]}"#, "[1, 2, [3], null]"),
    ] {
        check("{}", rule, context, expected);
    }
}

#[test]
fn a_range_of_versions_is_what_its_ends_say() {
    let low = r#"{"sem_ver": [{"var": "v"}, ">=", "1.2"]}"#;
    let high = r#"{"sem_ver": [{"var": "v"}, "<", "2.0"]}"#;
    let odd = r#"{"sem_ver": [{"var": "w"}, "!=", "1.5"]}"#;
    for (v, expected) in
        [("1.1", false), ("1.2", true), ("1.9.9", true), ("2.0", false), ("x", false), ("1.5", true)]
    {
        let context = format!(r#"{{"v": "{v}", "w": "1.5"}}"#);
        for (operands, expected) in [
            (format!("{low}, {high}"), expected),
            (format!("{high}, {low}"), expected),
            (format!("{low}, {high}, true"), expected),
            (format!("{low}, {high}, {odd}"), false),
            (format!("{odd}, {low}, {high}"), false),
        ] {
            let expected =
                if v == "x" && !operands.starts_with(odd) { "null".to_owned() } else { expected.to_string() };
            check("{}", &format!(r#"{{"and": [{operands}]}}"#), &context, &expected);
            let negated = if expected == "true" { "false" } else { "true" };
            check("{}", &format!(r#"{{"!": {{"and": [{operands}]}}}}"#), &context, negated);
        }
    }
}

#[test]
fn names_stand_for_their_expressions() {
    let names = r#"{
        "cohorts": {
            "late": {"and": [{"cohort": "early"}, {"$ref": "big"}]},
            "early": {"==": [{"var": "plan"}, "pro"]},
            "number": {"var": "size"}
        },
        "evaluators": {"big": {">": [{"var": "size"}, {"$ref": "limit"}]}, "limit": 10, "unused": {"$ref": "nothing"}}
    }"#;
    let context = r#"{"plan": "pro", "size": 20, "items": [{"size": 5}, {"size": 50, "plan": "free"}]}"#;
    for (rule, expected) in [
        (r#"{"cohort": "late"}"#, "true"),
        (r#"{"==": [{"cohort": "number"}, true]}"#, "true"),
        (r#"{"$ref": "limit"}"#, "10"),
        // In a body a cohort asks the request, and an evaluator looks into the item.
        (r#"{"map": [{"var": "items"}, {"cohort": "early"}]}"#, "[true, true]"),
        (r#"{"map": [{"var": "items"}, {"$ref": "big"}]}"#, "[false, true]"),
    ] {
        check(names, rule, context, expected);
    }
}

#[test]
fn refusals_name_the_place_and_the_problem() {
    for (rule, refusal) in [
        (r#"{"=": [1, 2]}"#, "when.=: unknown operator `=`"),
        (
            r#"{"and": [true, {"or": [{"equals": 1}]}]}"#,
            "when.and[1].or[0].equals: unknown operator `equals`",
        ),
        ("{}", "when: expected an operator: an object with one member, found 0 members"),
        (
            r#"{"if": [{"var": "a", "var": "b"}]}"#,
            "when.if[0]: expected an operator: an object with one member, found 2 members",
        ),
        (r#"[1, [{"x": 1}]]"#, "when[1][0].x: unknown operator `x`"),
        (r#"{"cohort": "x"}"#, "when.cohort: unknown cohort `x`"),
        (r#"{"cohort": ["x"]}"#, "when.cohort: expected the name of a cohort, found an array"),
        (r#"{"$ref": "x"}"#, "when.$ref: unknown evaluator `x`"),
        (r#"{"$ref": 1}"#, "when.$ref: expected the name of an evaluator, found a number"),
        (r#"{"fractional": ["a", 1]}"#, "when.fractional[0]: expected a value and its weight, found a text"),
        (
            r#"{"fractional": [{"var": "a"}]}"#,
            "when.fractional: expected at least one value with its weight, found none",
        ),
        (r#"{"fractional": [["a", 1, 2]]}"#, "when.fractional[0]: expected a value and its weight, found 3"),
        (
            r#"{"fractional": [["a", 1], ["b", 2.5]]}"#,
            "when.fractional[1][1]: expected a whole number of at least 0, found 2.5",
        ),
        (
            r#"{"fractional": [{"var": "a"}, ["a", -1]]}"#,
            "when.fractional[1][1]: expected a whole number of at least 0, found -1",
        ),
        (
            r#"{"fractional": [["a", "1"]]}"#,
            "when.fractional[0][1]: expected a whole number of at least 0, found a text",
        ),
        (
            r#"{"fractional": [["a", 0]]}"#,
            "when.fractional: expected weights that add up to 1 to 2147483647, found 0",
        ),
        (
            r#"{"fractional": [["a", 2147483647], ["b"]]}"#,
            "when.fractional: expected weights that add up to 1 to 2147483647, found 2147483648",
        ),
        (r#"{"fractional": [["a", {"typo": 1}]]}"#, "when.fractional[0][1].typo: unknown operator `typo`"),
        (
            r#"{"flag": "new-cart"}"#,
            "when.flag: expected no `flag`: only a rollout's `when` may ask for one, found one",
        ),
        (r#"{"==": [1]}"#, "when.==: expected 2 operands, found 1"),
        (r#"{"==": 1}"#, "when.==: expected 2 operands, found 1"),
        (r#"{"!": [1, 2]}"#, "when.!: expected 1 operand, found 2"),
        (r#"{"<": [1, 2, 3, 4]}"#, "when.<: expected 2 or 3 operands, found 4"),
        (r#"{"substr": ["a"]}"#, "when.substr: expected 2 or 3 operands, found 1"),
        (r#"{"and": []}"#, "when.and: expected at least 1 operand, found 0"),
        (r#"{"reduce": [[], 1]}"#, "when.reduce: expected 3 operands, found 2"),
        (r#"{"var": ["a", 1, 2]}"#, "when.var: expected a name and a default, found 3"),
        (r#"{"var": true}"#, "when.var: expected the name of a variable, found a boolean"),
        (r#"{"var": [["a"]]}"#, "when.var[0]: expected the name of a variable, found an array"),
        (r#"{"var": "$flagd.x"}"#, "when.var: expected $flagd.flagKey or $flagd.timestamp, found $flagd.x"),
        (r#"{"var": ["a", {"x": 1}]}"#, "when.var[1].x: unknown operator `x`"),
        (r#"{"starts_with": [{"var": "a"}, 0]}"#, "when.starts_with[1]: expected a text, found a number"),
        (r#"{"ends_with": ["abc"]}"#, "when.ends_with: expected 2 operands, found 1"),
        (
            r#"{"sem_ver": [{"var": "v"}, "*", "2.0.0"]}"#,
            "when.sem_ver[1]: expected one of = != < <= > >= ~ ^, found *",
        ),
        (
            r#"{"sem_ver": [{"var": "v"}, "=", "2.0.0.0"]}"#,
            "when.sem_ver[2]: expected a version, found 2.0.0.0",
        ),
        (r#"{"sem_ver": [null, "=", "2"]}"#, "when.sem_ver[0]: expected a version, found null"),
        (r#"{"sem_ver": [1.5e300, "=", "2"]}"#, "when.sem_ver[0]: expected a version, found 1.5e+300"),
        (r#"{"sem_ver": [{"var": "v"}, "="]}"#, "when.sem_ver: expected 3 operands, found 2"),
        (
            r#"{"cidr": [{"var": "client.ip"}, "10.0.0.0/33"]}"#,
            "when.cidr[1]: expected a network, found 10.0.0.0/33",
        ),
        (
            r#"{"cidr": [{"var": "client.ip"}, ["::1", {"var": "x"}]]}"#,
            "when.cidr[1][1]: expected a network, found an object",
        ),
        (r#"{"cidr": "10.0.0.0/8"}"#, "when.cidr: expected an address and its networks, found 1"),
        (
            r#"{"matches": [{"var": "a"}, {"var": "b"}]}"#,
            "when.matches[1]: expected a regular expression, found an object",
        ),
        (r#"{"matches": ["a"]}"#, "when.matches: expected a text and a pattern, found 1"),
    ] {
        let found = compile("{}", rule).err().unwrap_or_else(|| panic!("{rule} is taken"));
        assert_eq!(found, [refusal], "{rule}");
    }
}

#[test]
fn all_that_is_wrong_is_told_once() {
    let names = r#"{
        "cohorts": {"a": {"x": 1}},
        "evaluators": {"e": {"or": [{"y": 1}, {"cohort": "b"}]}}
    }"#;
    let rule = r#"{"and": [{"$ref": "e"}, {"map": [[], {"$ref": "e"}]}, {"z": 1}, {"<": 1}]}"#;
    assert_eq!(
        compile(names, rule).err().unwrap(),
        [
            "cohorts.a.x: unknown operator `x`",
            "when.and[2].z: unknown operator `z`",
            "when.and[3].<: expected 2 or 3 operands, found 1",
            "$evaluators.e.or[0].y: unknown operator `y`",
            "$evaluators.e.or[1].cohort: unknown cohort `b`",
        ]
    );
}

#[test]
fn what_reaches_itself_is_refused_once_for_each_circle() {
    for (names, refusals) in [
        (r#"{"cohorts": {"a": {"cohort": "a"}}}"#, &["cohorts.a: `a` reaches itself"][..]),
        (
            r#"{"cohorts": {"a": {"!": {"cohort": "b"}}, "b": {"or": [1, {"cohort": "c"}]}, "c": {"cohort": "a"}}}"#,
            &["cohorts.a: `a` reaches itself"],
        ),
        (
            r#"{"cohorts": {"in": {"cohort": "a"}, "a": {"cohort": "b"}, "b": {"cohort": "a"}}}"#,
            &["cohorts.a: `a` reaches itself"],
        ),
        (
            r#"{"cohorts": {"a": {"cohort": "a"}, "b": {"cohort": "b"}}}"#,
            &["cohorts.a: `a` reaches itself", "cohorts.b: `b` reaches itself"],
        ),
        (
            r#"{"cohorts": {"a": {"$ref": "e"}}, "evaluators": {"e": {"map": [[1], {"$ref": "e"}]}}}"#,
            &["$evaluators.e: `e` reaches itself"],
        ),
        (
            r#"{"cohorts": {"a": {"$ref": "e"}}, "evaluators": {"e": {"cohort": "a"}}}"#,
            &["cohorts.a: `a` reaches itself"],
        ),
    ] {
        assert_eq!(compile(names, "true").err().unwrap(), refusals, "{names}");
    }
}

#[test]
fn what_stands_too_deep_is_refused() {
    let nested = |levels: usize| (0..levels).fold(Json::Null, |inner, _| op("!", inner));
    assert!(compile_json(&[], Vec::new(), &nested(63)).is_ok());
    let found = compile_json(&[], Vec::new(), &nested(64)).err().unwrap();
    assert!(found[0].ends_with("…: expected at most 64 levels of expressions, found 65"), "{found:?}");
    let lists = (0..100).fold(Json::Null, |inner, _| Json::List(vec![inner]));
    assert!(compile_json(&[], Vec::new(), &lists).is_err());

    assert!(compile_json(&chain(256), Vec::new(), &Json::Null).is_ok());
    let found = compile_json(&chain(257), Vec::new(), &Json::Null).err().unwrap();
    assert_eq!(found, ["cohorts.c0: expected at most 256 levels of expressions, found 257"]);
    assert!(compile_json(&chain(50_000), Vec::new(), &Json::Null).is_err());
}

/// Cohorts that refer to the next one, the last to nothing: as many levels as cohorts.
fn chain(cohorts: usize) -> Vec<(Box<str>, Json)> {
    let next =
        |i| if i + 1 < cohorts { op("cohort", Json::Text(format!("c{}", i + 1).into())) } else { Json::Null };
    (0..cohorts).map(|i| (format!("c{i}").into(), next(i))).collect()
}

fn op(name: &str, operands: Json) -> Json {
    Json::Object(vec![(name.into(), operands)])
}

#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    let deep = || {
        let mut names = chain(194);
        // 62 levels.
        let body = (0..61).fold(op("cohort", Json::Text("c0".into())), |inner, _| {
            op("map", Json::List(vec![Json::List(vec![Json::Null]), inner]))
        });
        names.push(("deep".into(), body));
        let rule = (0..62).fold(op("cohort", Json::Text("deep".into())), |inner, _| op("!", inner));
        let policy = compile_json(&names, Vec::new(), &rule).unwrap_or_else(|found| panic!("{found:?}"));
        assert!(policy.condition.holds(&policy.library, &Context(Json::Null)));
        // A context nests as deep as its reader lets it, and turns into a text at the bottom.
        let nested = format!(r#"{{"nested": {}{}}}"#, "[".repeat(126), "]".repeat(126));
        let text = op("cat", Json::List(vec![op("var", Json::Text("nested".into()))]));
        let rule = (0..61).fold(text, |inner, _| op("log", inner));
        let policy = compile_json(&[], Vec::new(), &rule).unwrap_or_else(|found| panic!("{found:?}"));
        let context = Context(json(&nested));
        let value = policy.condition.evaluate(&policy.library, &context);
        assert!(matches!(value, Value::Text(text) if text.is_empty()));
    };
    if cfg!(target_family = "wasm") {
        return deep();
    }
    // What WebAssembly has, though frames of a debug build are larger.
    std::thread::Builder::new().stack_size(1 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn an_evaluation_that_uses_up_its_budget_gives_null() {
    let hundred = (0..100).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let thousands = vec!["\"x\""; 60_000].join(",");
    let long = "x".repeat(100_000);
    for (names, rule) in [
        // Texts and lists that double.
        ("{}", r#"{"reduce": [[H], {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "ab"]}"#),
        ("{}", r#"{"reduce": [[H], {"merge": [{"var": "accumulator"}, {"var": "accumulator"}]}, [1]]}"#),
        // Lists that nest, whole or shared, and their texts.
        ("{}", r#"{"reduce": [[H], [{"var": "accumulator"}], 1]}"#),
        ("{}", r#"{"reduce": [[H], {"var": ""}, 1]}"#),
        (
            "{}",
            r#"{"cat": [{"reduce": [[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0], [{"var": "accumulator"}, {"var": "accumulator"}], 1]}]}"#,
        ),
        // Loops in loops.
        ("{}", r#"{"map": [[H], {"map": [[H], {"map": [[H], 1]}]}]}"#),
        // Names in names.
        (
            r#"{"cohorts": {"a": {"!": {"and": [{"!": {"cohort": "b"}}, {"!": {"cohort": "b"}}]}}, "b": {"map": [[H], {"cohort": "c"}]},
                "c": {"map": [[H], {"cohort": "d"}]}, "d": {"map": [[H], 0]}}}"#,
            r#"{"cohort": "a"}"#,
        ),
        // Long texts, read again and again.
        ("{}", r#"{"map": [[H], {"in": ["y", "L"]}]}"#),
        ("{}", r#"{"map": [[H], {"==": [["L"], "y"]}]}"#),
        ("{}", r#"{"map": [[T], {"in": [1, [H]]}]}"#),
        ("{}", r#"{"missing": [[T]]}"#),
        // Patterns made to be slow.
        ("{}", r#"{"map": [[T], {"matches": ["P", "((a*)*(a*)*(a*)*(a*)*){9}b"]}]}"#),
    ] {
        let fill = |text: &str| {
            text.replace("[H]", &format!("[{hundred}]"))
                .replace("[T]", &format!("[{thousands}]"))
                .replace('L', &long)
        };
        let policy = compile(&fill(names), &fill(rule)).unwrap_or_else(|found| panic!("{rule}: {found:?}"));
        let context = Context(Json::Null);
        let value = policy.condition.evaluate(&policy.library, &context);
        assert!(matches!(value, Value::Null), "{rule}");
    }
}

#[test]
fn only_what_evaluation_reaches_is_asked_for() {
    struct Asked(RefCell<Vec<Var>>);
    impl Data for Asked {
        fn var<'s>(&'s self, var: &Var) -> Value<'s> {
            self.0.borrow_mut().push(var.clone());
            Value::from("y")
        }
    }
    let rule = r#"{"or": [{"==": [{"var": "request.headers.X-A"}, "n"]}, {"if": [{"var": "region"}, true, {"var": "node.id"}]}, {"var": ["request.path", {"var": "client.ip"}]}]}"#;
    let policy = compile("{}", rule).unwrap_or_else(|found| panic!("{found:?}"));
    let asked = Asked(RefCell::default());
    assert!(policy.condition.holds(&policy.library, &asked));
    assert_eq!(asked.0.into_inner(), [Var::Header("x-a".into()), Var::Attribute(0)]);
}

fn any_rule() -> impl Strategy<Value = Json> {
    let name = prop::sample::select(vec![
        "",
        "a",
        "a.b",
        "0",
        "current",
        "accumulator",
        "region",
        "request.headers.x",
        "client.ip",
        "c0",
        "c1",
        "e0",
        "1.2.3",
        "10.0.0.0/8",
        ">=",
        "(a|b)*",
        "9e99",
    ]);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<f64>().prop_map(Json::Number),
        (-3_i8..100).prop_map(|n| Json::Number(f64::from(n))),
        name.clone().prop_map(|text| Json::Text(text.into())),
        ".{0,8}".prop_map(|text| Json::Text(text.into())),
        name.prop_map(|name| op("var", Json::Text(name.into()))),
        prop::sample::select(vec!["c0", "c1"]).prop_map(|name| op("cohort", Json::Text(name.into()))),
        Just(op("$ref", Json::Text("e0".into()))),
    ];
    let unary = prop::sample::select(vec!["var", "!", "!!", "log", "-", "missing", "if", "or", "cat"]);
    let binary = prop::sample::select(vec![
        "var",
        "==",
        "===",
        "!=",
        "!==",
        "<",
        ">=",
        "-",
        "/",
        "%",
        "map",
        "filter",
        "all",
        "none",
        "some",
        "in",
        "substr",
        "starts_with",
        "ends_with",
        "missing_some",
        "cidr",
        "matches",
        "+",
        "and",
        "merge",
    ]);
    let many = prop::sample::select(vec![
        "if", "?:", "or", "and", "max", "min", "+", "*", "merge", "cat", "substr", "reduce", "<=", ">",
        "sem_ver", "missing",
    ]);
    // Now and then what is not taken: no operator, too few operands.
    let any = prop::sample::select(vec!["fractional", "typo", "==", "reduce", "cidr", "sem_ver"]);
    leaf.prop_recursive(6, 60, 4, move |inner| {
        let list = |least, most| prop::collection::vec(inner.clone(), least..=most).prop_map(Json::List);
        let apply = |(name, operands): (&'static str, Json)| op(name, operands);
        prop_oneof![
            10 => list(0, 4),
            20 => (unary.clone(), inner.clone()).prop_map(apply),
            40 => (binary.clone(), list(2, 2)).prop_map(apply),
            30 => (many.clone(), list(3, 3)).prop_map(apply),
            1 => (any.clone(), list(0, 4)).prop_map(apply),
        ]
    })
}

proptest! {
    #[test]
    fn any_expression_is_refused_or_evaluates(rule in any_rule(), c0 in any_rule(), e0 in any_rule()) {
        let cohorts = [("c0".into(), c0), ("c1".into(), Json::Bool(true))];
        match compile_json(&cohorts, vec![("e0".into(), e0)], &rule) {
            Ok(policy) => {
                let context = Context(json(r#"{"a": {"b": [1, "x", null]}, "0": [3, [4]]}"#));
                let value = policy.condition.evaluate(&policy.library, &context);
                prop_assert_eq!(policy.condition.holds(&policy.library, &context), value.is_truthy());
            }
            Err(found) => prop_assert!(!found.is_empty()),
        }
    }
}
