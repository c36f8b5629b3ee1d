//! Conditions: the first line is one, the rest is the context that it is evaluated for.

#![no_main]

use std::borrow::Cow;

use fuzz::{cut, timed};
use libfuzzer_sys::fuzz_target;
use mulkko::budget::Budget;
use mulkko::finding::{Findings, Path};
use mulkko::json::Json;
use mulkko::logic::{Compiler, Condition, Data, Library, Value, Var, Way};

fuzz_target!(|input: &[u8]| timed(|| {
    let (condition, context) = cut(input, b'\n');
    let Ok(condition) = serde_json::from_slice::<Json>(condition) else { return };
    let context = serde_json::from_slice::<Json>(context).unwrap_or(Json::Null);
    let [strict, when, targeting] = [Compiler::condition, Compiler::when, Compiler::targeting]
        .map(|compile| compiled(&condition, compile).map(|it| evaluated(&it, &context)));
    assert_eq!(
        strict,
        compiled(&condition, Compiler::condition).map(|it| evaluated(&it, &context)),
        "the same each time"
    );
    if strict.is_some() {
        assert_eq!(strict, when, "a condition is a `when` that asks for no flag");
        assert_eq!(strict, targeting, "and a targeting without what would be null");
    }
}));

type Compile = fn(&mut Compiler, &Json, &Path<'_>, &mut Findings) -> Option<Condition>;

/// The condition, with named expressions that it may refer to; `None` where something is refused.
fn compiled(condition: &Json, compile: Compile) -> Option<(Condition, Library)> {
    let parsed = |text: &str| serde_json::from_str::<Json>(text).expect("it is JSON");
    let mut compiler = Compiler::new(
        vec!["region".into(), "plan".into()],
        vec![
            ("e0".into(), parsed(r#"{"some": [{"var": "items"}, {"==": [{"var": ""}, {"var": "id"}]}]}"#)),
            ("e1".into(), condition.clone()),
        ],
        vec!["c0".into(), "c1".into()],
        mulkko::wire::Fractional::default(),
    );
    compiler.flag("f0", 0);
    let (root, mut findings) = (Path::Root, Findings::default());
    for (i, cohort) in [r#"{"in": [{"var": "region"}, ["eu", "us"]]}"#, r#"{"!": [{"cohort": "c0"}]}"#]
        .into_iter()
        .enumerate()
    {
        compiler.cohort(i, &parsed(cohort), &root.field("cohorts"), &mut findings);
    }
    let compiled = compile(&mut compiler, condition, &root.field("when"), &mut findings);
    assert_eq!(compiled.is_none(), !findings.as_slice().is_empty(), "refused with a reason, and only so");
    // What nothing uses is not compiled here: `e1` is the condition itself.
    let library = compiler.close(&mut findings);
    assert_eq!(compiled.is_none() || library.is_none(), !findings.as_slice().is_empty(), "{findings:?}");
    for finding in findings.as_slice() {
        assert!(!finding.to_string().contains('\n'), "{finding:?}");
    }
    Some((compiled?, library?))
}

/// The value, as it would be printed. It is the same each time, and true when the condition holds.
fn evaluated((condition, library): &(Condition, Library), context: &Json) -> String {
    let value = || {
        let context = Context { json: context, budget: Budget::default() };
        let value = condition.evaluate(library, &context);
        (format!("{value:?}"), value.is_truthy(), context.budget.is_exhausted())
    };
    let first = value();
    assert_eq!(first, value(), "the same each time");
    let (shown, is_truthy, is_exhausted) = first;
    let asked = Context { json: context, budget: Budget::default() };
    let holds = condition.holds(library, &asked);
    if !is_exhausted && !asked.budget.is_exhausted() {
        assert_eq!(holds, is_truthy, "{shown}");
    }
    shown
}

/// Everything is looked up in one JSON value.
struct Context<'c> {
    json: &'c Json,
    budget: Budget,
}

impl Data for Context<'_> {
    fn var<'s>(&'s self, var: &Var) -> Value<'s> {
        let all = Value::from(self.json);
        let of = |object: &str, name: &str| all.along(&Way::new(object)).along(&Way::new(name));
        match var {
            Var::Other(way) => all.along(way),
            Var::Attribute(i) => all.at(if *i == 0 { "region" } else { "plan" }),
            Var::TargetingKey => all.at("targetingKey"),
            Var::Method => all.at("method"),
            Var::Host => all.at("host"),
            Var::Path => all.at("path"),
            Var::Header(name) => of("headers", name),
            Var::Query(name) => of("query", name),
            Var::Cookie(name) => of("cookies", name),
            Var::ClientIp => all.at("ip"),
            Var::NodeId | Var::NodeRegion | Var::NodeZone => all.at("node"),
            Var::FlagKey => Value::Text(Cow::Borrowed("f1")),
            Var::Timestamp => Value::Number(1_795_348_800.0),
        }
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }

    fn flag(&self, _: u32) -> Value<'_> {
        Value::from("on")
    }
}
